//! What may stand between a binary operator and its right side.

use super::Parser;
use crate::ast::{BinaryOp, Group, Matching, MatchingLabels, Number};
use crate::error::ParseError;
use crate::lexer::TokenKind;

impl Parser<'_> {
    pub(super) fn binary_modifiers(
        &mut self,
        op: BinaryOp,
    ) -> Result<(bool, Matching), ParseError> {
        let mut matching = Matching::default();
        let is_bool = match self.take_word("bool") {
            None => false,
            Some(_) if op.is_comparison() => true,
            Some(span) => {
                let message = "bool modifier can only be used on comparison operators";
                return Err(self.error(span, message));
            }
        };
        if self.take_word("on").is_some() {
            matching.labels = Some(MatchingLabels::On(self.label_names("after on")?.0));
        } else if self.take_word("ignoring").is_some() {
            let names = self.label_names("after ignoring")?.0;
            matching.labels = Some(MatchingLabels::Ignoring(names));
        }
        if let Some(span) = self.take_word("group_left") {
            matching.group = Some(Group::Left(self.optional_label_names()?));
            self.check_group(op, &matching, span)?;
        } else if let Some(span) = self.take_word("group_right") {
            matching.group = Some(Group::Right(self.optional_label_names()?));
            self.check_group(op, &matching, span)?;
        }
        self.fills(op, &mut matching)?;
        Ok((is_bool, matching))
    }

    fn optional_label_names(&mut self) -> Result<Vec<String>, ParseError> {
        match self.is_symbol(self.peek(), "(") {
            true => Ok(self.label_names("after a group modifier")?.0),
            false => Ok(Vec::new()),
        }
    }

    fn fills(&mut self, op: BinaryOp, matching: &mut Matching) -> Result<(), ParseError> {
        // A metric may be called `fill`; nothing but a modifier is followed by a parenthesis.
        while self.is_symbol(self.peek_second(), "(") {
            let token = self.peek().clone();
            let (left, right) = if self.is_word(&token, "fill") {
                (true, true)
            } else if self.is_word(&token, "fill_left") {
                (true, false)
            } else if self.is_word(&token, "fill_right") {
                (false, true)
            } else {
                return Ok(());
            };
            self.next();
            if op.is_set() {
                let message = "filling in missing series not allowed for set operators";
                return Err(self.error(token.span, message));
            }
            if (left && matching.fill_left.is_some()) || (right && matching.fill_right.is_some()) {
                let message = "a side can be filled only once";
                return Err(self.error(token.span, message));
            }
            let value = self.fill_value()?;
            if left {
                matching.fill_left = Some(value);
            }
            if right {
                matching.fill_right = Some(value);
            }
        }
        Ok(())
    }

    fn fill_value(&mut self) -> Result<Number, ParseError> {
        self.expect("(", "after a fill modifier")?;
        let sign = match self.take("-") {
            Some(_) => -1.0,
            None => {
                self.take("+");
                1.0
            }
        };
        let (value, is_duration) = match self.peek().kind {
            TokenKind::Number(value) => (sign * value, false),
            TokenKind::Duration(duration_ms) => (sign * duration_ms as f64 / 1000.0, false),
            _ => return Err(self.unexpected("a number as the fill value")),
        };
        self.next();
        self.expect(")", "after a fill value")?;
        Ok(Number { value, is_duration })
    }
}
