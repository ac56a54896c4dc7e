//! What functions do. Each family has a file; this one hands a call to its family.

use crate::ast::Expr;
use crate::eval::{Evaluator, Grid, Output, Series};
use crate::function::Function;
use crate::query::EvalError;

mod absent;
mod bounded;
mod histogram;
mod info;
mod label;
mod math;
mod natural;
pub(crate) mod over_time;
mod rate;
mod regression;
mod sort;
pub(crate) mod sum;
mod time;

/// Evaluates a call. The parser has checked the number and the types of its arguments.
pub(crate) fn call(
    evaluator: &Evaluator<'_>,
    function: Function,
    args: &[Expr],
    call: &Expr,
    grid: &Grid,
) -> Result<Output, EvalError> {
    let context = Call {
        evaluator,
        function,
        args,
        call,
        grid,
    };
    use Function as F;
    match function {
        F::Absent | F::AbsentOverTime => context.absent().map(Output::Vector),
        F::HistogramQuantile | F::HistogramQuantiles | F::HistogramFraction => {
            context.histogram().map(Output::Vector)
        }
        // They look at native histograms only, which series do not have yet: numbers give nothing.
        F::HistogramAvg
        | F::HistogramCount
        | F::HistogramStddev
        | F::HistogramStdvar
        | F::HistogramSum => context.input().map(|_| Output::Vector(Vec::new())),
        F::Info => context.info().map(Output::Vector),
        F::LabelReplace => context.label_replace().map(Output::Vector),
        F::LabelJoin => context.label_join().map(Output::Vector),
        F::Sort | F::SortDesc | F::SortByLabel | F::SortByLabelDesc => {
            context.sort().map(Output::Vector)
        }
        F::Pi | F::Time | F::Start | F::End | F::Step | F::Range | F::MinOf | F::MaxOf => {
            context.number().map(Output::Scalar)
        }
        F::Scalar => context.scalar().map(Output::Scalar),
        F::Vector => {
            let values = evaluator.scalar(&args[0], grid)?;
            Ok(Output::Vector(vec![nameless(values)]))
        }
        F::Timestamp => context.timestamp().map(Output::Vector),
        F::DayOfMonth
        | F::DayOfWeek
        | F::DayOfYear
        | F::DaysInMonth
        | F::Hour
        | F::Minute
        | F::Month
        | F::Year => context.calendar().map(Output::Vector),
        F::Rate | F::Increase | F::Delta | F::Irate | F::Idelta | F::Changes | F::Resets => {
            context.change().map(Output::Vector)
        }
        F::Deriv | F::PredictLinear | F::DoubleExponentialSmoothing => {
            context.regression().map(Output::Vector)
        }
        F::AvgOverTime
        | F::CountOverTime
        | F::FirstOverTime
        | F::LastOverTime
        | F::MadOverTime
        | F::MaxOverTime
        | F::MinOverTime
        | F::PresentOverTime
        | F::QuantileOverTime
        | F::StddevOverTime
        | F::StdvarOverTime
        | F::SumOverTime
        | F::TsOfFirstOverTime
        | F::TsOfLastOverTime
        | F::TsOfMaxOverTime
        | F::TsOfMinOverTime => context.over_time().map(Output::Vector),
        _ => context.math().map(Output::Vector),
    }
}

/// A call that is being evaluated.
pub(crate) struct Call<'a> {
    pub(crate) evaluator: &'a Evaluator<'a>,
    pub(crate) function: Function,
    pub(crate) args: &'a [Expr],
    pub(crate) call: &'a Expr,
    pub(crate) grid: &'a Grid,
}

/// The series without labels.
pub(crate) fn nameless(values: Vec<f64>) -> Series {
    Series {
        labels: Default::default(),
        drops_name: false,
        values,
    }
}
