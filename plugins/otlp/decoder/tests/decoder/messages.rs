//! Short ways to build OTLP's messages, and their JSON form.

pub(crate) use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
pub(crate) use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
pub(crate) use opentelemetry_proto::tonic::metrics::v1::metric::Data;
pub(crate) use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
pub(crate) use opentelemetry_proto::tonic::metrics::v1::*;
use opentelemetry_proto::tonic::resource::v1::Resource;

pub(crate) const DELTA: i32 = 1;
pub(crate) const CUMULATIVE: i32 = 2;

pub(crate) fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

pub(crate) fn text(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

pub(crate) fn array(values: Vec<Value>) -> Value {
    let values = values.into_iter().map(any).collect();
    Value::ArrayValue(ArrayValue { values })
}

pub(crate) fn list(values: Vec<(&str, Value)>) -> Value {
    let values = values.into_iter().map(|(k, v)| attribute(k, v)).collect();
    Value::KvlistValue(KeyValueList { values })
}

pub(crate) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

pub(crate) fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(k, v)| attribute(k, text(v))).collect()
}

pub(crate) fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        description: "skipped".to_owned(),
        unit: unit.to_owned(),
        metadata: attributes(&[("skipped", "too")]),
        data: Some(data),
    }
}

pub(crate) fn point(pairs: &[(&str, &str)], time: u64, value: Number) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(pairs),
        start_time_unix_nano: 1,
        time_unix_nano: time,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

pub(crate) fn gauge(points: Vec<NumberDataPoint>) -> Data {
    let data_points = points;
    Data::Gauge(Gauge { data_points })
}

pub(crate) fn sum(temporality: i32, is_monotonic: bool, points: Vec<NumberDataPoint>) -> Data {
    Data::Sum(Sum {
        data_points: points,
        aggregation_temporality: temporality,
        is_monotonic,
    })
}

pub(crate) fn histogram(temporality: i32, points: Vec<HistogramDataPoint>) -> Data {
    Data::Histogram(Histogram {
        data_points: points,
        aggregation_temporality: temporality,
    })
}

pub(crate) fn exponential(temporality: i32, points: Vec<ExponentialHistogramDataPoint>) -> Data {
    Data::ExponentialHistogram(ExponentialHistogram {
        data_points: points,
        aggregation_temporality: temporality,
    })
}

pub(crate) fn scope_metrics(name: &str, version: &str, metrics: Vec<Metric>) -> ScopeMetrics {
    ScopeMetrics {
        scope: Some(InstrumentationScope {
            name: name.to_owned(),
            version: version.to_owned(),
            ..InstrumentationScope::default()
        }),
        metrics,
        schema_url: String::new(),
    }
}

pub(crate) fn resource_metrics(
    attributes: Vec<KeyValue>,
    scope_metrics: Vec<ScopeMetrics>,
) -> ResourceMetrics {
    ResourceMetrics {
        resource: Some(Resource {
            attributes,
            ..Resource::default()
        }),
        scope_metrics,
        schema_url: "https://example.com/skipped".to_owned(),
    }
}

/// A request of one resource and one scope without attributes.
pub(crate) fn request(metrics: Vec<Metric>) -> Request {
    let resource_metrics = vec![resource_metrics(
        Vec::new(),
        vec![scope_metrics("", "", metrics)],
    )];
    Request { resource_metrics }
}

