//! Telemetry made from a seed: what OTLP exporters send, with the jitter of real ones.

use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;

use crate::data::{BEGUN_MS, Dataset, Series};

const EXPORTERS: u64 = 60;
const SERIES_PER_EXPORTER: u64 = 20;
const INTERVAL_MS: i64 = 10_000;
/// Six hours.
const POINTS: usize = 2_160;

/// Counters of requests at rates from one in five minutes to a hundred a second.
pub(crate) fn counters() -> Dataset {
    Dataset {
        about: "jittered counters".to_owned(),
        suffix: "_counters",
        series: series(0x5eed_0001, |_| Shape::Counter),
    }
}

/// What an instrumented service sends: four tenths counters, two tenths each sums of durations and buckets, a tenth
/// each gauges of bytes and noisy gauges.
pub(crate) fn mixed() -> Dataset {
    Dataset {
        about: "mixed OTLP".to_owned(),
        suffix: "_mixed",
        series: series(0x5eed_0002, |at| match at % 10 {
            0..4 => Shape::Counter,
            4..6 => Shape::DurationSum,
            6..8 => Shape::Bucket,
            8 => Shape::Bytes,
            _ => Shape::Noise,
        }),
    }
}

#[derive(Clone, Copy)]
enum Shape {
    Counter,
    DurationSum,
    Bucket,
    Bytes,
    Noise,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Shape::Counter => "http_server_requests_total",
            Shape::DurationSum => "http_server_request_duration_seconds_sum",
            Shape::Bucket => "http_server_request_duration_seconds_bucket",
            Shape::Bytes => "process_memory_usage_bytes",
            Shape::Noise => "process_cpu_utilization_ratio",
        }
    }

    fn kind(self) -> MetricKind {
        match self {
            Shape::Counter | Shape::DurationSum | Shape::Bucket => MetricKind::Counter,
            Shape::Bytes | Shape::Noise => MetricKind::Gauge,
        }
    }

    fn values(self, random: &mut Random) -> Vec<f64> {
        // Events in an interval.
        let rate = 10f64.powf(random.unit() * 4.5 - 1.5);
        let mut value = match self {
            Shape::Bytes => 4096.0 * (random.unit() * 65_536.0).floor(),
            Shape::Noise => 0.5,
            _ => 0.0,
        };
        let mut next = || {
            match self {
                Shape::Counter | Shape::Bucket => value += random.poisson(rate),
                Shape::DurationSum => {
                    let events = random.poisson(rate);
                    value += events * 0.02 * (0.5 + random.unit());
                }
                Shape::Bytes => {
                    value = (value + 4096.0 * (random.normal() * 20.0).round()).max(0.0);
                }
                Shape::Noise => value = (value + random.normal() * 0.01).clamp(0.0, 1.0),
            }
            value
        };
        (0..POINTS).map(|_| next()).collect()
    }
}

fn series(seed: u64, shape: impl Fn(u64) -> Shape) -> Vec<Series> {
    let mut random = Random(seed);
    let mut series = Vec::new();
    for exporter in 0..EXPORTERS {
        let times_ms = times(&mut random);
        for at in 0..SERIES_PER_EXPORTER {
            let shape = shape(at);
            let labels = Labels::from_pairs([
                ("__name__", shape.name()),
                ("job", "shop/checkout"),
                ("instance", &format!("checkout-{exporter}")),
                ("http_request_method", ["GET", "POST"][at as usize % 2]),
                ("http_route", &format!("/api/v1/items/{at}")),
                (
                    "le",
                    if matches!(shape, Shape::Bucket) {
                        "0.25"
                    } else {
                        ""
                    },
                ),
            ]);
            series.push(Series {
                labels,
                kind: shape.kind(),
                times_ms: times_ms.clone(),
                values: shape.values(&mut random),
            });
        }
    }
    series
}

/// When an exporter sends: every ten seconds by a clock that is a little fast, each time a few milliseconds late.
fn times(random: &mut Random) -> Vec<i64> {
    let offset = (random.unit() * INTERVAL_MS as f64 / 2.0) as i64;
    let drift = random.unit() * 0.2;
    (0..POINTS)
        .map(|point| {
            let late = (random.normal().abs() * 3.0 - drift * point as f64) as i64;
            BEGUN_MS + offset + 1_000 + point as i64 * INTERVAL_MS + late
        })
        .collect()
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Of [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Exact for small rates; beyond, the normal distribution is as good.
    fn poisson(&mut self, rate: f64) -> f64 {
        if rate > 30.0 {
            return (rate + rate.sqrt() * self.normal()).round().max(0.0);
        }
        let end = (-rate).exp();
        let (mut events, mut product) = (0.0, self.unit());
        while product > end {
            events += 1.0;
            product *= self.unit();
        }
        events
    }
}
