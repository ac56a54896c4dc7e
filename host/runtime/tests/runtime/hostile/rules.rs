//! Rules for settings that a plugin exports beside its kind, asked when settings are saved and when a version is published.

use shoal_model::grant::Kind;

use super::case::{Attack, Case, Ends};
use super::cases;
use super::pieces::{forever, grown};
use crate::support::well_after;

cases! {
    rules_that_crash
    rules_that_never_end
    rules_that_take_all_memory
    a_million_problems
    settings_that_are_none
    settings_of_two_megabytes
}

/// A check whose rules do these things before they answer: no problems, and settings that are `{}`.
fn rules(validate: &str, migrate: &str) -> Attack {
    let rules = format!(
        r#"
        (data (i32.const 600) "{{}}")
        (func (export "shoal:plugin/settings@0.1.0#validate") (param i32 i32) (result i32)
          {validate}
          (i32.const 1120))
        (func (export "shoal:plugin/settings@0.1.0#migrate") (param i32 i32 i32 i32) (result i32)
          (i32.store (i32.const 1152) (i32.const 600))
          (i32.store (i32.const 1156) (i32.const 2))
          {migrate}
          (i32.const 1144))
        {}"#,
        well_after("")
    );
    Attack::guest(Kind::Check, rules)
}

fn rules_that_crash() -> Case {
    Case::new(
        "rules that crash when settings are saved",
        "a trap: the settings are not saved",
        rules("unreachable", ""),
        Ends::Failed("trapped", "the plugin crashed: wasm trap"),
    )
}

fn rules_that_never_end() -> Case {
    Case::new(
        "rules that compute for ever when a version is published",
        "processor time",
        rules("", &forever("")),
        Ends::Failed("limit-cpu", " ms, 200 ms are allowed"),
    )
}

fn rules_that_take_all_memory() -> Case {
    Case::new(
        "rules that take 3.9 GB",
        "memory over all memories and tables",
        rules(&grown(60_000), ""),
        Ends::Failed("limit-memory", "67108864 bytes of memory are allowed"),
    )
}

fn a_million_problems() -> Case {
    let list = "(i32.store (i32.const 1120) (i32.const 65536)) (i32.store (i32.const 1124) (i32.const 1000000))";
    Case::new(
        "a million problems with the settings",
        "what is handed over at once",
        rules(&(grown(300) + list), ""),
        Ends::Failed("limit-output", "4194304 bytes at once are allowed"),
    )
}

fn settings_that_are_none() -> Case {
    let list =
        "(i32.store (i32.const 1152) (i32.const 512)) (i32.store (i32.const 1156) (i32.const 11))";
    Case::new(
        "settings that are not even JSON",
        "the schema, which what comes out must satisfy as well",
        rules("", list),
        Ends::Failed("bad-answer", "the plugin's answer breaks its contract: "),
    )
}

fn settings_of_two_megabytes() -> Case {
    let text = "(memory.fill (i32.const 65536) (i32.const 32) (i32.const 2000000))
        (i32.store16 (i32.const 65536) (i32.const 0x7d7b))
        (i32.store (i32.const 1152) (i32.const 65536)) (i32.store (i32.const 1156) (i32.const 2000000))";
    Case::new(
        "settings of 2 MB, almost all of it spaces",
        "64 KiB of settings",
        rules("", &(grown(40) + text)),
        Ends::Failed("bad-answer", "are larger than 65536 bytes"),
    )
}
