//! Alerts and their transitions.
