//! Writes a tree as PromQL that parses to the same tree.

use std::fmt::{self, Display, Formatter, Write};

use crate::ast::{
    Aggregate, At, Binary, Duration, DurationKind, Expr, ExprKind, Group, Grouping, Matching,
    MatchingLabels, Number, Selector, Subquery, UnaryOp,
};
use crate::literal::format_duration;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => number.fmt(f),
            ExprKind::String(text) => write_string(f, text),
            ExprKind::Selector(selector) => write_selector(f, selector, None),
            ExprKind::Matrix(selector, range) => write_selector(f, selector, Some(range)),
            ExprKind::Subquery(subquery) => subquery.fmt(f),
            ExprKind::Unary(op, expr) => write!(f, "{}{expr}", sign(*op)),
            ExprKind::Binary(binary) => binary.fmt(f),
            ExprKind::Call(function, args) => {
                write!(f, "{}(", function.name())?;
                write_list(f, args)?;
                f.write_char(')')
            }
            ExprKind::Aggregate(aggregate) => aggregate.fmt(f),
            ExprKind::Paren(expr) => write!(f, "({expr})"),
        }
    }
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_duration {
            return f.write_str(&format_duration((self.value * 1000.0).round() as i64));
        }
        // A literal has no sign of its own.
        f.write_str(format_number(self.value).trim_start_matches('+'))
    }
}

/// Writes a value as Prometheus' labels and interfaces do: `+Inf`, `-Inf`, `NaN`, else the shortest decimal without
/// exponent that reads the same.
pub fn format_number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

fn write_selector(
    f: &mut Formatter<'_>,
    selector: &Selector,
    range: Option<&Duration>,
) -> fmt::Result {
    let plain_name = selector.name.as_deref().filter(|name| is_metric_name(name));
    f.write_str(plain_name.unwrap_or_default())?;
    let quoted_name = selector.name.as_deref().filter(|_| plain_name.is_none());
    if quoted_name.is_some() || !selector.matchers.is_empty() || selector.name.is_none() {
        f.write_char('{')?;
        if let Some(name) = quoted_name {
            write_string(f, name)?;
            if !selector.matchers.is_empty() {
                f.write_str(", ")?;
            }
        }
        write_list(f, &selector.matchers)?;
        f.write_char('}')?;
    }
    if let Some(range) = range {
        write!(f, "[{range}]")?;
    }
    if let Some(bounds) = selector.bounds {
        write!(f, " {}", bounds.as_str())?;
    }
    write_times(f, selector.at, selector.offset.as_ref())
}

fn write_times(f: &mut Formatter<'_>, at: Option<At>, offset: Option<&Duration>) -> fmt::Result {
    match at {
        None => {}
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        Some(At::Time(time)) => {
            let sign = if time < 0 { "-" } else { "" };
            let time = time.unsigned_abs();
            write!(f, " @ {sign}{}.{:03}", time / 1000, time % 1000)?;
        }
    }
    match offset {
        None => Ok(()),
        Some(offset) => write!(f, " offset {offset}"),
    }
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}:", self.expr, self.range)?;
        if let Some(step) = &self.step {
            step.fmt(f)?;
        }
        f.write_char(']')?;
        write_times(f, self.at, self.offset.as_ref())
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationKind::Literal(number) => number.fmt(f),
            DurationKind::Step => f.write_str("step()"),
            DurationKind::Range => f.write_str("range()"),
            DurationKind::Unary(op, inner) => write!(f, "{}{inner}", sign(*op)),
            DurationKind::Binary(op, lhs, rhs) => write!(f, "{lhs} {} {rhs}", op.as_str()),
            DurationKind::MinOf(lhs, rhs) => write!(f, "min_of({lhs}, {rhs})"),
            DurationKind::MaxOf(lhs, rhs) => write!(f, "max_of({lhs}, {rhs})"),
            DurationKind::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.lhs, self.op.as_str())?;
        if self.is_bool {
            f.write_str(" bool")?;
        }
        write!(f, "{} {}", self.matching, self.rhs)
    }
}

impl Display for Matching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.labels {
            None => {}
            Some(MatchingLabels::On(names)) => write_names(f, " on ", names)?,
            Some(MatchingLabels::Ignoring(names)) => write_names(f, " ignoring ", names)?,
        }
        match &self.group {
            None => {}
            Some(Group::Left(names)) => write_names(f, " group_left ", names)?,
            Some(Group::Right(names)) => write_names(f, " group_right ", names)?,
        }
        if let Some(fill) = &self.fill_left {
            write!(f, " fill_left ({fill})")?;
        }
        if let Some(fill) = &self.fill_right {
            write!(f, " fill_right ({fill})")?;
        }
        Ok(())
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        match &self.grouping {
            Grouping::By(names) if names.is_empty() => f.write_char(' ')?,
            Grouping::By(names) => write_names(f, " by ", names)?,
            Grouping::Without(names) => write_names(f, " without ", names)?,
        }
        f.write_str(" (")?;
        if let Some(parameter) = &self.parameter {
            write!(f, "{parameter}, ")?;
        }
        write!(f, "{})", self.expr)
    }
}

fn sign(op: UnaryOp) -> char {
    match op {
        UnaryOp::Plus => '+',
        UnaryOp::Minus => '-',
    }
}

fn write_list<T: Display>(f: &mut Formatter<'_>, items: &[T]) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(f, "{comma}{item}")?;
    }
    Ok(())
}

fn write_names(f: &mut Formatter<'_>, before: &str, names: &[String]) -> fmt::Result {
    write!(f, "{before}(")?;
    for (at, name) in names.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { ", " })?;
        write_label_name(f, name)?;
    }
    f.write_char(')')
}

/// Writes a label name, in quotes when it needs them.
pub(crate) fn write_label_name(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    if is_label_name(name) {
        f.write_str(name)
    } else {
        write_string(f, name)
    }
}

/// Writes text in double quotes with the escapes that the lexer reads.
pub(crate) fn write_string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() => write!(f, "\\U{:08x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// Whether a label name needs no quotes.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !is_number_word(name)
}

/// Whether a metric name needs no quotes wherever an expression may stand.
fn is_metric_name(name: &str) -> bool {
    const RESERVED: [&str; 6] = [
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
        "atan2",
    ];
    let plain: String = name.chars().filter(|c| *c != ':').collect();
    (name.starts_with(':') || !name.starts_with(|c: char| c.is_ascii_digit()))
        && (plain.is_empty()
            || plain
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        && !name.is_empty()
        && !is_number_word(name)
        && !RESERVED.iter().any(|word| word.eq_ignore_ascii_case(name))
}

fn is_number_word(name: &str) -> bool {
    name.eq_ignore_ascii_case("inf") || name.eq_ignore_ascii_case("nan")
}
