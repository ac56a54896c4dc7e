//! The promqltest language: what a test file says.

use shoal_model::labels::{Labels, METRIC_NAME};
use shoal_promql::{ExprKind, MatchOp, STALE_BITS};

/// One sample of a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sample {
    Absent,
    Float(f64),
    /// A native histogram, whose content does not matter: cases with them are not run.
    Histogram,
}

/// A series as a file writes it.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) labels: Labels,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
pub(crate) enum Command {
    Clear,
    Load {
        gap_ms: i64,
        with_native: bool,
        series: Vec<Described>,
    },
    Eval(Case),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Instant(i64),
    Range {
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    },
}

/// What a message has to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Text {
    Any,
    Exactly(String),
    Like(String),
}

#[derive(Clone, Debug)]
pub(crate) enum Expectation {
    Fail(Text),
    Warn(Text),
    Info(Text),
    NoWarn,
    NoInfo,
    Ordered,
    String(String),
    RangeVector(When),
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) line: usize,
    pub(crate) when: When,
    pub(crate) query: String,
    pub(crate) expectations: Vec<Expectation>,
    pub(crate) scalar: Option<f64>,
    pub(crate) series: Vec<Described>,
    /// Whether a native histogram or start timestamp is expected or written in the query.
    pub(crate) is_native: bool,
}

/// Reads a file.
pub(crate) fn read(text: &str) -> Vec<Command> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .map(|line| if line.starts_with('#') { "" } else { line })
        .collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let block = lines[at + 1..].iter().take_while(|line| !line.is_empty());
        let block: Vec<&str> = block.copied().collect();
        if line.starts_with("load") {
            commands.push(load(line, &block));
            at += block.len();
        } else if line.starts_with("eval") {
            commands.push(Command::Eval(eval(line, &block, at + 1)));
            at += block.len();
        } else if line == "clear" {
            commands.push(Command::Clear);
        } else {
            assert!(line.is_empty(), "line {}: unknown command {line:?}", at + 1);
        }
        at += 1;
    }
    commands
}

fn load(line: &str, block: &[&str]) -> Command {
    let (command, gap) = line.split_once(' ').expect("load has a gap");
    // Lines with start timestamps are no series of their own.
    let series = block.iter().filter(|line| !has_start_times(line));
    Command::Load {
        gap_ms: duration_ms(gap.trim()),
        with_native: command == "load_with_nhcb",
        series: series.map(|line| described(line)).collect(),
    }
}

fn has_start_times(line: &str) -> bool {
    line.split_whitespace()
        .next()
        .is_some_and(|first| first.ends_with("@st"))
        || line.contains("}@st")
}

fn eval(line: &str, block: &[&str], number: usize) -> Case {
    let mut words = line.split_whitespace();
    let command = words.next().unwrap_or_default();
    let is_range = words.next() == Some("range");
    let mut expectations = match command {
        "eval_fail" => vec![Expectation::Fail(Text::Any)],
        "eval_ordered" => vec![Expectation::Ordered],
        _ => Vec::new(),
    };
    let rest = after_words(line, 2);
    let word = |n: usize| rest.split_whitespace().nth(n).unwrap_or_default();
    let (when, query) = match is_range {
        true => (
            When::Range {
                start_ms: duration_ms(word(1)),
                end_ms: duration_ms(word(3)),
                step_ms: duration_ms(word(5)),
            },
            after_words(rest, 6),
        ),
        false => (When::Instant(duration_ms(word(1))), after_words(rest, 2)),
    };
    let mut case = Case {
        line: number,
        when,
        query: query.to_owned(),
        expectations: Vec::new(),
        scalar: None,
        series: Vec::new(),
        is_native: false,
    };
    for line in block {
        if let Some(text) = line.strip_prefix("expect ") {
            expectations.push(expectation(text.trim()));
            continue;
        }
        case.is_native |= line.contains("{{");
        match line.parse::<f64>() {
            Ok(value) => case.scalar = Some(value),
            Err(_) => case.series.push(described(line)),
        }
    }
    case.expectations = expectations;
    case
}

fn after_words(text: &str, count: usize) -> &str {
    let mut rest = text.trim_start();
    for _ in 0..count {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        rest = rest[end..].trim_start();
    }
    rest
}

