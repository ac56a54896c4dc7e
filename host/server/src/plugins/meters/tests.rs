//! What is added up, written, and written again.

use super::*;
use crate::db::plugins::tests::version;

const NOW: Timestamp = Timestamp(1_795_478_400_000);

fn report(cpu_us: u64, contacted: &[&str]) -> CallReport {
    CallReport {
        duration: Duration::from_millis(5),
        cpu: Duration::from_micros(cpu_us),
        memory_peak_bytes: 7,
        contacted: contacted.iter().map(|host| (*host).to_owned()).collect(),
        ..CallReport::default()
    }
}

#[test]
fn what_could_not_be_written_is_written_whole_next_time() {
    let (meters, version) = (Meters::default(), version("sha256:a", "p"));
    let call = |cpu_us| meters.called(&version, TenantId(2), NOW, "done", &report(cpu_us, &[]));
    call(300);
    let first = meters.take_uses(NOW);
    assert_eq!((first[0].calls, first[0].cpu_us), (1, 300));
    assert_eq!(meters.take_uses(NOW), []);
    call(400);
    let second = meters.take_uses(NOW);
    assert_eq!((second[0].calls, second[0].cpu_us), (2, 700));
    meters.put_back_uses(&second);
    assert_eq!(meters.take_uses(NOW), second);
    let later = NOW + Duration::from_secs(5 * 3600);
    assert_eq!(meters.take_uses(later), []);
    meters.put_back_uses(&second);
    assert_eq!(
        meters.take_uses(later),
        second,
        "even when it was forgotten"
    );
}

#[test]
fn calls_without_room_are_counted_and_cost_nothing() {
    let (meters, version) = (Meters::default(), version("sha256:a", "p"));
    meters.called(&version, TenantId(2), NOW, "busy", &CallReport::default());
    meters.refused(&version, "breaker-open");
    assert_eq!(meters.take_uses(NOW), []);
    let wanted = BTreeMap::from([("breaker-open", 1), ("busy", 1)]);
    assert_eq!(meters.outcomes("sha256:a"), wanted);
}

#[test]
fn metrics_tell_versions_apart_and_no_tenants() {
    let (meters, observe) = (Meters::default(), Observe::default());
    for tenant in [2, 3] {
        let version = version("sha256:a", "p");
        meters.called(
            &version,
            TenantId(tenant),
            NOW,
            "done",
            &report(500_000, &[]),
        );
    }
    meters.publish(&observe);
    let samples = observe.samples(NOW);
    let value = |name: &str, label: (&str, &str)| {
        let found = samples.iter().find(|sample| {
            sample.labels.metric_name() == Some(name) && sample.labels.get(label.0) == Some(label.1)
        });
        found.map(|sample| sample.value)
    };
    assert!(
        samples
            .iter()
            .all(|sample| sample.labels.get("tenant").is_none())
    );
    assert_eq!(
        value("shoal_plugin_calls_total", ("outcome", "done")),
        Some(2.0)
    );
    assert_eq!(
        value("shoal_plugin_cpu_seconds_total", ("version", "1.0.0")),
        Some(1.0)
    );
    let bucket = "shoal_plugin_duration_seconds_bucket";
    assert_eq!(value(bucket, ("le", "0.001")), Some(0.0));
    assert_eq!(value(bucket, ("le", "0.01")), Some(2.0));
    assert_eq!(value(bucket, ("le", "+Inf")), Some(2.0));
}

#[test]
fn components_of_the_same_version_are_added_up_and_never_count_down() {
    let (meters, observe) = (Meters::default(), Observe::default());
    let mut seen = Vec::new();
    for digest in ["sha256:a", "sha256:b", "sha256:c", "sha256:a"] {
        let version = version(digest, "p");
        meters.called(&version, TenantId(2), NOW, "done", &report(500_000, &[]));
        meters.publish(&observe);
        let samples = observe.samples(NOW);
        let of = |name: &str| {
            let mut found = samples
                .iter()
                .filter(|sample| sample.labels.metric_name() == Some(name));
            let value = found.next().map(|sample| sample.value);
            assert!(found.next().is_none(), "{name} has several series");
            value
        };
        seen.push((
            of("shoal_plugin_calls_total"),
            of("shoal_plugin_duration_seconds_count"),
            of("shoal_plugin_cpu_seconds_total"),
            of("shoal_plugin_memory_peak_bytes"),
        ));
    }
    let wanted =
        [1.0, 2.0, 3.0, 4.0].map(|calls| (Some(calls), Some(calls), Some(calls / 2.0), Some(7.0)));
    assert_eq!(seen, wanted);
}

#[test]
fn contacts_are_counted_by_tenant_day_and_host() {
    let (meters, version) = (Meters::default(), version("sha256:a", "p"));
    for _ in 0..3 {
        meters.called(
            &version,
            TenantId(2),
            NOW,
            "done",
            &report(1, &["a:443", "b:80"]),
        );
    }
    let refused = CallReport {
        refused: vec![shoal_runtime::RefusedContact {
            wanted: "http GET c:443".to_owned(),
            reason: "as the test says".to_owned(),
        }],
        ..CallReport::default()
    };
    meters.called(&version, TenantId(2), NOW, "rejected", &refused);
    let rows = meters.take_contacts();
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.host.as_str(), row.contacts, row.refused))
        .collect();
    assert_eq!(
        shown,
        [("a:443", 3, 0), ("b:80", 3, 0), ("http GET c:443", 0, 1)]
    );
    assert_eq!(rows[0].day, NOW.0 / DAY_MS);
    meters.put_back_contacts(rows.clone());
    assert_eq!(meters.take_contacts(), rows);
}
