//! Files whose code, data or names are made to cost the host: its compiler, or what it makes of a crash.

use std::fmt::Write as _;

use shoal_model::grant::Kind;

use super::case::{Attack, Case, Ends};
use super::cases;
use super::structure::heavy;
use crate::support::well_after;

cases! {
    five_thousand_functions
    one_long_function
    ten_thousand_blocks_in_each_other
    a_jump_table_of_half_a_million
    fifty_thousand_locals
    eight_megabytes_of_data
    fifty_thousand_pieces_of_data
    name_that_unfolds
    name_of_ninety_kilobytes
    debug_information_that_is_none
    debug_information_that_unfolds
}

fn five_thousand_functions() -> Case {
    let functions: String = (0..5000)
        .map(|i| format!("(func (param i32) (result i32) (i32.add (local.get 0) (i32.const {i})))"))
        .collect();
    heavy("5,000 functions", Attack::check_with(&functions, ""))
}

fn one_long_function() -> Case {
    let body =
        "(local.set $a (i32.mul (i32.add (local.get $a) (local.get $b)) (i32.load (local.get $a))))
        (local.set $b (i32.xor (local.get $a) (i32.load offset=8 (local.get $b))))"
            .repeat(10_000);
    let function = format!("(func (param $a i32) (param $b i32) {body})");
    heavy(
        "one function of 300 kB without a branch",
        Attack::check_with(&function, ""),
    )
}

fn ten_thousand_blocks_in_each_other() -> Case {
    let function = format!(
        "(func {} {})",
        "block ".repeat(10_000),
        "end ".repeat(10_000)
    );
    heavy(
        "10,000 blocks in each other",
        Attack::check_with(&function, ""),
    )
}

fn a_jump_table_of_half_a_million() -> Case {
    let function = format!(
        "(func (param i32) (block (br_table {} (local.get 0))))",
        "0 ".repeat(500_000)
    );
    heavy(
        "a jump table of half a million entries",
        Attack::check_with(&function, ""),
    )
}

fn fifty_thousand_locals() -> Case {
    let function = format!(
        "(func $f {} ) (func (call $f))",
        "(local i64)".repeat(50_000)
    );
    heavy(
        "a function of 50,000 variables",
        Attack::check_with(&function, ""),
    )
}

fn eight_megabytes_of_data() -> Case {
    let data = format!("(data (i32.const 65536) \"{}\")", "x".repeat(8 << 20));
    let attack = Attack::check_with(&data, "").base(
        "(memory $memory (export \"memory\") 4)",
        "(memory $memory (export \"memory\") 200)",
    );
    Case::new(
        "8 MiB of data, in each of ten calls",
        "nothing: it may",
        attack.times(10),
        Ends::Well,
    )
}

fn fifty_thousand_pieces_of_data() -> Case {
    let data: String = (0..50_000)
        .map(|i| format!("(data (i32.const {}) \"x\")", 70_000 + i * 3))
        .collect();
    heavy("50,000 pieces of data", Attack::check_with(&data, ""))
}

/// Crashes in a function of this name.
fn crashing_in(name: &str) -> Attack {
    Attack::check_with(
        &format!("(func $f (@name \"{name}\") unreachable)"),
        "(call $f)",
    )
}

fn name_that_unfolds() -> Case {
    // Each `St4pair…` stands for twice the one before, which is the part of the name with this number.
    let mut name = "_Z1fSt4pairIiiE".to_owned();
    for i in 0..30 {
        let before = format!("S{}_", base36(2 * i));
        let _ = write!(name, "St4pairI{before}{before}E");
    }
    Case::new(
        "a crash in a function whose name in C++ unfolds to gigabytes when it is shown",
        "300 bytes for each line of a backtrace",
        crashing_in(&name),
        Ends::Failed("trapped", "wasm `unreachable` instruction executed"),
    )
}

/// A number as C++ writes that of a part of a name.
fn base36(number: u32) -> String {
    let digit = |d: u32| {
        char::from_digit(d, 36)
            .expect("below 36")
            .to_ascii_uppercase()
    };
    if number < 36 {
        digit(number).to_string()
    } else {
        format!("{}{}", digit(number / 36), digit(number % 36))
    }
}

fn name_of_ninety_kilobytes() -> Case {
    Case::new(
        "a crash in a function whose name has 90 kB",
        "300 bytes for each line of a backtrace",
        crashing_in(&"x".repeat(90_000)),
        Ends::Failed("trapped", "wasm `unreachable` instruction executed"),
    )
}

fn debug_information_that_is_none() -> Case {
    let noise: String = (0..4000u32)
        .map(|i| format!("\\{:02x}", (i.wrapping_mul(2_654_435_761) >> 11) as u8))
        .collect();
    let sections: String = [
        ".debug_info",
        ".debug_abbrev",
        ".debug_line",
        ".debug_str",
        ".debug_ranges",
    ]
    .map(|name| format!("(@custom \"{name}\" \"{noise}\")"))
    .concat();
    Case::new(
        "a crash in a component whose debug information is noise",
        "whoever reads it stops at the first error",
        Attack::guest(
            Kind::Check,
            format!(
                "(func $f unreachable) {} {sections}",
                well_after("(call $f)")
            ),
        ),
        Ends::Failed("trapped", "wasm `unreachable` instruction executed"),
    )
}

fn debug_information_that_unfolds() -> Case {
    // One unit (DWARF 4) for all addresses, whose table of lines has a row for each of twelve million bytes: a space moves
    // on by one address.
    let abbreviations = [1, 0x11, 0, 0x10, 0x17, 0x11, 1, 0x12, 6, 0, 0, 0];
    let mut unit = vec![4, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    unit.extend(0x00ff_ffff_u32.to_le_bytes());
    let mut header = vec![1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0];
    header.extend(b"a.rs\0\0\0\0\0");
    let mut lines = vec![4, 0];
    lines.extend(u32::try_from(header.len()).expect("short").to_le_bytes());
    lines.extend(header);
    lines.extend([0, 5, 2, 0, 0, 0, 0]);
    let rows = 12_000_000;
    let end = [0, 1, 1];
    let length = |bytes: usize| u32::try_from(bytes).expect("below 4 GiB").to_le_bytes();
    let quoted =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\{byte:02x}")).collect() };
    let sections = format!(
        "(@custom \".debug_abbrev\" \"{}\") (@custom \".debug_info\" \"{}{}\") (@custom \".debug_line\" \"{}{}{}{}\")",
        quoted(&abbreviations),
        quoted(&length(unit.len())),
        quoted(&unit),
        quoted(&length(lines.len() + rows + end.len())),
        quoted(&lines),
        " ".repeat(rows),
        quoted(&end),
    );
    Case::new(
        "a crash in a component whose debug information unfolds to hundreds of megabytes",
        "size of what is read of it",
        Attack::guest(
            Kind::Check,
            format!(
                "(func $f unreachable) {} {sections}",
                well_after("(call $f)")
            ),
        )
        .times(3),
        Ends::Failed("trapped", "wasm `unreachable` instruction executed"),
    )
}
