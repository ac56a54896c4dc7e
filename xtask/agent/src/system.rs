//! The instruments: names, units and attributes of the OpenTelemetry semantic conventions for systems.
//!
//! Each instrument reads `/proc` when the SDK collects. What this machine does not have (a container without disks)
//! yields no points.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::proc;

/// Registers all instruments.
pub fn observe(provider: &SdkMeterProvider) {
    let meter = provider.meter("demo-agent");
    cpu(&meter);
    memory(&meter);
    disk(&meter);
    network(&meter);
}

fn cpu(meter: &Meter) {
    meter
        .f64_observable_counter("system.cpu.time")
        .with_unit("s")
        .with_description("Seconds each logical CPU spent in each mode")
        .with_callback(|observer| {
            for time in proc::cpu_times() {
                let attributes = [
                    KeyValue::new("cpu.logical_number", time.cpu),
                    KeyValue::new("cpu.mode", time.mode),
                ];
                observer.observe(time.seconds, &attributes);
            }
        })
        .build();
    let loads = [
        "system.cpu.load_average.1m",
        "system.cpu.load_average.5m",
        "system.cpu.load_average.15m",
    ];
    for (at, name) in loads.into_iter().enumerate() {
        meter
            .f64_observable_gauge(name)
            .with_unit("{thread}")
            .with_description("Threads running or waiting to run, on average")
            .with_callback(move |observer| {
                if let Some(averages) = proc::load_averages() {
                    observer.observe(averages[at], &[]);
                }
            })
            .build();
    }
}

fn memory(meter: &Meter) {
    meter
        .i64_observable_up_down_counter("system.memory.usage")
        .with_unit("By")
        .with_description("Memory by what it is used for")
        .with_callback(|observer| {
            for (state, bytes) in proc::memory()
                .into_iter()
                .flat_map(|memory| memory.by_state())
            {
                observer.observe(bytes, &[KeyValue::new("system.memory.state", state)]);
            }
        })
        .build();
    meter
        .f64_observable_gauge("system.memory.utilization")
        .with_unit("1")
        .with_description("Share of memory by what it is used for")
        .with_callback(|observer| {
            let Some(memory) = proc::memory() else { return };
            for (state, bytes) in memory.by_state() {
                let share = bytes as f64 / memory.total as f64;
                observer.observe(share, &[KeyValue::new("system.memory.state", state)]);
            }
        })
        .build();
}

fn disk(meter: &Meter) {
    meter
        .u64_observable_counter("system.disk.io")
        .with_unit("By")
        .with_description("Bytes read from and written to each disk")
        .with_callback(|observer| {
            for disk in proc::disks() {
                for (direction, bytes) in [("read", disk.read_bytes), ("write", disk.written_bytes)]
                {
                    let attributes = [
                        KeyValue::new("system.device", disk.name.clone()),
                        KeyValue::new("disk.io.direction", direction),
                    ];
                    observer.observe(bytes, &attributes);
                }
            }
        })
        .build();
}

fn network(meter: &Meter) {
    meter
        .u64_observable_counter("system.network.io")
        .with_unit("By")
        .with_description("Bytes received and sent by each interface")
        .with_callback(|observer| {
            for interface in proc::interfaces() {
                let directions = [
                    ("receive", interface.received_bytes),
                    ("transmit", interface.sent_bytes),
                ];
                for (direction, bytes) in directions {
                    let attributes = [
                        KeyValue::new("network.interface.name", interface.name.clone()),
                        KeyValue::new("network.io.direction", direction),
                    ];
                    observer.observe(bytes, &attributes);
                }
            }
        })
        .build();
}
