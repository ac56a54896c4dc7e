//! Pages of `docs/writing-plugins/` that follow from the code: the contract, the limits, the outcomes.
//!
//! `cargo xtask docs` writes what can be written (it runs these tests with `SHOAL_WRITE_DOCS`); what cannot, is held to
//! what the code says.

mod contract;
mod errors;
mod limits;

use std::path::PathBuf;

/// Set by `cargo xtask docs`.
const WRITE: &str = "SHOAL_WRITE_DOCS";

fn path(page: &str) -> PathBuf {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/writing-plugins");
    PathBuf::from(docs).join(page)
}

fn read(page: &str) -> String {
    std::fs::read_to_string(path(page)).unwrap_or_default()
}

/// Writes a page, or compares it.
#[track_caller]
fn settle(page: &str, wanted: &str) {
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(path(page), wanted).unwrap();
    } else if read(page) != wanted {
        panic!("docs/writing-plugins/{page} is out of date; write it with: cargo xtask docs");
    }
}

/// The page with another text between `<!-- NAME -->` and `<!-- /NAME -->`.
fn with_part(page: &str, name: &str, part: &str) -> String {
    let text = read(page);
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let from = text
        .find(&begin)
        .unwrap_or_else(|| panic!("{page} has no {begin}"))
        + begin.len();
    let to = text
        .find(&end)
        .unwrap_or_else(|| panic!("{page} has no {end}"));
    format!("{}{part}{}", &text[..from], &text[to..])
}
