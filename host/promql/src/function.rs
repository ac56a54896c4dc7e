//! The functions: their names, and the types of their arguments and results. A new one is a line here and an arm in
//! `functions`.

use crate::ast::ValueType;

/// What a function takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The types of its arguments; the last one may repeat, see `most`.
    pub args: &'static [ValueType],
    /// The least number of arguments.
    pub least: usize,
    /// The largest number of arguments.
    pub most: usize,
    /// What it gives.
    pub result: ValueType,
}

macro_rules! functions {
    ($($variant:ident $name:literal ($($arg:ident),*) $least:literal..=$most:expr => $result:ident;)*) => {
        /// A function.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names are the functions'")]
        pub enum Function { $($variant),* }

        impl Function {
            /// All of them, sorted by name.
            pub const ALL: &'static [Function] = &[$(Function::$variant),*];

            /// As PromQL writes it.
            pub fn name(self) -> &'static str {
                match self { $(Function::$variant => $name),* }
            }

            /// What it takes and gives.
            pub fn signature(self) -> Signature {
                match self {
                    $(Function::$variant => Signature {
                        args: &[$(ValueType::$arg),*],
                        least: $least,
                        most: $most,
                        result: ValueType::$result,
                    }),*
                }
            }
        }
    };
}

/// As many arguments as the query's length allows.
const MANY: usize = usize::MAX;

