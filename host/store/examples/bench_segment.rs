//! Measures the segment format by itself: bytes a sample by section, and the CPU time of writing, compacting and
//! reading, on generated sets. `cargo run --release -p shoal-store --example bench_segment`.
#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use std::error::Error;
use std::fs;
use std::path::Path;

use shoal_model::TenantId;
use shoal_model::labels::Labels;
use shoal_store::{MatchOp, Matcher, SegmentId, compact_segments, read_segment, write_segment};

type Series = (Labels, Vec<i64>, Vec<f64>);
type Set = (&'static str, Vec<Series>);

const TENANT: TenantId = TenantId(1);
const BEGIN_MS: i64 = 1_795_478_400_000;
const ALL: (i64, i64) = (i64::MIN, i64::MAX);

/// Numbers without a pattern, the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normally distributed around 0, with deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.part()).sum::<f64>() - 6.0
    }
}

fn labels(name: &str, number: usize) -> Labels {
    let instance = format!("host-{:03}:9100", number % 60);
    let member = format!("member-{}", number / 60);
    Labels::from_pairs([
        ("__name__", &format!("{name}_{}", number / 60 % 25)[..]),
        ("instance", &instance),
        ("job", "node"),
        ("member", &member),
    ])
}

/// One time vector for each of 60 exporters: a period with some jitter.
fn times(random: &mut Random, count: usize, period_ms: i64, jitter_ms: f64) -> Vec<Vec<i64>> {
    let vector = |random: &mut Random| {
        let phase = (random.part() * period_ms as f64) as i64;
        let time = |at: usize| BEGIN_MS + phase + at as i64 * period_ms;
        let mut times: Vec<i64> = (0..count)
            .map(|at| time(at) + (random.normal() * jitter_ms) as i64)
            .collect();
        times.sort_unstable();
        times.dedup();
        times
    };
    (0..60).map(|_| vector(random)).collect()
}

fn set(
    name: &'static str,
    series: usize,
    times: &[Vec<i64>],
    mut values: impl FnMut(usize, usize) -> Vec<f64>,
) -> Set {
    let one = |number: usize| {
        let times = times[number % times.len()].clone();
        let values = values(number, times.len());
        (labels(name, number), times, values)
    };
    (name, (0..series).map(one).collect())
}

fn sets() -> Vec<Set> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let jittered = times(&mut random, 2160, 10_000, 4.0);
    let steady = times(&mut random, 1440, 15_000, 0.0);
    let counters = set("counters", 1200, &jittered, |number, count| {
        let rate = 10f64.powf(-1.5 + 4.5 * (number as f64 / 1200.0));
        let mut total = 0.0;
        let step = |_| {
            total += (rate + random.normal() * rate.sqrt()).round().max(0.0);
            total
        };
        (0..count).map(step).collect()
    });
    let gauges = set("gauges", 600, &steady, |_, count| {
        let mut level = random.part() * 100.0;
        let step = |_| {
            level = (level + random.normal()).clamp(0.0, 100.0);
            (level * 100.0).round() / 100.0
        };
        (0..count).map(step).collect()
    });
    let constants = set("constants", 1200, &steady, |number, count| {
        vec![number as f64 / 4.0; count]
    });
    let bytes = set("bytes", 600, &steady, |_, count| {
        let mut pages = 1e6 * random.part();
        let step = |_| {
            pages = (pages + 50.0 * random.normal()).round().max(0.0);
            pages * 4096.0
        };
        (0..count).map(step).collect()
    });
    let floats = set("floats", 300, &steady, |_, count| {
        (0..count).map(|_| random.normal()).collect()
    });
    vec![counters, gauges, constants, bytes, floats]
}

/// CPU time of this thread, in seconds.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}

fn measure<T>(
    work: impl FnOnce() -> Result<T, Box<dyn Error>>,
) -> Result<(T, f64), Box<dyn Error>> {
    let begin = cpu_seconds()?;
    let result = work()?;
    Ok((result, cpu_seconds()? - begin))
}

/// Seconds of one of many reads, each with the segment's tables read anew: the clock ticks slowly.
fn measure_reads(path: &Path, matchers: &[Matcher]) -> Result<f64, Box<dyn Error>> {
    const READS: u32 = 50;
    let ((), seconds) = measure(|| {
        for _ in 0..READS {
            let read = read_segment(path, TENANT, matchers, ALL)?;
            assert!(read.damages.is_empty(), "it was just written");
        }
        Ok(())
    })?;
    Ok(seconds / f64::from(READS))
}

fn run(folder: &Path, (name, series): Set) -> Result<(), Box<dyn Error>> {
    let samples: usize = series.iter().map(|(_, times, _)| times.len()).sum();
    let per_second = |seconds: f64| samples as f64 / seconds / 1e6;
    let (young, seconds) = measure(|| Ok(write_segment(folder, SegmentId(1), TENANT, series)?))?;
    println!("{name}: {samples} samples");
    println!(
        "  store.{name}.young.bytes_per_sample = {:.3}",
        young.record.bytes as f64 / samples as f64
    );
    println!("  store.{name}.encode_msps = {:.1}", per_second(seconds));
    let source = folder.join(&young.record.file_name);
    let (dense, seconds) =
        measure(|| Ok(compact_segments(folder, SegmentId(2), &[source], (0, 1))?))?;
    println!(
        "  store.{name}.bytes_per_sample = {:.3}",
        dense.record.bytes as f64 / samples as f64
    );
    println!("  store.{name}.compact_msps = {:.1}", per_second(seconds));
    for (section, bytes) in &dense.bytes_by_section {
        if *bytes * 200 > dense.record.bytes {
            println!("    {section}: {:.4}", *bytes as f64 / samples as f64);
        }
    }
    for (kind, written) in [("young", &young), ("compacted", &dense)] {
        let path = folder.join(&written.record.file_name);
        let seconds = measure_reads(&path, &[])?;
        println!(
            "  store.{name}.{kind}.decode_msps = {:.1}",
            per_second(seconds)
        );
        let one = [
            Matcher::new("member", MatchOp::Equal, "member-0")?,
            Matcher::new("instance", MatchOp::Equal, "host-007:9100")?,
        ];
        let seconds = measure_reads(&path, &one)?;
        println!("  store.{name}.{kind}.select_one_ms = {:.3}", seconds * 1e3);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("shoal-bench-segment-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let done = sets().into_iter().try_for_each(|set| run(&folder, set));
    fs::remove_dir_all(&folder)?;
    done
}
