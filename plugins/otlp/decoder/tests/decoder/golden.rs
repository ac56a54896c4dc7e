//! What comes out of the protobuf form, line by line.

use prost::Message;
use shoal_otlp_decoder::{Columns, Decoder, decode_protobuf};

use crate::consistency::check;
use crate::messages::*;
use crate::readable::lines;

/// The columns of a request that has no fault.
pub(crate) fn columns(request: &Request) -> Columns {
    let mut decoder = Decoder::default();
    let decoded = decode_protobuf(&request.encode_to_vec(), &mut decoder).expect("good bytes");
    assert_eq!(decoded.rejections, []);
    check(decoder.columns());
    decoder.take_columns()
}

pub(crate) const EVERYTHING: &[&str] = &[
    r#"gauge temp "Cel" RESOURCE SCOPE {a=1} 1..5 = -1.5"#,
    r#"gauge temp "Cel" RESOURCE SCOPE {a=1,b=é} 1..5 = 3"#,
    r#"gauge temp "Cel" RESOURCE SCOPE {a=1} 1..6 = 0 stale"#,
    r#"counter requests "1" RESOURCE SCOPE {a=1,b=é} 1..5 = 9223372036854776000"#,
    r#"updown active "" RESOURCE SCOPE {a=1,b=é} 1..5 = -2"#,
    r#"delta-counter added "By" RESOURCE SCOPE {a=1,b=é} 1..5 = 2"#,
    r#"delta-updown moved "By" RESOURCE SCOPE {a=1,b=é} 1..5 = -3"#,
    r#"summary quantiles "s" RESOURCE SCOPE {a=1,b=é} 1..5 count = 10"#,
    r#"summary quantiles "s" RESOURCE SCOPE {a=1,b=é} 1..5 sum = 12.5"#,
    r#"summary quantiles "s" RESOURCE SCOPE {a=1,b=é} 1..5 q0.5 = 1"#,
    r#"summary quantiles "s" RESOURCE SCOPE {a=1,b=é} 1..5 q1 = 4"#,
    r#"gauge up "" {service.name=other} {} {} 1..9 = 1"#,
    r#"histogram latency "s" RESOURCE SCOPE {a=1,b=é} 1..5 n 6 sum 7.5 min 0.1 max 3.5 bounds [0.5, 1.0] buckets [1, 2, 3]"#,
    r#"delta-histogram empty "s" RESOURCE SCOPE {} 0..5 n 4 sum NaN min NaN max NaN bounds [] buckets []"#,
    r#"histogram spread "s" RESOURCE SCOPE {a=1} 1..5 n 12 sum 3.25 min NaN max NaN scale 3 zero 2±0.25 positive -1+[1, 2, 300] negative 4+[4]"#,
];

/// [`EVERYTHING`] with its sets written out.
pub(crate) fn everything_lines() -> Vec<String> {
    const RESOURCE: &str = r#"{service.name=shop,bool=true,int=-7,double=0.5,bytes=+/8=,array=["a\"b",1,"NaN","AQ==",[]],list={"k":false,"l":{}}}"#;
    const SCOPE: &str = "{name=lib,version=1.2,schema_url=https://example.com/1,team=core}";
    let written = |line: &&str| line.replace("RESOURCE", RESOURCE).replace("SCOPE", SCOPE);
    EVERYTHING.iter().map(written).collect()
}

#[test]
fn every_type_of_data_and_value_arrives_whole() {
    assert_eq!(lines(&columns(&everything())), everything_lines());
}

#[test]
fn an_empty_body_is_an_empty_batch() {
    assert!(columns(&Request::default()).is_empty());
    assert!(columns(&request(Vec::new())).is_empty());
    let nothing = request(vec![metric("m", "", gauge(Vec::new()))]);
    assert_eq!(columns(&nothing).series.names.len(), 0);
}

