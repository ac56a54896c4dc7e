//! The only place that prints.
#![expect(
    clippy::print_stdout,
    reason = "the command line's answers go to standard output, through here"
)]

use std::fmt;
use std::process::ExitCode;

use serde_json::{Value, json};

/// How answers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Text,
    Json,
}

impl Output {
    /// Shows an answer: whole as JSON, or as the text made of it.
    pub(super) fn show(self, answer: &Value, text: impl FnOnce(&Value) -> String) {
        match self {
            Output::Json => println!("{answer:#}"),
            Output::Text => println!("{}", text(answer)),
        }
    }

    /// Says something beside the answer, on standard error; JSON has it already.
    pub(super) fn warn(self, warning: &str) {
        if self == Output::Text {
            eprintln!("shoal: {warning}");
        }
    }

    /// Tells how the answer came about, on standard error; JSON has it already.
    pub(super) fn note(self, note: &str) {
        if self == Output::Text {
            eprintln!("{note}");
        }
    }

    /// Says why it did not work, on standard error.
    pub(super) fn failed(self, error: &anyhow::Error) -> ExitCode {
        match self {
            Output::Json => eprintln!(
                "{}",
                json!({ "error": { "message": format!("{error:#}") } })
            ),
            Output::Text => eprintln!("shoal: {error:#}"),
        }
        ExitCode::FAILURE
    }
}

/// A value without quotes; nothing when it is absent.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Rows with a heading, columns aligned.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The named fields of each object of a list.
    pub(super) fn of(list: &Value, columns: &[&str]) -> Table {
        let heading = columns.iter().map(|column| column.to_uppercase()).collect();
        let objects = list.as_array().into_iter().flatten();
        let rows = objects.map(|object| {
            columns
                .iter()
                .map(|column| text(&object[*column]))
                .collect()
        });
        Table {
            rows: std::iter::once(heading).chain(rows).collect(),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (at, row) in self.rows.iter().enumerate() {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            let end = if at == 0 { "" } else { "\n" };
            write!(f, "{end}{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let list = json!([{ "key": "a", "name": "Alpha" }, { "key": "longer", "name": null }]);
        assert_eq!(
            Table::of(&list, &["key", "name"]).to_string(),
            "KEY     NAME\na       Alpha\nlonger"
        );
    }
}
