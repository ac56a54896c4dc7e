//! `cargo xtask docs`: writes the pages of `docs/writing-plugins/` that follow from the code.
//!
//! The tests that hold the pages to the code write them when they are told to, so that there is one text of each.

use anyhow::Result;

use crate::command::{cargo, run_long};

pub(crate) fn write() -> Result<()> {
    let words = ["test", "--workspace", "--test=runtime", "--", "pages::"];
    run_long(cargo().args(words).env("SHOAL_WRITE_DOCS", "1"))
}
