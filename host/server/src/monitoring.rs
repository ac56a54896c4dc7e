//! Watching: monitors and checks turn evidence into alerts.
//!
//! Both are judged by slot, not by "now": the job of a slot may come late or twice and changes the same. `judge` decides
//! without input or output; [`crate::db::alerts`] applies a decision once, in one transaction with what is to be told;
//! [`evaluate`] and [`checks`] bring the evidence.

pub mod checks;
pub mod evaluate;
pub mod judge;
mod message;
#[cfg(test)]
pub(crate) mod testing;
