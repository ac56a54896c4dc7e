//! What billing rules try beside what checks do.

use std::time::Duration;

use shoal_model::grant::Kind;

use super::case::{Attack, Case, Ends};
use super::cases;
use super::pieces::{WAIT, forever, grown};

cases! {
    rule_endless_loop
    rule_too_much_memory
    rule_wrong_product
    rule_largest_numbers
    rule_number_that_is_none
    rule_a_hundred_thousand_lines
    rule_sleeping_for_ever
}

/// A rule that does something and then answers with no lines.
fn rule_answering(before: &str, doing: &str) -> Attack {
    Attack::guest(
        Kind::BillingRule,
        format!(
            r#"{before} (func (export "shoal:plugin/billing-rule@0.1.0#rate")
                 (param i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                 {doing}
                 (i32.const 1024))"#
        ),
    )
}

/// The rule answers with one line of these decimals: units and nanos of quantity, price and amount.
fn line(quantity: (i64, i32), price: (i64, i32), amount: (i64, i32)) -> Attack {
    let decimal = |at: u32, (units, nanos): (i64, i32)| {
        format!(
            "(i64.store (i32.const {at}) (i64.const {units})) (i32.store (i32.const {}) (i32.const {nanos}))",
            at + 8
        )
    };
    rule_answering(
        "",
        &format!(
            "{} {} {} {}",
            decimal(4112, quantity),
            decimal(4128, price),
            decimal(4144, amount),
            lines(4096, 1)
        ),
    )
}

fn lines(at: u32, count: u32) -> String {
    format!(
        "(i32.store (i32.const 1032) (i32.const {at})) (i32.store (i32.const 1036) (i32.const {count}))"
    )
}

fn rule_endless_loop() -> Case {
    let case = Case::new(
        "a rule that computes for ever",
        "instructions, the same number everywhere; time behind them",
        rule_answering("", &forever("")),
        Ends::OneOf(vec![
            Ends::Failed("limit-fuel", " instructions are allowed"),
            Ends::Failed("limit-cpu", " ms are allowed"),
        ]),
    );
    Case {
        cpu_max: Duration::from_secs(20),
        ..case
    }
}

fn rule_too_much_memory() -> Case {
    Case::new(
        "a rule that takes 1 GB",
        "memory of a rule",
        rule_answering("", &grown(16_000)),
        Ends::Failed("limit-memory", " bytes of memory are allowed"),
    )
}

fn bad_statement(tries: &'static str, attack: Attack, says: &'static str) -> Case {
    Case::new(
        tries,
        "the host's own arithmetic",
        attack,
        Ends::Failed("bad-answer", says),
    )
}

fn rule_wrong_product() -> Case {
    bad_statement(
        "two things at 3 for 7",
        line((2, 0), (3, 0), (7, 0)),
        "the plugin's answer breaks its contract: line 1: amount 7 is not 2 times 3 rounded to 0 digits, 6",
    )
}

fn rule_largest_numbers() -> Case {
    bad_statement(
        "the smallest and largest numbers there are, whose product is none",
        line(
            (i64::MIN, 0),
            (i64::MAX, 999_999_999),
            (i64::MIN, -999_999_999),
        ),
        "the plugin's answer breaks its contract: line 1: ",
    )
}

fn rule_number_that_is_none() -> Case {
    bad_statement(
        "a number whose parts have different signs",
        line((1, i32::MIN), (1, 0), (1, 0)),
        "the plugin's answer breaks its contract: line 1: quantity: ",
    )
}

fn rule_a_hundred_thousand_lines() -> Case {
    Case::new(
        "a statement of 100,000 lines",
        "the contract, or what is handed over at once",
        rule_answering("", &format!("{} {}", grown(200), lines(65536, 100_000))),
        Ends::OneOf(vec![
            Ends::Failed("bad-answer", "100000 lines where "),
            Ends::Failed("limit-output", " bytes at once are allowed"),
        ]),
    )
}

fn rule_sleeping_for_ever() -> Case {
    // A rule has no deadline of its caller, so this one asks for less in its manifest.
    let attack = rule_answering(
        WAIT,
        "(call $block (call $after (i64.const 3600000000000)))",
    );
    Case::new(
        "a rule that sleeps for an hour by a clock that stands",
        "wall-clock time",
        attack.manifest("[limits]\nwall_ms = 300"),
        Ends::Failed("limit-wall", " ms are allowed"),
    )
}