fn expectation(text: &str) -> Expectation {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    match kind {
        "fail" => Expectation::Fail(message(rest)),
        "warn" => Expectation::Warn(message(rest)),
        "info" => Expectation::Info(message(rest)),
        "no_warn" => Expectation::NoWarn,
        "no_info" => Expectation::NoInfo,
        "ordered" => Expectation::Ordered,
        "string" => {
            let expr = shoal_promql::parse(rest).expect("a string literal");
            let ExprKind::String(text) = expr.kind else {
                panic!("not a string: {rest}");
            };
            Expectation::String(text)
        }
        "range" => {
            let word = |n: usize| rest.split_whitespace().nth(n).unwrap_or_default();
            Expectation::RangeVector(When::Range {
                start_ms: duration_ms(word(2)),
                end_ms: duration_ms(word(4)),
                step_ms: duration_ms(word(6)),
            })
        }
        _ => panic!("unknown expectation {text:?}"),
    }
}

fn message(text: &str) -> Text {
    if let Some(exactly) = text.strip_prefix("msg:") {
        Text::Exactly(exactly.trim().to_owned())
    } else if let Some(like) = text.strip_prefix("regex:") {
        Text::Like(like.trim().to_owned())
    } else {
        Text::Any
    }
}

/// A duration, or a number of seconds.
pub(crate) fn duration_ms(text: &str) -> i64 {
    let expr = shoal_promql::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let ExprKind::Number(number) = expr.kind else {
        panic!("not a duration: {text:?}");
    };
    (number.value * 1000.0).round() as i64
}

/// `name{labels} values`
fn described(line: &str) -> Described {
    let end = metric_end(line);
    Described {
        labels: labels(line[..end].trim()),
        samples: samples(&line[end..]),
    }
}

fn metric_end(line: &str) -> usize {
    let mut quote = None;
    let mut is_escaped = false;
    let mut depth = 0;
    for (at, c) in line.char_indices() {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if c == '\\' => is_escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' | '`' => quote = Some(c),
                '{' => depth += 1,
                '}' if depth == 1 => return at + 1,
                c if c.is_whitespace() && depth == 0 => {
                    // A blank may stand between the name and the brace.
                    let rest = line[at..].trim_start();
                    if !rest.starts_with('{') || rest.starts_with("{{") {
                        return at;
                    }
                }
                _ => {}
            },
        }
    }
    line.len()
}

fn labels(text: &str) -> Labels {
    let inner: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if inner == "{}" {
        return Labels::default();
    }
    // A label that is empty says nothing, but a selector of nothing is none; the added one is taken away.
    let text = match text.find('{') {
        Some(at) => format!("{}{{__padding__=\"x\",{}", &text[..at], &text[at + 1..]),
        None => text.to_owned(),
    };
    let expr = shoal_promql::parse(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let ExprKind::Selector(selector) = expr.kind else {
        panic!("not a series: {text:?}");
    };
    let name = selector.name.iter().map(|name| (METRIC_NAME, &**name));
    let others = selector.matchers.iter().map(|matcher| {
        assert_eq!(matcher.op, MatchOp::Equal, "{text:?}");
        (&*matcher.name, &*matcher.value)
    });
    Labels::from_pairs(name.chain(others)).with("__padding__", "")
}

fn samples(text: &str) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = match rest.starts_with("{{") {
            true => histogram_end(rest),
            false => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        expand(&rest[..end], &mut samples);
        rest = rest[end..].trim_start();
    }
    samples
}

/// `{{…}}` with everything up to the next blank outside of braces.
fn histogram_end(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            c if c.is_whitespace() && depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// One item: `5`, `_x3`, `1+2x5`, `stale`, `{{…}}x3`.
fn expand(item: &str, samples: &mut Vec<Sample>) {
    let repeated = |text: &str| -> (String, Option<usize>) {
        match text.rsplit_once('x') {
            Some((before, count)) if count.parse::<usize>().is_ok() => {
                (before.to_owned(), count.parse().ok())
            }
            _ => (text.to_owned(), None),
        }
    };
    let (value, count) = repeated(item);
    if value == "_" {
        samples.extend(vec![Sample::Absent; count.unwrap_or(1)]);
        return;
    }
    let times = count.map_or(1, |count| count + 1);
    if value.starts_with("{{") {
        samples.extend(vec![Sample::Histogram; times]);
        return;
    }
    if value == "stale" {
        samples.extend(vec![Sample::Float(f64::from_bits(STALE_BITS)); times]);
        return;
    }
    if let Ok(value) = value.parse::<f64>() {
        samples.extend(vec![Sample::Float(value); times]);
        return;
    }
    // The sign of the increment: neither the first character nor that of an exponent.
    let bytes = value.as_bytes();
    let split = (1..bytes.len())
        .find(|at| matches!(bytes[*at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E'))
        .unwrap_or_else(|| panic!("not a sample: {item:?}"));
    let start: f64 = value[..split].parse().expect("a number");
    let increment: f64 = value[split..].parse().expect("a number");
    let mut value = start;
    for _ in 0..times {
        samples.push(Sample::Float(value));
        value += increment;
    }
}