#[test]
fn a_decoder_used_again_answers_as_a_new_one() {
    let mut decoder = Decoder::default();
    let bodies = [
        everything().encode_to_vec(),
        shoal_otlp_decoder::generate::body(&Default::default(), 1, 60_000_000_000),
        request(vec![metric(
            "m",
            "",
            gauge(vec![point(&[("a", "b")], 1, Number::AsInt(1))]),
        )])
        .encode_to_vec(),
    ];
    for body in bodies.iter().chain(&bodies) {
        decode_protobuf(body, &mut decoder).expect("good bytes");
        let mut fresh = Decoder::default();
        decode_protobuf(body, &mut fresh).expect("good bytes");
        assert_eq!(lines(decoder.columns()), lines(fresh.columns()));
        let columns = decoder.take_columns();
        assert!(decoder.columns().is_empty());
        decoder.recycle(columns);
    }
}

#[test]
fn symbols_sets_and_consecutive_points_of_a_stream_are_shared() {
    let a = &[("a", "1")][..];
    let b = &[("b", "1")][..];
    let points = |times: [u64; 2]| {
        times.into_iter().flat_map(move |time| {
            let point = |pairs| point(pairs, time, Number::AsInt(1));
            [point(a), point(a), point(b)]
        })
    };
    let metrics = ["x", "y"].map(|name| metric(name, "s", gauge(points([1, 2]).collect())));
    let columns = columns(&request(metrics.into()));
    assert_eq!(columns.symbol_bytes, b"a1bxsy");
    assert_eq!(columns.set_ends, [0, 1, 2]);
    assert_eq!(columns.series.attributes, [1, 2, 1, 2, 1, 2, 1, 2]);
    assert_eq!(columns.numbers.series, [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7]);
}

#[test]
fn attributes_may_be_scattered_over_a_point_and_fields_over_a_message() {
    let message = metric(
        "m",
        "s",
        sum(
            CUMULATIVE,
            true,
            vec![point(&[("a", "1")], 5, Number::AsInt(7))],
        ),
    );
    let mut more = NumberDataPoint {
        attributes: attributes(&[("b", "2"), ("c", "3")]),
        ..NumberDataPoint::default()
    };
    // Protobuf merges what is concatenated: attributes, fields, attributes again.
    let mut bytes = point(&[("a", "1")], 5, Number::AsInt(7)).encode_to_vec();
    bytes.extend(more.encode_to_vec());
    more.attributes.clear();
    more.flags = 2;
    bytes.extend(more.encode_to_vec());
    bytes.extend(
        NumberDataPoint {
            attributes: attributes(&[("d", "4")]),
            ..more
        }
        .encode_to_vec(),
    );

    let mut data = shoal_otlp_decoder::wire::Writer::default();
    // The data before the name, the temporality before the points.
    data.message(7, |sum| {
        sum.varint(3, 1);
        sum.varint(2, 2);
        sum.bytes(1, &bytes);
        sum.bytes(
            1,
            &point(&[("a", "1")], 5, Number::AsInt(7)).encode_to_vec(),
        );
    });
    data.bytes(3, b"s");
    data.bytes(1, message.name.as_bytes());
    let mut request = shoal_otlp_decoder::wire::Writer::default();
    request.message(1, |resource_metrics| {
        resource_metrics.message(2, |scope_metrics| {
            scope_metrics.bytes(2, &data.finish());
            scope_metrics.message(1, |scope| scope.bytes(1, b"late"));
        });
        resource_metrics.message(1, |resource| {
            resource.bytes(1, &attribute("r", text("late")).encode_to_vec());
        });
    });
    let mut decoder = Decoder::default();
    decode_protobuf(&request.finish(), &mut decoder).expect("good bytes");
    check(decoder.columns());
    assert_eq!(
        lines(decoder.columns()),
        [
            r#"counter m "s" {r=late} {name=late} {a=1,b=2,c=3,d=4} 1..5 = 7"#,
            r#"counter m "s" {r=late} {name=late} {a=1} 1..5 = 7"#,
        ]
    );
}

