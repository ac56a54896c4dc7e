//! Tells people: alerts' changes go out through channel plugins, at least once.
