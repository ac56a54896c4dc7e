//! The tree of a query. Every expression and every duration carries its byte range; equality does not look at
//! it, so that two queries are equal when they say the same.

use shoal_model::labels::METRIC_NAME;

use crate::function::Function;
use crate::matcher::Matcher;
use crate::span::Span;

/// What an expression evaluates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number.
    Scalar,
    /// Series with one sample each.
    Vector,
    /// Series with the samples of a window each.
    Matrix,
    /// Text.
    String,
}

impl ValueType {
    /// As Prometheus' messages call it.
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}

/// An expression that [`crate::parse`] has accepted: its types fit, and it is at most
/// [`crate::DEPTH_MAX`] levels deep.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
    /// Levels of expressions, itself included.
    pub(crate) depth: usize,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Expr) -> bool {
        self.kind == other.kind
    }
}

/// The kinds of expressions.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// A number or, as seconds, a duration.
    Number(Number),
    /// Text.
    String(String),
    /// `up{job="api"} offset 5m`
    Selector(Box<Selector>),
    /// `up{job="api"}[5m] offset 5m`; the selector holds what stands behind the bracket.
    Matrix(Box<Selector>, Box<Duration>),
    /// `expr[1h:1m] offset 5m`
    Subquery(Box<Subquery>),
    /// `-expr`
    Unary(UnaryOp, Box<Expr>),
    /// `lhs + on (job) rhs`
    Binary(Box<Binary>),
    /// `rate(expr)`
    Call(Function, Vec<Expr>),
    /// `sum by (job) (expr)`
    Aggregate(Box<Aggregate>),
    /// `(expr)`
    Paren(Box<Expr>),
}

/// A number as it was written. Two NaN are equal.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// Its value; of a duration the seconds.
    pub value: f64,
    /// Whether it was written as a duration.
    pub is_duration: bool,
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.is_duration == other.is_duration
            && (self.value == other.value || (self.value.is_nan() && other.value.is_nan()))
    }
}

/// Chooses series, and the times to look at them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// The metric name, when it was written as one.
    pub name: Option<String>,
    /// The conditions in braces; a metric name given there as `__name__="up"` is among them.
    pub matchers: Vec<Matcher>,
    /// How far back from the evaluation time.
    pub offset: Option<Duration>,
    /// The time to look at instead of the evaluation time.
    pub at: Option<At>,
    /// How values at the bounds of a window come about.
    pub bounds: Option<Bounds>,
}

impl Selector {
    /// All conditions, the metric name's among them.
    pub fn conditions(&self) -> Vec<Matcher> {
        let name = self.name.iter();
        name.map(|name| Matcher::equal(METRIC_NAME, name))
            .chain(self.matchers.iter().cloned())
            .collect()
    }
}

/// How values at the bounds of a window come about, when not by extrapolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// The last sample at or before the bound stands there.
    Anchored,
    /// A value between the samples around the bound stands there.
    Smoothed,
}

impl Bounds {
    /// As PromQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Bounds::Anchored => "anchored",
            Bounds::Smoothed => "smoothed",
        }
    }
}

/// The time of an `@`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    /// Milliseconds since the epoch.
    Time(i64),
    /// The start of the query.
    Start,
    /// The end of the query.
    End,
}

/// Evaluates an expression at the steps of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// What to evaluate.
    pub expr: Box<Expr>,
    /// The length of the window.
    pub range: Duration,
    /// The time between evaluations; the query's default when absent.
    pub step: Option<Duration>,
    /// How far back from the evaluation time.
    pub offset: Option<Duration>,
    /// The time to look at instead of the evaluation time.
    pub at: Option<At>,
}

/// A length of time, in seconds once it is computed.
#[derive(Clone, Debug)]
pub struct Duration {
    /// What it is.
    pub kind: DurationKind,
    /// Where it stands.
    pub span: Span,
    /// Levels of durations, itself included.
    pub(crate) depth: usize,
}

impl PartialEq for Duration {
    fn eq(&self, other: &Duration) -> bool {
        self.kind == other.kind
    }
}

/// The kinds of durations.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    /// A number or duration.
    Literal(Number),
    /// `step()`, the step of the query.
    Step,
    /// `range()`, the time from the query's start to its end.
    Range,
    /// `-duration`
    Unary(UnaryOp, Box<Duration>),
    /// `duration * 2`; arithmetic operators only.
    Binary(BinaryOp, Box<Duration>, Box<Duration>),
    /// `min_of(a, b)`
    MinOf(Box<Duration>, Box<Duration>),
    /// `max_of(a, b)`
    MaxOf(Box<Duration>, Box<Duration>),
    /// `(duration)`
    Paren(Box<Duration>),
}

/// A sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