/// A request with every type of data, value and field that the decoder reads.
pub(crate) fn everything() -> Request {
    let mut scope = scope_metrics("lib", "1.2", all_shapes());
    scope.schema_url = "https://example.com/1".to_owned();
    let own = scope.scope.as_mut().expect("set above");
    own.attributes = attributes(&[("name", "dropped"), ("team", "core")]);
    let resource = vec![
        attribute("service.name", text("shop")),
        attribute("bool", Value::BoolValue(true)),
        attribute("int", Value::IntValue(-7)),
        attribute("double", Value::DoubleValue(0.5)),
        attribute("bytes", Value::BytesValue(vec![0xfb, 0xff])),
        attribute(
            "array",
            array(vec![
                text("a\"b"),
                Value::IntValue(1),
                Value::DoubleValue(f64::NAN),
                Value::BytesValue(vec![1]),
                array(Vec::new()),
            ]),
        ),
        attribute(
            "list",
            list(vec![
                ("k", Value::BoolValue(false)),
                ("l", list(Vec::new())),
            ]),
        ),
    ];
    Request {
        resource_metrics: vec![
            resource_metrics(resource, vec![scope]),
            resource_metrics(
                attributes(&[("service.name", "other")]),
                vec![scope_metrics(
                    "",
                    "",
                    vec![metric(
                        "up",
                        "",
                        gauge(vec![point(&[], 9, Number::AsInt(1))]),
                    )],
                )],
            ),
        ],
    }
}

fn all_shapes() -> Vec<Metric> {
    let a = &[("a", "1")][..];
    let ab = &[("a", "1"), ("b", "é")][..];
    let mut gone = point(a, 6, Number::AsInt(0));
    gone.value = None;
    gone.flags = 1;
    let int = |value| vec![point(ab, 5, Number::AsInt(value))];
    vec![
        metric(
            "temp",
            "Cel",
            gauge(vec![
                point(a, 5, Number::AsDouble(-1.5)),
                point(ab, 5, Number::AsInt(3)),
                gone,
            ]),
        ),
        metric("requests", "1", sum(CUMULATIVE, true, int(i64::MAX))),
        metric("active", "", sum(CUMULATIVE, false, int(-2))),
        metric("added", "By", sum(DELTA, true, int(2))),
        metric("moved", "By", sum(DELTA, false, int(-3))),
        metric(
            "latency",
            "s",
            histogram(CUMULATIVE, vec![explicit_point()]),
        ),
        metric(
            "empty",
            "s",
            histogram(
                DELTA,
                vec![HistogramDataPoint {
                    time_unix_nano: 5,
                    count: 4,
                    ..HistogramDataPoint::default()
                }],
            ),
        ),
        metric(
            "spread",
            "s",
            exponential(CUMULATIVE, vec![exponential_point(3)]),
        ),
        metric(
            "quantiles",
            "s",
            Data::Summary(Summary {
                data_points: vec![SummaryDataPoint {
                    attributes: attributes(ab),
                    start_time_unix_nano: 1,
                    time_unix_nano: 5,
                    count: 10,
                    sum: 12.5,
                    quantile_values: vec![quantile(0.5, 1.0), quantile(1.0, 4.0)],
                    flags: 0,
                }],
            }),
        ),
    ]
}

pub(crate) fn quantile(quantile: f64, value: f64) -> summary_data_point::ValueAtQuantile {
    summary_data_point::ValueAtQuantile { quantile, value }
}

pub(crate) fn explicit_point() -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes(&[("a", "1"), ("b", "é")]),
        start_time_unix_nano: 1,
        time_unix_nano: 5,
        count: 6,
        sum: Some(7.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, 1.0],
        exemplars: vec![Exemplar {
            time_unix_nano: 4,
            trace_id: vec![0xAB; 16],
            ..Exemplar::default()
        }],
        flags: 0,
        min: Some(0.1),
        max: Some(3.5),
    }
}

pub(crate) fn exponential_point(scale: i32) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        attributes: attributes(&[("a", "1")]),
        start_time_unix_nano: 1,
        time_unix_nano: 5,
        count: 12,
        sum: Some(3.25),
        scale,
        zero_count: 2,
        positive: Some(exponential_histogram_data_point::Buckets {
            offset: -1,
            bucket_counts: vec![1, 2, 300],
        }),
        negative: Some(exponential_histogram_data_point::Buckets {
            offset: 4,
            bucket_counts: vec![4],
        }),
        zero_threshold: 0.25,
        ..ExponentialHistogramDataPoint::default()
    }
}