functions! {
    Abs "abs" (Vector) 1..=1 => Vector;
    Absent "absent" (Vector) 1..=1 => Vector;
    AbsentOverTime "absent_over_time" (Matrix) 1..=1 => Vector;
    Acos "acos" (Vector) 1..=1 => Vector;
    Acosh "acosh" (Vector) 1..=1 => Vector;
    Asin "asin" (Vector) 1..=1 => Vector;
    Asinh "asinh" (Vector) 1..=1 => Vector;
    Atan "atan" (Vector) 1..=1 => Vector;
    Atanh "atanh" (Vector) 1..=1 => Vector;
    AvgOverTime "avg_over_time" (Matrix) 1..=1 => Vector;
    Ceil "ceil" (Vector) 1..=1 => Vector;
    Changes "changes" (Matrix) 1..=1 => Vector;
    Clamp "clamp" (Vector, Scalar, Scalar) 3..=3 => Vector;
    ClampMax "clamp_max" (Vector, Scalar) 2..=2 => Vector;
    ClampMin "clamp_min" (Vector, Scalar) 2..=2 => Vector;
    Cos "cos" (Vector) 1..=1 => Vector;
    Cosh "cosh" (Vector) 1..=1 => Vector;
    CountOverTime "count_over_time" (Matrix) 1..=1 => Vector;
    DayOfMonth "day_of_month" (Vector) 0..=1 => Vector;
    DayOfWeek "day_of_week" (Vector) 0..=1 => Vector;
    DayOfYear "day_of_year" (Vector) 0..=1 => Vector;
    DaysInMonth "days_in_month" (Vector) 0..=1 => Vector;
    Deg "deg" (Vector) 1..=1 => Vector;
    Delta "delta" (Matrix) 1..=1 => Vector;
    Deriv "deriv" (Matrix) 1..=1 => Vector;
    DoubleExponentialSmoothing "double_exponential_smoothing" (Matrix, Scalar, Scalar) 3..=3 => Vector;
    End "end" () 0..=0 => Scalar;
    Exp "exp" (Vector) 1..=1 => Vector;
    FirstOverTime "first_over_time" (Matrix) 1..=1 => Vector;
    Floor "floor" (Vector) 1..=1 => Vector;
    HistogramAvg "histogram_avg" (Vector) 1..=1 => Vector;
    HistogramCount "histogram_count" (Vector) 1..=1 => Vector;
    HistogramFraction "histogram_fraction" (Scalar, Scalar, Vector) 3..=3 => Vector;
    HistogramQuantile "histogram_quantile" (Scalar, Vector) 2..=2 => Vector;
    HistogramQuantiles "histogram_quantiles" (Vector, String, Scalar) 3..=12 => Vector;
    HistogramStddev "histogram_stddev" (Vector) 1..=1 => Vector;
    HistogramStdvar "histogram_stdvar" (Vector) 1..=1 => Vector;
    HistogramSum "histogram_sum" (Vector) 1..=1 => Vector;
    Hour "hour" (Vector) 0..=1 => Vector;
    Idelta "idelta" (Matrix) 1..=1 => Vector;
    Increase "increase" (Matrix) 1..=1 => Vector;
    Info "info" (Vector, Vector) 1..=2 => Vector;
    Irate "irate" (Matrix) 1..=1 => Vector;
    LabelJoin "label_join" (Vector, String, String, String) 3..=MANY => Vector;
    LabelReplace "label_replace" (Vector, String, String, String, String) 5..=5 => Vector;
    LastOverTime "last_over_time" (Matrix) 1..=1 => Vector;
    Ln "ln" (Vector) 1..=1 => Vector;
    Log10 "log10" (Vector) 1..=1 => Vector;
    Log2 "log2" (Vector) 1..=1 => Vector;
    MadOverTime "mad_over_time" (Matrix) 1..=1 => Vector;
    MaxOf "max_of" (Scalar, Scalar) 2..=2 => Scalar;
    MaxOverTime "max_over_time" (Matrix) 1..=1 => Vector;
    MinOf "min_of" (Scalar, Scalar) 2..=2 => Scalar;
    MinOverTime "min_over_time" (Matrix) 1..=1 => Vector;
    Minute "minute" (Vector) 0..=1 => Vector;
    Month "month" (Vector) 0..=1 => Vector;
    Pi "pi" () 0..=0 => Scalar;
    PredictLinear "predict_linear" (Matrix, Scalar) 2..=2 => Vector;
    PresentOverTime "present_over_time" (Matrix) 1..=1 => Vector;
    QuantileOverTime "quantile_over_time" (Scalar, Matrix) 2..=2 => Vector;
    Rad "rad" (Vector) 1..=1 => Vector;
    Range "range" () 0..=0 => Scalar;
    Rate "rate" (Matrix) 1..=1 => Vector;
    Resets "resets" (Matrix) 1..=1 => Vector;
    Round "round" (Vector, Scalar) 1..=2 => Vector;
    Scalar "scalar" (Vector) 1..=1 => Scalar;
    Sgn "sgn" (Vector) 1..=1 => Vector;
    Sin "sin" (Vector) 1..=1 => Vector;
    Sinh "sinh" (Vector) 1..=1 => Vector;
    Sort "sort" (Vector) 1..=1 => Vector;
    SortByLabel "sort_by_label" (Vector, String) 1..=MANY => Vector;
    SortByLabelDesc "sort_by_label_desc" (Vector, String) 1..=MANY => Vector;
    SortDesc "sort_desc" (Vector) 1..=1 => Vector;
    Sqrt "sqrt" (Vector) 1..=1 => Vector;
    Start "start" () 0..=0 => Scalar;
    StddevOverTime "stddev_over_time" (Matrix) 1..=1 => Vector;
    StdvarOverTime "stdvar_over_time" (Matrix) 1..=1 => Vector;
    Step "step" () 0..=0 => Scalar;
    SumOverTime "sum_over_time" (Matrix) 1..=1 => Vector;
    Tan "tan" (Vector) 1..=1 => Vector;
    Tanh "tanh" (Vector) 1..=1 => Vector;
    Time "time" () 0..=0 => Scalar;
    Timestamp "timestamp" (Vector) 1..=1 => Vector;
    TsOfFirstOverTime "ts_of_first_over_time" (Matrix) 1..=1 => Vector;
    TsOfLastOverTime "ts_of_last_over_time" (Matrix) 1..=1 => Vector;
    TsOfMaxOverTime "ts_of_max_over_time" (Matrix) 1..=1 => Vector;
    TsOfMinOverTime "ts_of_min_over_time" (Matrix) 1..=1 => Vector;
    Vector "vector" (Scalar) 1..=1 => Vector;
    Year "year" (Vector) 0..=1 => Vector;
}

impl Function {
    /// The function of this name. Names are in lower case.
    pub fn from_name(name: &str) -> Option<Function> {
        let found = Function::ALL.binary_search_by(|function| function.name().cmp(name));
        Some(Function::ALL[found.ok()?])
    }

    /// What its argument at `index` has to be.
    pub(crate) fn argument(self, index: usize) -> Option<ValueType> {
        let args = self.signature().args;
        args.get(index).or(args.last()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted_by_name_and_found_by_it() {
        assert!(Function::ALL.is_sorted_by(|a, b| a.name() < b.name()));
        for function in Function::ALL {
            assert_eq!(Function::from_name(function.name()), Some(*function));
        }
        assert_eq!(Function::from_name("RATE"), None);
    }
}
