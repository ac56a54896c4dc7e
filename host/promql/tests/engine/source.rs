//! A source in memory.

use std::cell::RefCell;

use shoal_model::labels::Labels;
use shoal_promql::{
    Answer, EvalError, Limits, Matcher, Query, SeriesData, SeriesSource, SourceError, Value,
    evaluate, parse,
};

#[derive(Default, Debug)]
pub(crate) struct Memory {
    pub(crate) series: Vec<SeriesData>,
    /// The ranges that were asked for.
    pub(crate) asked: RefCell<Vec<(i64, i64)>>,
}

impl Memory {
    /// Series given as a selector and samples: seconds and values.
    pub(crate) fn of(series: &[(&str, &[(i64, f64)])]) -> Memory {
        let data = series.iter().map(|(name, samples)| SeriesData {
            labels: labels(name),
            times_ms: samples.iter().map(|(seconds, _)| seconds * 1000).collect(),
            values: samples.iter().map(|(_, value)| *value).collect(),
        });
        Memory {
            series: data.collect(),
            asked: RefCell::default(),
        }
    }

    pub(crate) fn instant(&self, text: &str, seconds: i64) -> Result<Answer, EvalError> {
        let query = Query::instant(parse(text).expect("parses"), seconds * 1000);
        evaluate(&query, self, &Limits::default())
    }

    pub(crate) fn range(
        &self,
        text: &str,
        from: i64,
        to: i64,
        step: i64,
    ) -> Result<Answer, EvalError> {
        let expr = parse(text).expect("parses");
        let query = Query::range(expr, from * 1000, to * 1000, step * 1000);
        evaluate(&query, self, &Limits::default())
    }

    /// An instant vector as text, sorted.
    pub(crate) fn shown(&self, text: &str, seconds: i64) -> Vec<String> {
        let answer = self.instant(text, seconds).expect("an answer");
        let Value::Vector(samples) = answer.value else {
            panic!("{text} is no vector: {:?}", answer.value);
        };
        let mut shown: Vec<String> = samples
            .iter()
            .map(|sample| format!("{} {}", sample.labels, sample.point.value))
            .collect();
        shown.sort();
        shown
    }
}

/// The labels of a series written as a selector.
pub(crate) fn labels(text: &str) -> Labels {
    let expr = parse(text).expect("a selector");
    let shoal_promql::ExprKind::Selector(selector) = expr.kind else {
        panic!("{text} is no selector");
    };
    let conditions = selector.conditions();
    Labels::from_pairs(conditions.iter().map(|one| (&one.name, &one.value)))
}

impl SeriesSource for Memory {
    fn select(
        &self,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<SeriesData>, SourceError> {
        self.asked.borrow_mut().push((from_ms, to_ms));
        let is_match = |one: &&SeriesData| {
            let value = |matcher: &Matcher| one.labels.get(&matcher.name).unwrap_or_default();
            matchers
                .iter()
                .all(|matcher| matcher.matches(value(matcher)))
        };
        let found = self.series.iter().filter(is_match).map(|one| {
            let from = one.times_ms.partition_point(|time| *time < from_ms);
            let to = one
                .times_ms
                .partition_point(|time| *time <= to_ms)
                .max(from);
            SeriesData {
                labels: one.labels.clone(),
                times_ms: one.times_ms[from..to].to_vec(),
                values: one.values[from..to].to_vec(),
            }
        });
        Ok(found.collect())
    }
}
