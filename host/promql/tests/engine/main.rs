//! The evaluator through its public face: semantics, limits, and properties that hold for all queries.

mod functions;
mod limits;
mod operators;
mod properties;
mod queries;
mod semantics;
mod source;