/// An operator between two expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the operators'")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    TrimUpper,
    TrimLower,
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// As PromQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterOrEqual => ">=",
            BinaryOp::Less => "<",
            BinaryOp::LessOrEqual => "<=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }

    /// How strongly it binds; more is stronger.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And | BinaryOp::Unless => 2,
            _ if self.is_comparison() => 3,
            BinaryOp::Add | BinaryOp::Sub => 4,
            BinaryOp::Pow => 6,
            _ => 5,
        }
    }

    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            BinaryOp::Equal
                | BinaryOp::NotEqual
                | BinaryOp::Greater
                | BinaryOp::GreaterOrEqual
                | BinaryOp::Less
                | BinaryOp::LessOrEqual
        )
    }

    /// Whether it cuts native histograms; with numbers it gives nothing.
    pub fn is_trim(self) -> bool {
        matches!(self, BinaryOp::TrimUpper | BinaryOp::TrimLower)
    }

    /// Whether it works on sets of series instead of values.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// Two expressions and the operator between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Whether a comparison gives 0 or 1 instead of filtering.
    pub is_bool: bool,
    /// Which series belong together, when both sides are vectors.
    pub matching: Matching,
    /// The left side.
    pub lhs: Box<Expr>,
    /// The right side.
    pub rhs: Box<Expr>,
}

/// Which series of two vectors belong together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matching {
    /// `on` or `ignoring`; `None` compares all labels but the name.
    pub labels: Option<MatchingLabels>,
    /// Which side may have many series for one of the other.
    pub group: Option<Group>,
    /// What stands in for series missing on the left.
    pub fill_left: Option<Number>,
    /// What stands in for series missing on the right.
    pub fill_right: Option<Number>,
}

/// The labels that decide.
#[derive(Clone, Debug, PartialEq)]
pub enum MatchingLabels {
    /// Only these.
    On(Vec<String>),
    /// All but these.
    Ignoring(Vec<String>),
}

/// The side with many series for one of the other, and the labels that it takes over.
#[derive(Clone, Debug, PartialEq)]
pub enum Group {
    /// `group_left`: many on the left.
    Left(Vec<String>),
    /// `group_right`: many on the right.
    Right(Vec<String>),
}

/// An operator that makes one series of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the operators'")]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Limitk,
    LimitRatio,
    Quantile,
    CountValues,
}

impl AggregateOp {
    /// All of them.
    pub const ALL: [AggregateOp; 14] = [
        AggregateOp::Sum,
        AggregateOp::Avg,
        AggregateOp::Min,
        AggregateOp::Max,
        AggregateOp::Count,
        AggregateOp::Group,
        AggregateOp::Stddev,
        AggregateOp::Stdvar,
        AggregateOp::Topk,
        AggregateOp::Bottomk,
        AggregateOp::Limitk,
        AggregateOp::LimitRatio,
        AggregateOp::Quantile,
        AggregateOp::CountValues,
    ];

    /// As PromQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Count => "count",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
            AggregateOp::Quantile => "quantile",
            AggregateOp::CountValues => "count_values",
        }
    }

    /// The operator of this name, in upper or lower case.
    pub fn from_name(name: &str) -> Option<AggregateOp> {
        let mut all = AggregateOp::ALL.into_iter();
        all.find(|op| op.as_str().eq_ignore_ascii_case(name))
    }

    /// What its parameter has to be; `None` when it takes none.
    pub fn parameter(self) -> Option<ValueType> {
        match self {
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio
            | AggregateOp::Quantile => Some(ValueType::Scalar),
            AggregateOp::CountValues => Some(ValueType::String),
            _ => None,
        }
    }
}

/// `op by (labels) (parameter, expr)`
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// The operator's parameter, such as the `k` of `topk`.
    pub parameter: Option<Box<Expr>>,
    /// What to aggregate.
    pub expr: Box<Expr>,
    /// Which series become one.
    pub grouping: Grouping,
}

/// Which series become one.
#[derive(Clone, Debug, PartialEq)]
pub enum Grouping {
    /// Those that agree in these labels, which alone stay.
    By(Vec<String>),
    /// Those that agree in all labels but these.
    Without(Vec<String>),
}

impl Expr {
    /// What it evaluates to.
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::Selector(_) | ExprKind::Aggregate(_) => ValueType::Vector,
            ExprKind::Matrix(..) | ExprKind::Subquery(_) => ValueType::Matrix,
            ExprKind::Unary(_, expr) | ExprKind::Paren(expr) => expr.value_type(),
            ExprKind::Call(function, _) => function.signature().result,
            ExprKind::Binary(binary) => {
                let sides = (binary.lhs.value_type(), binary.rhs.value_type());
                match sides {
                    (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                    _ => ValueType::Vector,
                }
            }
        }
    }

    /// Whether it can be evaluated over a range of time: whether it is a scalar or an instant vector.
    pub fn can_be_ranged(&self) -> bool {
        matches!(self.value_type(), ValueType::Scalar | ValueType::Vector)
    }

    /// The expression inside of all parentheses around it.
    pub fn without_parens(&self) -> &Expr {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }
}
