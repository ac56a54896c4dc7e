//! Reading `/proc`: one function a file, and a pure one that parses it. What cannot be read is absent.

use std::fs::read_to_string;

/// The kernel counts CPU time in these, whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// The kernel counts disk sectors of this size, whatever the disk's own is.
const SECTOR_BYTES: u64 = 512;

/// Columns of `/proc/stat` after the CPU's name, as `cpu.mode` names them.
const CPU_MODES: [&str; 8] = [
    "user",
    "nice",
    "system",
    "idle",
    "iowait",
    "interrupt",
    "softirq",
    "steal",
];

/// Time that one CPU spent in one mode since boot.
#[derive(Debug, PartialEq)]
pub struct CpuTime {
    pub cpu: i64,
    pub mode: &'static str,
    pub seconds: f64,
}

pub fn cpu_times() -> Vec<CpuTime> {
    parse_cpu_times(&read_to_string("/proc/stat").unwrap_or_default())
}

fn parse_cpu_times(text: &str) -> Vec<CpuTime> {
    let mut times = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        // The line `cpu` is the sum of the lines `cpu0`, `cpu1`, …
        let Some(number) = words.next().and_then(|word| word.strip_prefix("cpu")) else {
            continue;
        };
        let Ok(cpu) = number.parse() else { continue };
        for (mode, ticks) in CPU_MODES.into_iter().zip(words) {
            if let Ok(ticks) = ticks.parse::<f64>() {
                times.push(CpuTime {
                    cpu,
                    mode,
                    seconds: ticks / TICKS_PER_SECOND,
                });
            }
        }
    }
    times
}

/// Averages over one, five and fifteen minutes.
pub fn load_averages() -> Option<[f64; 3]> {
    parse_load_averages(&read_to_string("/proc/loadavg").ok()?)
}

fn parse_load_averages(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_whitespace().map(str::parse);
    Some([
        words.next()?.ok()?,
        words.next()?.ok()?,
        words.next()?.ok()?,
    ])
}

/// Memory in bytes.
#[derive(Debug, PartialEq)]
pub struct Memory {
    pub total: i64,
    free: i64,
    buffers: i64,
    cached: i64,
}

impl Memory {
    /// States of `system.memory.state`; they add up to the total.
    pub fn by_state(&self) -> [(&'static str, i64); 4] {
        let used = self.total - self.free - self.buffers - self.cached;
        [
            ("used", used),
            ("free", self.free),
            ("buffers", self.buffers),
            ("cached", self.cached),
        ]
    }
}

pub fn memory() -> Option<Memory> {
    parse_memory(&read_to_string("/proc/meminfo").ok()?)
}

fn parse_memory(text: &str) -> Option<Memory> {
    let bytes = |wanted: &str| {
        let line = text
            .lines()
            .find(|line| line.split(':').next() == Some(wanted))?;
        let kibibytes: i64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(Memory {
        total: bytes("MemTotal")?,
        free: bytes("MemFree")?,
        buffers: bytes("Buffers")?,
        cached: bytes("Cached")? + bytes("SReclaimable").unwrap_or(0),
    })
}

/// What went through one disk since boot.
#[derive(Debug, PartialEq)]
pub struct Disk {
    pub name: String,
    pub read_bytes: u64,
    pub written_bytes: u64,
}

pub fn disks() -> Vec<Disk> {
    parse_disks(&read_to_string("/proc/diskstats").unwrap_or_default())
}

/// Disks that were used at least once, without loop and memory devices.
fn parse_disks(text: &str) -> Vec<Disk> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = (*words.get(2)?).to_owned();
        let read_bytes = words.get(5)?.parse::<u64>().ok()? * SECTOR_BYTES;
        let written_bytes = words.get(9)?.parse::<u64>().ok()? * SECTOR_BYTES;
        let is_disk = !["loop", "ram", "zram"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        let was_used = read_bytes + written_bytes > 0;
        (is_disk && was_used).then_some(Disk {
            name,
            read_bytes,
            written_bytes,
        })
    };
    text.lines().filter_map(parse).collect()
}

/// What went through one network interface since boot.
#[derive(Debug, PartialEq)]
pub struct Interface {
    pub name: String,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

pub fn interfaces() -> Vec<Interface> {
    parse_interfaces(&read_to_string("/proc/net/dev").unwrap_or_default())
}

fn parse_interfaces(text: &str) -> Vec<Interface> {
    let parse = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<&str> = numbers.split_whitespace().collect();
        Some(Interface {
            name: name.trim().to_owned(),
            received_bytes: numbers.first()?.parse().ok()?,
            sent_bytes: numbers.get(8)?.parse().ok()?,
        })
    };
    text.lines().filter_map(parse).collect()
}

pub fn host_name() -> String {
    let name = read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() {
        "localhost".to_owned()
    } else {
        name.trim().to_owned()
    }
}

/// A name that stays when the host's name changes.
pub fn machine_id() -> Option<String> {
    let id = read_to_string("/etc/machine-id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_and_mode_is_read_and_the_sum_of_cpus_is_not() {
        let times = parse_cpu_times("cpu 5 5\ncpu0 100 50 3\ncpu1 7\nintr 9\n");
        let read: Vec<_> = times
            .iter()
            .map(|time| (time.cpu, time.mode, time.seconds))
            .collect();
        assert_eq!(
            read,
            [
                (0, "user", 1.0),
                (0, "nice", 0.5),
                (0, "system", 0.03),
                (1, "user", 0.07)
            ]
        );
    }

    #[test]
    fn load_averages_are_the_first_three_words() {
        assert_eq!(
            parse_load_averages("1.10 1.39 1.23 3/116 29694\n"),
            Some([1.1, 1.39, 1.23])
        );
        assert_eq!(parse_load_averages("1.10 1.39"), None);
    }

    #[test]
    fn states_of_memory_add_up_to_the_total() {
        let text = "MemTotal: 1000 kB\nMemFree: 400 kB\nBuffers: 10 kB\nCached: 80 kB\nSReclaimable: 10 kB\n";
        let memory = parse_memory(text).expect("it is whole");
        assert_eq!(
            memory.by_state().map(|(_, bytes)| bytes / 1024),
            [500, 400, 10, 90]
        );
        assert_eq!(
            memory
                .by_state()
                .iter()
                .map(|(_, bytes)| bytes)
                .sum::<i64>(),
            memory.total
        );
    }

    #[test]
    fn unused_and_loop_devices_are_left_out() {
        let text = "7 0 loop0 1 0 8 0 1 0 8 0\n8 0 sda 1 0 8 0 1 0 16 0\n8 1 sdb 0 0 0 0 0 0 0 0\n";
        let sda = Disk {
            name: "sda".to_owned(),
            read_bytes: 4096,
            written_bytes: 8192,
        };
        assert_eq!(parse_disks(text), [sda]);
    }

    #[test]
    fn interfaces_are_read_below_the_two_lines_of_headings() {
        let text =
            "Inter-| Receive | Transmit\n face |bytes packets\n  lo: 10 1 0 0 0 0 0 0 20 1\n";
        let lo = Interface {
            name: "lo".to_owned(),
            received_bytes: 10,
            sent_bytes: 20,
        };
        assert_eq!(parse_interfaces(text), [lo]);
    }
}
