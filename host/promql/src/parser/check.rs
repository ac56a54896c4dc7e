//! Whether types fit.

use super::Parser;
use crate::ast::{
    Binary, BinaryOp, Bounds, Expr, ExprKind, Group, Matching, MatchingLabels, ValueType,
};
use crate::error::ParseError;
use crate::function::Function;
use crate::span::Span;

impl Parser<'_> {
    pub(super) fn check_type(
        &self,
        expr: &Expr,
        wanted: ValueType,
        context: &str,
    ) -> Result<(), ParseError> {
        let found = expr.value_type();
        if found == wanted {
            return Ok(());
        }
        let message = format!(
            "expected type {} in {context}, got {}",
            wanted.as_str(),
            found.as_str()
        );
        Err(self.error(expr.span, message))
    }

    pub(super) fn check_binary(&self, binary: &Binary, op: Span) -> Result<(), ParseError> {
        let (lhs, rhs) = (binary.lhs.value_type(), binary.rhs.value_type());
        for side in [&binary.lhs, &binary.rhs] {
            if !matches!(side.value_type(), ValueType::Scalar | ValueType::Vector) {
                let message = format!(
                    "binary expression must contain only scalar and instant vector types, got {}",
                    side.value_type().as_str()
                );
                return Err(self.error(side.span, message));
            }
        }
        let are_scalars = lhs == ValueType::Scalar && rhs == ValueType::Scalar;
        if are_scalars && binary.op.is_comparison() && !binary.is_bool {
            return Err(self.error(op, "comparisons between scalars must use BOOL modifier"));
        }
        if are_scalars && binary.op.is_trim() {
            let message = format!(
                "operator {:?} not allowed for Scalar operations",
                binary.op.as_str()
            );
            return Err(self.error(op, message));
        }
        let are_vectors = lhs == ValueType::Vector && rhs == ValueType::Vector;
        if !are_vectors && binary.op.is_set() {
            let message = format!(
                "set operator {:?} not allowed in binary scalar expression",
                binary.op.as_str()
            );
            return Err(self.error(op, message));
        }
        if !are_vectors && binary.matching != Matching::default() {
            return Err(self.error(op, "vector matching only allowed between instant vectors"));
        }
        Ok(())
    }

    pub(super) fn check_group(
        &self,
        op: BinaryOp,
        matching: &Matching,
        span: Span,
    ) -> Result<(), ParseError> {
        if op.is_set() {
            let message = format!("no grouping allowed for {:?} operation", op.as_str());
            return Err(self.error(span, message));
        }
        let Some(labels) = &matching.labels else {
            return Err(self.error(
                span,
                "group modifiers need on (...) or ignoring (...) before",
            ));
        };
        let (MatchingLabels::On(on), Some(Group::Left(taken) | Group::Right(taken))) =
            (labels, &matching.group)
        else {
            return Ok(());
        };
        match taken.iter().find(|name| on.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let message =
                    format!("label {name:?} must not occur in ON and GROUP clause at once");
                Err(self.error(span, message))
            }
        }
    }

    pub(super) fn check_call(
        &self,
        function: Function,
        args: &[Expr],
        span: Span,
    ) -> Result<(), ParseError> {
        let signature = function.signature();
        let name = function.name();
        if args.len() < signature.least || args.len() > signature.most {
            let bound = match (signature.least, signature.most) {
                (least, most) if least == most => format!("{least}"),
                (least, _) if args.len() < least => format!("at least {least}"),
                (_, most) => format!("at most {most}"),
            };
            let message = format!(
                "expected {bound} argument(s) in call to {name:?}, got {}",
                args.len()
            );
            return Err(self.error(span, message));
        }
        for (index, arg) in args.iter().enumerate() {
            if let Some(wanted) = function.argument(index) {
                self.check_type(arg, wanted, &format!("call to function {name:?}"))?;
            }
            self.check_bounds(function, arg)?;
        }
        Ok(())
    }

    /// Anchored and smoothed windows mean something to a few functions only.
    fn check_bounds(&self, function: Function, arg: &Expr) -> Result<(), ParseError> {
        let ExprKind::Matrix(selector, _) = &arg.without_parens().kind else {
            return Ok(());
        };
        let allowed: &[Function] = match selector.bounds {
            None => return Ok(()),
            Some(Bounds::Smoothed) => &[Function::Delta, Function::Increase, Function::Rate],
            Some(Bounds::Anchored) => &[
                Function::Changes,
                Function::Delta,
                Function::Increase,
                Function::Rate,
                Function::Resets,
            ],
        };
        if allowed.contains(&function) {
            return Ok(());
        }
        let names: Vec<&str> = allowed.iter().map(|function| function.name()).collect();
        let message = format!(
            "{} modifier can only be used with: {} - not with {}",
            selector.bounds.map_or("", Bounds::as_str),
            names.join(", "),
            function.name()
        );
        Err(self.error(arg.span, message))
    }
}