#[test]
fn numbers_that_are_not_packed_are_read_too() {
    use shoal_otlp_decoder::wire::Writer;
    let mut body = Writer::default();
    let explicit = |point: &mut Writer| {
        point.fixed64(3, 5);
        point.fixed64(6, 1);
        point.fixed64(6, 2);
        point.fixed64(7, 0.5f64.to_bits());
    };
    let exponential = |point: &mut Writer| {
        point.fixed64(3, 5);
        point.message(9, |negative| {
            negative.varint(2, 7);
            negative.varint(2, 300);
        });
    };
    body.message(1, |resource| {
        resource.message(2, |scope| {
            scope.message(2, |metric| {
                metric.bytes(1, b"e");
                metric.message(9, |data| {
                    data.message(1, explicit);
                    data.varint(2, 1);
                });
            });
            scope.message(2, |metric| {
                metric.bytes(1, b"x");
                metric.message(10, |data| {
                    data.message(1, exponential);
                    data.varint(2, 1);
                });
            });
        });
    });
    let mut decoder = Decoder::default();
    decode_protobuf(&body.finish(), &mut decoder).expect("good bytes");
    assert_eq!(
        lines(decoder.columns()),
        [
            r#"delta-histogram e "" {} {} {} 0..5 n 0 sum NaN min NaN max NaN bounds [0.5] buckets [1, 2]"#,
            r#"delta-histogram x "" {} {} {} 0..5 n 0 sum NaN min NaN max NaN scale 0 zero 0±0 positive 0+[] negative 0+[7, 300]"#,
        ]
    );
}

#[test]
fn the_last_type_of_data_counts_when_there_are_several() {
    let first = metric("m", "", gauge(vec![point(&[], 5, Number::AsInt(1))]));
    let second = metric(
        "m",
        "",
        sum(DELTA, true, vec![point(&[], 6, Number::AsInt(2))]),
    );
    let both = [first.encode_to_vec(), second.encode_to_vec()].concat();
    let mut body = shoal_otlp_decoder::wire::Writer::default();
    body.message(1, |resource| {
        resource.message(2, |scope| scope.bytes(2, &both));
    });
    let mut decoder = Decoder::default();
    let decoded = decode_protobuf(&body.finish(), &mut decoder).expect("good bytes");
    assert_eq!(decoded.points, 1);
    check(decoder.columns());
    assert_eq!(
        lines(decoder.columns()),
        [r#"delta-counter m "" {} {} {} 1..6 = 2"#]
    );
}

#[test]
fn a_generated_body_has_one_point_a_series_and_ten_attributes_a_point() {
    let workload = shoal_otlp_decoder::generate::Workload::default();
    let body = shoal_otlp_decoder::generate::body(&workload, 1_000_000_000, 61_000_000_000);
    let mut decoder = Decoder::default();
    let decoded = decode_protobuf(&body, &mut decoder).expect("good bytes");
    assert_eq!(
        (decoded.points, decoded.rejected_points),
        (workload.series(), 0)
    );
    let columns = decoder.columns();
    check(columns);
    let mut streams: Vec<String> = lines(columns)
        .iter()
        .map(|line| line.rsplit_once(" = ").expect("a value").0.to_owned())
        .collect();
    assert!(
        streams
            .iter()
            .all(|stream| stream.matches('=').count() == 10 + 7 + 2)
    );
    streams.sort();
    streams.dedup();
    assert_eq!(streams.len() as u64, workload.series());
    let bytes_a_point = body.len() as u64 / workload.series();
    assert!((300..340).contains(&bytes_a_point), "{bytes_a_point}");
    let witness = Request::decode(&body[..]).expect("prost reads it as well");
    assert_eq!(witness.encode_to_vec(), body);
}
