//! A billing rule that looks at everything that could differ from one run to the next, and says what it saw.
//!
//! The order of a hash map, the clocks, randomness, addresses, the bits of numbers that are none: one line for each. In
//! the deterministic engine they are the same for the same usage, and others for other usage where they come from
//! randomness.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use shoal_sdk::billing_rule::{BillingRule, Line, Statement, Terms, Usage};
use shoal_sdk::{Decimal, Failure};

struct Unsteady;

#[derive(serde::Deserialize)]
struct Settings {}

impl BillingRule for Unsteady {
    type Settings = Settings;

    fn rate(usage: &Usage, terms: &Terms, _: Settings) -> Result<Statement, Failure> {
        let seen = [
            order_of_a_map(),
            order_of_a_set_that_grew(),
            format!("hash {}", RandomState::new().hash_one(usage.meters.len())),
            clocks(),
            format!("address {:p}", &*Box::new(1u8)),
            not_a_number(),
            rounding(),
        ];
        let line = |text: String| Line::new(text, "", Decimal::ZERO, Decimal::ZERO, terms);
        let lines = seen.into_iter().map(line).collect::<Result<_, _>>();
        let lines = lines.map_err(|error| Failure::rejected("range", error.to_string()))?;
        Ok(Statement { lines })
    }
}

shoal_sdk::export_billing_rule!(Unsteady);

/// As many rounds of work as the order of a map says, so that the count of instructions tells of it too.
fn order_of_a_map() -> String {
    let map: HashMap<u32, u32> = (0..50).map(|n| (n, n * n)).collect();
    let order: Vec<String> = map.keys().map(u32::to_string).collect();
    let first: u32 = map.keys().next().copied().unwrap_or(0);
    let work = (0..first * 1000).fold(1u32, |sum, n| std::hint::black_box(sum.wrapping_mul(3) ^ n));
    format!("map {} {work}", order.join(" "))
}

fn order_of_a_set_that_grew() -> String {
    let mut set = HashSet::new();
    for n in 0..500u32 {
        set.insert(format!("host-{n}"));
        if n % 3 == 0 {
            set.remove(&format!("host-{}", n / 2));
        }
    }
    let order: Vec<&str> = set.iter().take(20).map(String::as_str).collect();
    format!("set {}", order.join(" "))
}

fn clocks() -> String {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let began = Instant::now();
    let work = (0..10_000u32).fold(1u32, |sum, n| std::hint::black_box(sum.wrapping_mul(5) ^ n));
    format!("clocks {wall:?} {:?} {work}", began.elapsed())
}

/// The payload of a NaN is the machine's choice, unless it is made canonical.
fn not_a_number() -> String {
    let zero = std::hint::black_box(0.0f64);
    let odd = f64::from_bits(0x7ff4_dead_0000_beef);
    let all = [
        zero / std::hint::black_box(zero),
        std::hint::black_box(odd) + 1.0,
        -std::hint::black_box(odd) * zero,
        (zero - 1.0).sqrt(),
        f64::INFINITY - std::hint::black_box(f64::INFINITY),
        std::hint::black_box(odd).max(zero),
    ];
    let bits: Vec<String> = all
        .iter()
        .map(|one| format!("{:x}", one.to_bits()))
        .collect();
    format!("nan {}", bits.join(" "))
}

/// Sums whose result depends on how many digits are kept between.
fn rounding() -> String {
    let sum = (1..1000u32).fold(0.0f64, |sum, n| {
        let x = std::hint::black_box(f64::from(n));
        sum + x.sqrt() / 3.0 * 1e-3 + (1.0 / x) * x
    });
    format!("sum {:x} {:x}", sum.to_bits(), (sum as f32).to_bits())
}
