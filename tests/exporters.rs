//! The public OpenTelemetry exporters, as their users run them: what they send becomes series, over both transports,
//! compressed and not.
//!
//! The exporters are Python's, because nothing of ours is in them. `cargo xtask test` makes their environment.

use std::process::Command;

use serde_json::json;

use crate::support::{Database, Server, Tenant};

/// Sends one of each and ends; fails when a report was not taken.
const SCRIPT: &str = r#"
import os, sys
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader, MetricExportResult
from opentelemetry.sdk.resources import Resource

transport, endpoint, key, compressed = sys.argv[1:]
if transport == "grpc":
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    exporter = OTLPMetricExporter(
        endpoint=endpoint, insecure=True, headers=(("x-api-key", key),),
        compression=grpc.Compression.Gzip if compressed == "gzip" else grpc.Compression.NoCompression)
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    exporter = OTLPMetricExporter(
        endpoint=endpoint + "/v1/metrics", headers={"x-api-key": key},
        compression=Compression.Gzip if compressed == "gzip" else Compression.NoCompression)

taken = []
export = exporter.export
def remembering(*arguments, **named):
    result = export(*arguments, **named)
    taken.append(result)
    return result
exporter.export = remembering

provider = MeterProvider(
    resource=Resource.create({"service.name": "shop", "host.name": "web-1"}),
    metric_readers=[PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)])
meter = provider.get_meter("test")
meter.create_counter("orders", unit="{order}").add(3, {"kind": "new"})
meter.create_up_down_counter("queue.length").add(7)
meter.create_gauge("temperature", unit="Cel").set(21.5)
histogram = meter.create_histogram("latency", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
for value in (0.05, 0.5, 5.0):
    histogram.record(value)
provider.force_flush()
provider.shutdown()
if not taken or any(result is not MetricExportResult.SUCCESS for result in taken):
    sys.exit(f"not every report was taken: {taken}")
"#;

/// Runs the script against a tenant's receiver.
fn export(transport: &str, endpoint: &str, key: &str, compression: &str) {
    let python = std::env::var("SHOAL_TEST_PYTHON").expect(
        "this test needs a Python with the OTLP exporters: run it with `cargo xtask test --only road`, which makes one \
         and sets SHOAL_TEST_PYTHON",
    );
    let output = Command::new(python)
        .args(["-c", SCRIPT, transport, endpoint, key, compression])
        .env("OTEL_SDK_DISABLED", "false")
        .output()
        .expect("Python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{transport} {compression}: {said}");
}

async fn everything_arrived(tenant: &Tenant) {
    for (promql, wanted) in [
        ("orders_total{kind=\"new\", job=\"shop\"}", 3.0),
        ("queue_length{host_name=\"web-1\"}", 7.0),
        ("temperature_celsius", 21.5),
        ("latency_seconds_count", 3.0),
        ("latency_seconds_sum", 5.55),
        ("latency_seconds_bucket{le=\"0.1\"}", 1.0),
        ("latency_seconds_bucket{le=\"1\"}", 2.0),
        ("latency_seconds_bucket{le=\"+Inf\"}", 3.0),
    ] {
        let value = tenant.value_of(promql).await;
        let is_close = value.is_some_and(|value| (value - wanted).abs() < 1e-9);
        assert!(is_close, "{promql} is {value:?}, not {wanted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_public_exporters_send_becomes_series() {
    let server = Server::start(Database::sqlite()).await;
    server.approve("otlp").await;
    for (transport, listener) in [("http", "otlp_http"), ("grpc", "otlp_grpc")] {
        let endpoint = server.address(listener).expect("receivers have a port");
        for compression in ["none", "gzip"] {
            let tenant = server.tenant(&format!("{transport}-{compression}")).await;
            tenant.enable("otlp", json!({})).await;
            let (endpoint, key) = (endpoint.clone(), tenant.write.key().to_owned());
            tokio::task::spawn_blocking(move || export(transport, &endpoint, &key, compression))
                .await
                .expect("the exporter ends well");
            everything_arrived(&tenant).await;
        }
    }
    server.stop().await;
}
