//! Usage becomes money: hours are closed, a billing rule prices the month, its answer is recorded.
//!
//! | part | does |
//! |---|---|
//! | [`close_usage`] | the job that counts every hour of every tenant once, zero included |
//! | [`statement`] | asks a tenant's billing rule and keeps what went in and what came out |
//! | [`rate_statements`] | the job that does so for every tenant each hour |
//!
//! Invariants: a closed hour never changes; equal input has equal output, or it is an error that somebody is
//! told; no amount is ever a floating-point number.

pub mod close_usage;
pub mod rate_statements;
pub mod statement;
