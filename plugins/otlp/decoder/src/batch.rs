//! The batch that is being built: the rules of OTLP on one side, columns on the other.
//!
//! Both grammars drive it the same way: attributes and [`Batch::close_set`], points, then [`Batch::end_metric`],
//! [`Batch::end_scope`] and [`Batch::end_resource`], each of which fills in what its points have in common.
//! So a field that stands behind the points it governs (a temporality, a name in JSON) needs no
//! second reading.
//!
//! Invariants between calls: symbol 0 is empty, set 0 is empty, and every row refers to what exists.

mod metric;
mod points;
mod rejection;

pub(crate) use metric::{Metric, Shape};
pub(crate) use points::{Buckets, Layout, NumberPoint, Scratch};
pub use rejection::{Decoded, REJECTIONS_MAX, Rejection};

use crate::columns::Columns;
use crate::table::{Table, hash_bytes, hash_symbols, same_bytes, same_symbols};

/// The symbol of the empty string.
pub(crate) const EMPTY_SYMBOL: u32 = 0;

/// The set without attributes.
pub(crate) const EMPTY_SET: u32 = 0;

/// See the module.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) columns: Columns,
    symbols: Table,
    sets: Table,
    metric: metric::OpenMetric,
    decoded: Decoded,
}

/// A length or row number as columns hold it.
///
/// [`crate::BODY_BYTES_MAX`] keeps all of them far below 2^32.
#[inline(always)]
fn index(length: usize) -> u32 {
    length as u32
}

impl Batch {
    /// Empties the batch.
    pub(crate) fn clear(&mut self) {
        self.columns.clear();
        self.columns.symbol_ends.push(0);
        self.columns.set_ends.push(0);
        self.symbols.clear();
        self.sets.clear();
        self.metric.clear();
        self.decoded = Decoded::default();
    }

    /// Ends the body: brings all columns to full length.
    pub(crate) fn finish(&mut self) -> Decoded {
        self.pad_numbers();
        std::mem::take(&mut self.decoded)
    }

    /// The symbol of a text, made when it is new.
    pub(crate) fn symbol(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return EMPTY_SYMBOL;
        }
        let (columns, text) = (&mut self.columns, text.as_bytes());
        let known = self.symbols.find(hash_bytes(text), |symbol| {
            same_bytes(columns.symbol(symbol), text)
        });
        known.unwrap_or_else(|vacancy| {
            let symbol = index(columns.symbol_ends.len());
            columns.symbol_bytes.extend_from_slice(text);
            columns.symbol_ends.push(index(columns.symbol_bytes.len()));
            self.symbols.insert(vacancy, symbol);
            symbol
        })
    }

    /// Adds an attribute to the set that is open. One without a name says nothing and is left out.
    #[inline(always)]
    pub(crate) fn attribute(&mut self, name: u32, value: u32) {
        if name != EMPTY_SYMBOL {
            self.columns.set_pairs.extend_from_slice(&[name, value]);
        }
    }

    /// Closes the set that is open and returns its number; equal sets have one number.
    pub(crate) fn close_set(&mut self) -> u32 {
        let columns = &mut self.columns;
        let start = columns.set_ends.last().map_or(0, |end| *end as usize * 2);
        let (closed, open) = columns.set_pairs.split_at(start);
        if open.is_empty() {
            return EMPTY_SET;
        }
        let ends = &columns.set_ends;
        let known = self.sets.find(hash_symbols(open), |set| {
            let (from, to) = (ends[set as usize - 1], ends[set as usize]);
            same_symbols(&closed[from as usize * 2..to as usize * 2], open)
        });
        match known {
            Ok(set) => {
                columns.set_pairs.truncate(start);
                set
            }
            Err(vacancy) => {
                let set = index(columns.set_ends.len());
                columns.set_ends.push(index(columns.set_pairs.len() / 2));
                self.sets.insert(vacancy, set);
                set
            }
        }
    }

    /// The set of an instrumentation scope: `name`, `version`, `schema_url` where given, then `attributes`
    /// without those names, as the specification's compatibility with Prometheus wants it.
    fn scope_set(&mut self, scope: &Scope<'_>) -> u32 {
        if *scope == Scope::default() {
            return EMPTY_SET;
        }
        let own = [
            ("name", scope.name),
            ("version", scope.version),
            ("schema_url", scope.schema_url),
        ];
        let names = own.map(|(name, _)| self.symbol(name));
        for (name, (_, value)) in names.into_iter().zip(own) {
            if !value.is_empty() {
                let value = self.symbol(value);
                self.attribute(name, value);
            }
        }
        let attributes = self.columns.set(scope.attributes).to_vec();
        for [name, value] in attributes.as_chunks().0 {
            if !names.contains(name) {
                self.attribute(*name, *value);
            }
        }
        self.close_set()
    }

    /// Ends a scope: all streams since the one before belong to it.
    pub(crate) fn end_scope(&mut self, scope: &Scope<'_>) {
        let rows = self.columns.series.attributes.len();
        if self.columns.series.scopes.len() < rows {
            let set = self.scope_set(scope);
            self.columns.series.scopes.resize(rows, set);
        }
    }

    /// Ends a resource: all streams since the one before belong to it.
    pub(crate) fn end_resource(&mut self, set: u32) {
        let rows = self.columns.series.attributes.len();
        self.columns.series.resources.resize(rows, set);
    }
}

/// What is known of an instrumentation scope.
#[derive(Default, PartialEq)]
pub(crate) struct Scope<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) schema_url: &'a str,
    /// The set of its attributes.
    pub(crate) attributes: u32,
}
