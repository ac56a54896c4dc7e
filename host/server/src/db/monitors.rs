//! Monitors: conditions on queries.
