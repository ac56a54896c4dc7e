//! See the description in Cargo.toml; the code follows.
