//! The JSON form gives what the protobuf form gives, and names the path of what is wrong.

use shoal_otlp_decoder::{DecodeError, Decoder, decode_json};

use crate::consistency::check;
use crate::golden::everything_lines;
use crate::readable::lines;

/// The same as [`crate::messages::everything`], in the shape of the OTLP repository's examples.
const EVERYTHING: &str = r#"{
  "resourceMetrics": [
    {
      "resource": {
        "attributes": [
          {"key": "service.name", "value": {"stringValue": "shop"}},
          {"key": "bool", "value": {"boolValue": true}},
          {"key": "int", "value": {"intValue": "-7"}},
          {"key": "double", "value": {"doubleValue": 0.5}},
          {"key": "bytes", "value": {"bytesValue": "-_8"}},
          {"value": {"arrayValue": {"values": [
            {"stringValue": "a\"b"}, {"intValue": 1}, {"doubleValue": "NaN"}, {"bytesValue": "AQ=="},
            {"arrayValue": {}}
          ]}}, "key": "array"},
          {"key": "list", "value": {"kvlistValue": {"values": [
            {"value": {"boolValue": false}, "key": "k"},
            {"key": "l", "value": {"kvlistValue": {"values": []}}}
          ]}}}
        ],
        "droppedAttributesCount": 0
      },
      "scopeMetrics": [
        {
          "scope": {
            "name": "lib",
            "version": "1.2",
            "attributes": [
              {"key": "name", "value": {"stringValue": "dropped"}},
              {"key": "team", "value": {"stringValue": "core"}}
            ]
          },
          "metrics": [
            {
              "name": "temp", "unit": "Cel", "description": "skipped",
              "gauge": {"dataPoints": [
                {
                  "attributes": [{"key": "a", "value": {"stringValue": "1"}}],
                  "startTimeUnixNano": "1", "timeUnixNano": "5", "asDouble": -1.5
                },
                {
                  "asInt": "3", "timeUnixNano": 5, "startTimeUnixNano": 1,
                  "attributes": [
                    {"key": "a", "value": {"stringValue": "1"}}, {"key": "b", "value": {"stringValue": "\u00e9"}}
                  ]
                },
                {
                  "attributes": [{"key": "a", "value": {"stringValue": "1"}}],
                  "startTimeUnixNano": "1", "timeUnixNano": "6", "flags": 1, "asDouble": null
                }
              ]}
            },
            {
              "sum": {
                "dataPoints": [{"attributes": AB, "startTimeUnixNano": "1", "timeUnixNano": "5", "asInt": "9223372036854775807"}],
                "aggregationTemporality": 2, "isMonotonic": true
              },
              "name": "requests", "unit": "1"
            },
            {
              "name": "active",
              "sum": {
                "aggregationTemporality": 2,
                "dataPoints": [{"attributes": AB, "startTimeUnixNano": "1", "timeUnixNano": "5", "asInt": -2}]
              }
            },
            {
              "name": "added", "unit": "By",
              "sum": {
                "aggregationTemporality": 1, "isMonotonic": true,
                "dataPoints": [{"attributes": AB, "startTimeUnixNano": "1", "timeUnixNano": "5", "asInt": 2}]
              }
            },
            {
              "name": "moved", "unit": "By",
              "sum": {
                "aggregationTemporality": 1, "isMonotonic": false,
                "dataPoints": [{"attributes": AB, "startTimeUnixNano": "1", "timeUnixNano": "5", "asInt": "-3"}]
              }
            },
            {
              "name": "latency", "unit": "s",
              "histogram": {
                "aggregationTemporality": 2,
                "dataPoints": [{
                  "attributes": AB, "startTimeUnixNano": "1", "timeUnixNano": "5",
                  "count": "6", "sum": 7.5, "min": 0.1, "max": 3.5,
                  "bucketCounts": ["1", 2, "3"], "explicitBounds": [0.5, 1],
                  "exemplars": [{"timeUnixNano": "4", "asDouble": 1, "traceId": "5B8efff798038103D269b633813fc60c", "spanId": "eee19b7ec3c1b174"}]
                }]
              }
            },
            {
              "name": "empty", "unit": "s",
              "histogram": {"aggregationTemporality": 1, "dataPoints": [{"timeUnixNano": "5", "count": 4}]}
            },
            {
              "name": "spread", "unit": "s",
              "exponentialHistogram": {
                "aggregationTemporality": 2,
                "dataPoints": [{
                  "attributes": [{"key": "a", "value": {"stringValue": "1"}}],
                  "startTimeUnixNano": "1", "timeUnixNano": "5", "count": "12", "sum": 3.25, "scale": 3,
                  "zeroCount": "2", "zeroThreshold": 0.25,
                  "negative": {"offset": 4, "bucketCounts": ["4"]},
                  "positive": {"bucketCounts": ["1", "2", "300"], "offset": -1}
                }]
              }
            },
            {
              "name": "quantiles", "unit": "s",
              "summary": {"dataPoints": [{
                "attributes": AB, "startTimeUnixNano": "1", "timeUnixNano": "5", "count": "10", "sum": 12.5,
                "quantileValues": [{"quantile": 0.5, "value": 1}, {"quantile": 1, "value": 4}]
              }]}
            },
            {"name": "of a later version of OTLP", "sketch": {"dataPoints": [{"timeUnixNano": "5"}]}}
          ],
          "schemaUrl": "https://example.com/1"
        }
      ],
      "unknown": [{"a": [1, 2.5e-3, true, false, null, "\ud83d\ude00"]}, {}, []]
    },
    {
      "scopeMetrics": [
        {"metrics": [
          {"name": "up", "gauge": {"dataPoints": [{"startTimeUnixNano": 1, "timeUnixNano": 9, "asInt": 1}]}}
        ]}
      ],
      "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "other"}}]}
    }
  ]
}"#;

