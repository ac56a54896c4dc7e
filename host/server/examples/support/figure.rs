//! How benchmarks tell their figures: one JSON object a line.

use serde_json::json;

/// Prints a figure. `samples` says how many measurements are in it.
pub(crate) fn tell(name: &str, value: f64, unit: &str, samples: u64) {
    let machine = machine();
    let figure = json!({
        "name": name,
        "value": value,
        "unit": unit,
        "samples": samples,
        "machine": machine,
    });
    println!("{figure}");
}

/// Processors and their model, as the system names them.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    let model = models.first().copied().unwrap_or("unknown");
    format!("{} x {model}", models.len())
}
