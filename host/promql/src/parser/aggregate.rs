//! Aggregations.

use super::Parser;
use crate::ast::{Aggregate, AggregateOp, Expr, ExprKind, Grouping, ValueType};
use crate::error::ParseError;
use crate::span::Span;

impl Parser<'_> {
    pub(super) fn aggregate(&mut self, op: AggregateOp) -> Result<Expr, ParseError> {
        let start = self.next().span;
        let before = self.grouping()?;
        self.expect("(", "after an aggregation operator")?;
        let mut args = vec![self.expression(0)?];
        while self.take(",").is_some() && !self.is_symbol(self.peek(), ")") {
            args.push(self.expression(0)?);
        }
        let mut end = self.expect(")", "or \",\" after an argument")?;
        let mut grouping = before.map(|(grouping, _)| grouping);
        if grouping.is_none()
            && let Some((after, after_end)) = self.grouping()?
        {
            grouping = Some(after);
            end = after_end;
        }
        let span = start.to(end);
        let expected = 1 + usize::from(op.parameter().is_some());
        if args.len() != expected {
            let message = format!(
                "wrong number of arguments for aggregate expression {:?}, expected {expected}, got {}",
                op.as_str(),
                args.len()
            );
            return Err(self.error(span, message));
        }
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0);
        let expr = args.pop().expect("at least one argument was counted");
        let parameter = args.pop();
        let context = format!("aggregation expression {:?}", op.as_str());
        self.check_type(&expr, ValueType::Vector, &context)?;
        if let (Some(parameter), Some(wanted)) = (&parameter, op.parameter()) {
            self.check_type(parameter, wanted, &context)?;
        }
        let aggregate = Aggregate {
            op,
            parameter: parameter.map(Box::new),
            expr: Box::new(expr),
            grouping: grouping.unwrap_or(Grouping::By(Vec::new())),
        };
        self.node(span, depth, ExprKind::Aggregate(Box::new(aggregate)))
    }

    fn grouping(&mut self) -> Result<Option<(Grouping, Span)>, ParseError> {
        if self.take_word("by").is_some() {
            let (names, end) = self.label_names("after by")?;
            Ok(Some((Grouping::By(names), end)))
        } else if self.take_word("without").is_some() {
            let (names, end) = self.label_names("after without")?;
            Ok(Some((Grouping::Without(names), end)))
        } else {
            Ok(None)
        }
    }
}
