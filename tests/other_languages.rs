//! Stands in for a file of another branch.