pub(crate) fn everything() -> String {
    const AB: &str = r#"[{"key": "a", "value": {"stringValue": "1"}}, {"key": "b", "value": {"stringValue": "é"}}]"#;
    EVERYTHING.replace("AB", AB)
}

#[test]
fn every_type_of_data_and_value_arrives_as_from_protobuf() {
    let mut decoder = Decoder::default();
    let decoded = decode_json(everything().as_bytes(), &mut decoder).expect("good JSON");
    check(decoder.columns());
    assert_eq!(lines(decoder.columns()), everything_lines());
    assert_eq!((decoded.points, decoded.rejected_points), (12, 0));
}

#[test]
fn absent_members_and_null_are_no_fault() {
    for body in [
        "{}",
        " {\"resourceMetrics\": null} ",
        r#"{"resourceMetrics": [{}, {"resource": {}, "scopeMetrics": [{"scope": {}, "metrics": [{}]}]}]}"#,
        r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {}}]}]}]}"#,
    ] {
        let mut decoder = Decoder::default();
        let decoded = decode_json(body.as_bytes(), &mut decoder).expect(body);
        assert_eq!((decoded.points, decoded.rejected_points), (0, 0), "{body}");
        assert!(decoder.columns().is_empty());
    }
}

#[test]
fn the_rules_are_those_of_protobuf() {
    let body = r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "m", "sum": {"dataPoints": [{"timeUnixNano": "5", "asInt": 1}]}},
        {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [
            {"timeUnixNano": "5", "bucketCounts": [1], "explicitBounds": [1]}, {"timeUnixNano": "5"}]}}
    ]}]}]}"#;
    let mut decoder = Decoder::default();
    let decoded = decode_json(body.as_bytes(), &mut decoder).expect("good JSON");
    let messages: Vec<String> = decoded.rejections.iter().map(|r| r.to_string()).collect();
    assert_eq!(
        messages,
        [
            "m: 1 point: aggregation_temporality is unspecified; send cumulative (2) or delta (1)",
            "h: 1 point: 1 bucket_counts do not fit 1 explicit_bounds; there must be one more",
        ]
    );
    assert_eq!(decoded.points, 1);
}

/// Puts `point` into a request and checks the error that it makes.
#[track_caller]
fn wrong_point(point: &str, expected: &str) {
    let body = format!(
        r#"{{"resourceMetrics": [{{"scopeMetrics": [{{"metrics": [{{}}, {{}}, {{"sum": {{"dataPoints": [{point}]}}}}]}}]}}]}}"#
    );
    let error = decode_json(body.as_bytes(), &mut Decoder::default()).expect_err(point);
    let DecodeError::Json { path, problem, .. } = error else {
        panic!("{error}");
    };
    let prefix = "resourceMetrics[0].scopeMetrics[0].metrics[2].sum.dataPoints[0]";
    let path = path.strip_prefix(prefix).expect(prefix);
    assert_eq!(format!("{path}: {problem}"), expected);
}

#[test]
fn errors_name_the_path() {
    wrong_point(
        r#"{"timeUnixNano": "soon"}"#,
        ".timeUnixNano: expected an integer from 0 to 18446744073709551615, found \"soon\"",
    );
    wrong_point(
        r#"{"timeUnixNano": -5}"#,
        ".timeUnixNano: expected an integer from 0 to 18446744073709551615, found \"-5\"",
    );
    wrong_point(
        r#"{"asDouble": {}}"#,
        ".asDouble: expected a number, found an object",
    );
    wrong_point(
        r#"{"attributes": [{"key": "k", "value": {"intValue": 1.5}}]}"#,
        ".attributes[0].value.intValue: expected an integer of 64 bits, found \"1.5\"",
    );
    wrong_point(
        r#"{"attributes": [{"key": "k", "value": {"bytesValue": "?"}}]}"#,
        ".attributes[0].value.bytesValue: the text is not base64",
    );
    wrong_point(
        r#"{"attributes": {"k": "v"}}"#,
        ".attributes: expected an array, found an object",
    );
    wrong_point("7", ": expected an object, found a number");
    let body = r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA"}}]}]}]}"#;
    let error = decode_json(body.as_bytes(), &mut Decoder::default()).expect_err("no number");
    let message = error.to_string();
    assert!(message.contains("metrics[0].sum.aggregationTemporality: an enumeration must be"));
}

#[test]
fn nested_values_have_a_bound() {
    let nested = |depth: usize| {
        let open = r#"{"arrayValue": {"values": ["#.repeat(depth);
        let close = "]}}".repeat(depth);
        format!(
            r#"{{"resourceMetrics": [{{"resource": {{"attributes": [{{"key": "k", "value": {open}{close}}}]}}}}]}}"#
        )
    };
    let decode = |body: String| decode_json(body.as_bytes(), &mut Decoder::default());
    decode(nested(32)).expect("within the bound");
    let error = decode(nested(34)).expect_err("beyond").to_string();
    assert!(error.contains("nested too deeply"), "{error}");
    let error = decode(nested(5000)).expect_err("beyond").to_string();
    assert!(error.contains("nested"), "{error}");
}
