//! Conditions on labels, with Prometheus' semantics.

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
}

/// A condition on one label. An absent label has the value `""`; a regular expression has to match the whole value,
/// and its `.` matches line ends too.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Literal,
    Regex(Regex),
}

/// Compiled size of one expression, in bytes. As much as `a{1000}` nested once needs; beyond it the matcher is refused.
const REGEX_MAX_BYTES: usize = 1 << 20;

/// A regular expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a regular expression that can be used: {reason}")]
pub struct InvalidMatcher {
    /// The expression.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Matcher {
    /// A matcher of any sort.
    ///
    /// # Errors
    /// When the op is a regular expression's and the value is none, or needs more than 1 MiB.
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Matcher, InvalidMatcher> {
        let (name, value) = (name.into(), value.into());
        let test = match op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Literal,
            // Most expressions in dashboards are plain text: a variable with one value.
            MatchOp::Regex | MatchOp::NotRegex if regex::escape(&value) == value => Test::Literal,
            MatchOp::Regex | MatchOp::NotRegex => Test::Regex(compile(&value)?),
        };
        Ok(Matcher {
            name,
            op,
            value,
            test,
        })
    }

    /// `name="value"`
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher {
            name: name.into(),
            op: MatchOp::Equal,
            value: value.into(),
            test: Test::Literal,
        }
    }

    /// `name!="value"`
    pub fn not_equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher {
            op: MatchOp::NotEqual,
            ..Matcher::equal(name, value)
        }
    }

    /// The label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// What it compares with.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label value satisfies the condition; `""` stands for an absent label.
    pub fn matches(&self, value: &str) -> bool {
        self.is_like(value) != self.is_negative()
    }

    /// Whether series without the label satisfy the condition.
    pub fn matches_absent(&self) -> bool {
        self.matches("")
    }

    /// The one value that can satisfy the condition, if there is only one.
    pub(crate) fn only_value(&self) -> Option<&str> {
        (matches!(self.test, Test::Literal) && !self.is_negative()).then_some(&*self.value)
    }

    /// The one value that cannot satisfy the condition, if there is only one.
    pub(crate) fn only_excluded(&self) -> Option<&str> {
        (matches!(self.test, Test::Literal) && self.is_negative()).then_some(&*self.value)
    }

    fn is_negative(&self) -> bool {
        matches!(self.op, MatchOp::NotEqual | MatchOp::NotRegex)
    }

    fn is_like(&self, value: &str) -> bool {
        match &self.test {
            Test::Literal => *self.value == *value,
            Test::Regex(regex) => regex.is_match(value),
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, InvalidMatcher> {
    // Alone first: `a)(b` must not become valid by being wrapped.
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(REGEX_MAX_BYTES)
            .build()
            .map_err(|error| InvalidMatcher {
                pattern: pattern.chars().take(200).collect(),
                reason: error.to_string(),
            })
    };
    build(pattern)?;
    build(&format!("^(?s:{pattern})$"))
}

/// As PromQL writes it: `job=~"api|web"`.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
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
        check(MatchOp::Equal, "api", &["api"], &["", "apis"]);
        check(MatchOp::Equal, "", &[""], &["api"]);
        check(MatchOp::NotEqual, "api", &["", "web"], &["api"]);
        check(MatchOp::NotEqual, "", &["web"], &[""]);
        check(MatchOp::Regex, "a.*", &["a", "api", "a\nb"], &["", "ba"]);
        check(MatchOp::Regex, "a|b", &["a", "b"], &["ab", "ba", "aa"]);
        check(MatchOp::Regex, ".*", &["", "x"], &[]);
        check(MatchOp::Regex, "api", &["api"], &["apis", "(api)"]);
        check(MatchOp::Regex, "", &[""], &["x"]);
        check(MatchOp::NotRegex, "a.+", &["", "a", "b"], &["ab"]);
        check(MatchOp::NotRegex, ".+", &[""], &["x"]);
    }

    #[test]
    fn a_bad_expression_is_named() {
        for pattern in ["(", "a)(b", "a{100000}{100000}"] {
            let error = Matcher::new("job", MatchOp::Regex, pattern).expect_err("bad");
            assert_eq!(error.pattern, pattern);
        }
    }
}
