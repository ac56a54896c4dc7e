//! Conditions on labels, checked and compiled when the query is parsed.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// As PromQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }

    /// Whether it is satisfied by what does not compare.
    pub fn is_negative(self) -> bool {
        matches!(self, MatchOp::NotEqual | MatchOp::NotRegex)
    }
}

/// A condition on one label. An absent label has the value `""`. A regular expression has to match the whole
/// value, and its `.` matches line ends too. Unlike in Prometheus, `\d`, `\w` and `\s` know all of Unicode, and a brace
/// that is meant literally has to be escaped.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label's name; `__name__` for the metric name.
    pub name: String,
    /// How it compares.
    pub op: MatchOp,
    /// What it compares with: a value, or a regular expression that [`Matcher::new`] has accepted.
    pub value: String,
    regex: Option<Regex>,
}

/// Compiled size of one expression, in bytes: what `a{1000}` nested once needs. A larger one is refused.
pub const REGEX_MAX_BYTES: usize = 1 << 20;

/// A regular expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a regular expression that can be used: {reason}")]
pub struct InvalidRegex {
    /// The expression, at most its first 200 characters.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Matcher {
    /// A matcher of any sort.
    ///
    /// # Errors
    /// When the op is a regular expression's and the value is none, or needs more than [`REGEX_MAX_BYTES`].
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Matcher, InvalidRegex> {
        let value = value.into();
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(anchored_regex(&value)?),
        };
        Ok(Matcher {
            name: name.into(),
            op,
            value,
            regex,
        })
    }

    /// `name="value"`
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher {
            name: name.into(),
            op: MatchOp::Equal,
            value: value.into(),
            regex: None,
        }
    }

    /// Whether a label value satisfies the condition; `""` stands for an absent label.
    pub fn matches(&self, value: &str) -> bool {
        let is_like = match &self.regex {
            None => self.value == value,
            Some(regex) => regex.is_match(value),
        };
        is_like != self.op.is_negative()
    }
}

/// Compiles an expression that has to match a whole value.
pub(crate) fn anchored_regex(pattern: &str) -> Result<Regex, InvalidRegex> {
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(REGEX_MAX_BYTES)
            .build()
            .map_err(|error| InvalidRegex {
                pattern: pattern.chars().take(200).collect(),
                reason: error.to_string(),
            })
    };
    // Alone first: `a)(b` must not become valid by being wrapped.
    build(pattern)?;
    build(&format!("^(?s:{pattern})$"))
}

/// Two matchers are equal when they say the same.
impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

/// As PromQL writes it: `job=~"api|web"`.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::display::write_label_name(f, &self.name)?;
        f.write_str(self.op.as_str())?;
        crate::display::write_string(f, &self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(op: MatchOp, pattern: &str, matching: &[&str], other: &[&str]) {
        let matcher = Matcher::new("job", op, pattern).expect("a good pattern");
        for value in matching {
            assert!(matcher.matches(value), "{matcher} should match {value:?}");
        }
        for value in other {
            assert!(
                !matcher.matches(value),
                "{matcher} should not match {value:?}"
            );
        }
    }

    #[test]
    fn matchers_follow_prometheus() {
        check(MatchOp::Equal, "", &[""], &["api"]);
        check(MatchOp::NotEqual, "api", &["", "web"], &["api"]);
        check(MatchOp::Regex, "a.*", &["a", "a\nb"], &["", "ba"]);
        check(MatchOp::Regex, "a|b", &["a", "b"], &["ab", "aa"]);
        check(MatchOp::NotRegex, ".+", &[""], &["x"]);
    }

    #[test]
    fn an_expression_that_is_wrong_or_too_large_is_named() {
        for pattern in ["(", "a)(b", "a{100000}{100000}"] {
            let error = Matcher::new("job", MatchOp::Regex, pattern).expect_err("bad");
            assert_eq!(error.pattern, pattern);
        }
    }
}
