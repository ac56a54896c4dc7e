"""The public OTLP exporters of OpenTelemetry's Python SDK, and bare calls where an exporter would hide the answer.

Prints one JSON object: what the client saw. Called by tests/otlp.rs as

    client.py export   PROTOCOL ENDPOINT KEY COMPRESSION TIME_UNIX_NANO   every kind of point that the SDK has
    client.py measure  PROTOCOL ENDPOINT KEY COMPRESSION                  instruments of the SDK, as an application uses them
    client.py summary  ENDPOINT KEY TIME_UNIX_NANO                        a summary, which the SDK does not have
    client.py post     ENDPOINT KEY CONTENT_TYPE BYTES                    so many bytes of 0xff over HTTP
    client.py call     ENDPOINT KEY BYTES                                 the same over gRPC
"""

import json
import sys
import urllib.error
import urllib.request

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics._internal.point import Buckets
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
RESOURCE = Resource({"service.name": "shop", "host.id": "h-1", "host.name": "web-1", "process.pid": 42})
SCOPE = InstrumentationScope("test.scope", "1.2", attributes={"part": "tests"})
ATTRIBUTES = {"k": "v"}


def exporter(protocol, endpoint, headers, compression):
    if protocol == "http":
        chosen = Compression.Gzip if compression == "gzip" else Compression.NoCompression
        return HttpExporter(endpoint=f"{endpoint}/v1/metrics", headers=headers, compression=chosen, timeout=30)
    chosen = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
    return GrpcExporter(endpoint=endpoint, insecure=True, headers=headers, compression=chosen, timeout=30)


def metrics(time):
    start = time - 60_000_000_000

    def number(value):
        return [NumberDataPoint(ATTRIBUTES, start, time, value)]

    cumulative, delta = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA
    histogram = HistogramDataPoint(ATTRIBUTES, start, time, 6, 1.5, [1, 2, 3], [0.1, 1.0], 0.05, 2.0)
    exponential = ExponentialHistogramDataPoint(
        ATTRIBUTES, start, time, 4, 20.0, 0, 1, Buckets(1, [2, 1]), Buckets(0, []), 0, 0.0, 7.0
    )
    return [
        Metric("temperature", "", "Cel", Gauge(number(21.5))),
        Metric("threads", "", "", Gauge(number(12))),
        Metric("requests", "", "1", Sum(number(42), cumulative, True)),
        Metric("data.sent", "", "By", Sum(number(1000), delta, True)),
        Metric("queue.length", "", "", Sum(number(-7), cumulative, False)),
        Metric("latency", "", "s", Histogram([histogram], cumulative)),
        Metric("size", "", "By", ExponentialHistogram([exponential], delta)),
    ]


def export(protocol, endpoint, key, compression, time):
    scope = ScopeMetrics(SCOPE, metrics(int(time)), "")
    data = MetricsData([ResourceMetrics(RESOURCE, [scope], "")])
    headers = {"authorization": f"Bearer {key}"}
    result = exporter(protocol, endpoint, headers, compression).export(data)
    return {"result": result.name}


def measure(protocol, endpoint, key, compression):
    results = []
    sender = exporter(protocol, endpoint, {"x-api-key": key}, compression)
    send_metrics = sender.export

    def watched(*arguments, **named):
        result = send_metrics(*arguments, **named)
        results.append(result.name)
        return result

    sender.export = watched
    reader = PeriodicExportingMetricReader(sender, export_interval_millis=3_600_000)
    provider = MeterProvider(resource=RESOURCE, metric_readers=[reader], shutdown_on_exit=False)
    meter = provider.get_meter("test.meter")
    shop = {"shop": f"{protocol}-{compression}"}
    meter.create_counter("orders", unit="{order}").add(3, shop)
    meter.create_up_down_counter("carts").add(-2, shop)
    meter.create_gauge("outside", unit="Cel").set(21.5, shop)
    checkout = meter.create_histogram("checkout", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
    for seconds in (0.05, 0.5, 5.0):
        checkout.record(seconds, shop)
    provider.force_flush()
    provider.shutdown()
    refused = [result for result in results if result != "SUCCESS"]
    return {"result": refused[0] if refused else "SUCCESS" if results else "NOTHING", "reports": len(results)}


def summary(endpoint, key, time):
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "rpc"
    point = metric.summary.data_points.add()
    point.time_unix_nano = int(time)
    point.count = 10
    point.sum = 30.0
    for quantile, value in [(0.5, 3.0), (0.99, 9.0)]:
        point.quantile_values.add(quantile=quantile, value=value)
    return send(endpoint, key, "application/x-protobuf", request.SerializeToString())


def post(endpoint, key, content_type, size):
    return send(endpoint, key, content_type, b"\xff" * int(size))


def send(endpoint, key, content_type, body):
    headers = {"authorization": f"Bearer {key}", "content-type": content_type}
    request = urllib.request.Request(f"{endpoint}/v1/metrics", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return {"status": answer.status}
    except urllib.error.HTTPError as error:
        body, form = error.read(), error.headers["content-type"]
        if form == "application/x-protobuf":
            message = Status.FromString(body).message
        else:
            message = json.loads(body)["message"]
        return {
            "status": error.code,
            "content_type": form,
            "message": message,
            "retry_after": error.headers["retry-after"],
        }


def call(endpoint, key, size):
    with grpc.insecure_channel(endpoint.removeprefix("http://")) as channel:
        method = channel.unary_unary(METHOD)
        try:
            method(b"\xff" * int(size), metadata=[("authorization", f"Bearer {key}")], timeout=30)
            return {"code": "OK"}
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            retry = trailers.get("google.rpc.retryinfo-bin")
            status = Status.FromString(trailers.get("grpc-status-details-bin", b""))
            return {
                "code": error.code().name,
                "message": error.details(),
                "retry_seconds": RetryInfo.FromString(retry).retry_delay.seconds if retry else None,
                "details": [detail.type_url for detail in status.details],
            }


COMMANDS = {"export": export, "measure": measure, "summary": summary, "post": post, "call": call}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
