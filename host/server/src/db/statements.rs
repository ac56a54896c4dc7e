//! Statements: what a billing rule made of a month's closed usage.
