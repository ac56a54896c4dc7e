//! Bodies like those of real senders, the same for the same arguments; for benchmarks and tests.
//!
//! A body is what a collector forwards from a fleet of web servers: one resource a host; metrics in families of four that
//! share their attribute sets, as instrumentation libraries make them; ten attributes a point, of which
//! one is a route (distinct within the host), one the host's address, and the others repeat. About 320 bytes a
//! point in protobuf's order of fields. All points are numbers: two counters, a gauge and an
//! up-down counter a family.

use crate::wire::Writer;

/// How much a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Number of the first host; other numbers are other series.
    pub first_host: u32,
    /// Hosts, each a resource of its own.
    pub hosts: u32,
    /// Metrics of each host.
    pub metrics: u32,
    /// Points of each metric, each a series of its own.
    pub points: u32,
}

/// Ten hosts with a thousand series each.
impl Default for Workload {
    fn default() -> Self {
        Workload {
            first_host: 0,
            hosts: 10,
            metrics: 20,
            points: 50,
        }
    }
}

impl Workload {
    /// How many series, and points, a body has.
    pub fn series(&self) -> u64 {
        u64::from(self.hosts) * u64::from(self.metrics) * u64::from(self.points)
    }
}

/// The body of an `ExportMetricsServiceRequest` in protobuf: one point for each series of `workload` at
/// `time_unix_nano`, of counters that began at `start_unix_nano`.
pub fn body(workload: &Workload, start_unix_nano: u64, time_unix_nano: u64) -> Vec<u8> {
    let mut request = Writer::default();
    for host in workload.first_host..workload.first_host + workload.hosts {
        let host = Host {
            name: format!("web-{host:05}"),
            number: host,
            start_unix_nano,
            time_unix_nano,
        };
        request.message(1, |resource_metrics| {
            host.write(workload, resource_metrics);
        });
    }
    request.finish()
}

const FAMILIES: [&str; 5] = [
    "http.server.request",
    "http.client.request",
    "rpc.server.call",
    "db.client.operation",
    "messaging.client.operation",
];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const TIERS: [&str; 3] = ["gold", "silver", "bronze"];
const STATUS_CODES: [u64; 4] = [200, 201, 404, 503];

/// What a metric of a family is.
#[derive(Clone, Copy)]
enum Member {
    Count,
    Time,
    Active,
    Size,
}

struct Host {
    name: String,
    number: u32,
    start_unix_nano: u64,
    time_unix_nano: u64,
}

impl Host {
    fn write(&self, workload: &Workload, message: &mut Writer) {
        message.message(1, |resource| {
            text_attribute(resource, 1, "service.name", "storefront");
            text_attribute(resource, 1, "service.namespace", "shop");
            text_attribute(resource, 1, "service.instance.id", &self.name);
            text_attribute(resource, 1, "host.name", &self.name);
            text_attribute(resource, 1, "host.arch", "amd64");
            text_attribute(resource, 1, "os.type", "linux");
            text_attribute(resource, 1, "telemetry.sdk.language", "rust");
        });
        message.message(2, |scope_metrics| {
            scope_metrics.message(1, |scope| {
                scope.bytes(1, b"storefront.instrumentation");
                scope.bytes(2, b"1.4.2");
            });
            for metric in 0..workload.metrics {
                scope_metrics.message(2, |message| self.write_metric(workload, metric, message));
            }
        });
    }

    fn write_metric(&self, workload: &Workload, number: u32, message: &mut Writer) {
        use Member::{Active, Count, Size, Time};
        let (family, member) = (number / 4, [Count, Time, Active, Size][number as usize % 4]);
        let (suffix, unit) = match member {
            Count => ("count", "{request}"),
            Time => ("time", "s"),
            Active => ("active", "{request}"),
            Size => ("queued", "By"),
        };
        let operation = FAMILIES[family as usize % FAMILIES.len()];
        let generation = family as usize / FAMILIES.len();
        message.bytes(1, format!("{operation}.v{generation}.{suffix}").as_bytes());
        message.bytes(3, unit.as_bytes());
        let data = match member {
            Active => 5,
            Count | Time | Size => 7,
        };
        message.message(data, |data| {
            for point in 0..workload.points {
                data.message(1, |message| {
                    self.write_point(operation, number, point, member, message);
                });
            }
            if !matches!(member, Active) {
                data.varint(2, 2);
            }
            if matches!(member, Count | Time) {
                data.varint(3, 1);
            }
        });
    }

    fn write_point(
        &self,
        operation: &str,
        metric: u32,
        point: u32,
        member: Member,
        message: &mut Writer,
    ) {
        let series = mix(u64::from(self.number) << 40 | u64::from(metric) << 20 | u64::from(point));
        message.fixed64(2, self.start_unix_nano);
        message.fixed64(3, self.time_unix_nano);
        let ran_ms = self.time_unix_nano.saturating_sub(self.start_unix_nano) / 1_000_000;
        let jitter = mix(series ^ self.time_unix_nano);
        let total = ran_ms * (1 + series % 50) / 1000 + jitter % 5;
        match member {
            Member::Count => message.fixed64(6, total),
            Member::Time => message.fixed64(4, (total as f64 * 0.037).to_bits()),
            Member::Active => message.fixed64(6, jitter % 200),
            Member::Size => message.fixed64(4, ((jitter % 4096) as f64 * 512.0).to_bits()),
        }
        let at = point as usize;
        let route = format!("/resources-{point}/items");
        text_attribute(message, 7, "app.operation", operation);
        text_attribute(message, 7, "client.tier", TIERS[at % 3]);
        text_attribute(message, 7, "cloud.region", "tokyo");
        text_attribute(message, 7, "http.request.method", METHODS[at % 4]);
        let status = STATUS_CODES[at / 4 % 4];
        int_attribute(message, 7, "http.response.status_code", status);
        text_attribute(message, 7, "http.route", &route);
        text_attribute(message, 7, "network.protocol.version", "1.1");
        text_attribute(message, 7, "server.address", &self.name);
        int_attribute(message, 7, "server.port", 8443);
        text_attribute(message, 7, "url.scheme", "https");
    }
}

fn text_attribute(message: &mut Writer, field: u64, name: &str, value: &str) {
    message.message(field, |attribute| {
        attribute.bytes(1, name.as_bytes());
        attribute.message(2, |any| any.bytes(1, value.as_bytes()));
    });
}

fn int_attribute(message: &mut Writer, field: u64, name: &str, value: u64) {
    message.message(field, |attribute| {
        attribute.bytes(1, name.as_bytes());
        attribute.message(2, |any| any.varint(3, value));
    });
}

/// Spreads numbers evenly (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
