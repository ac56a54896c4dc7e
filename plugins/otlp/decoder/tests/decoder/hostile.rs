//! Strangers' bytes: whatever they are, the decoder answers, and its columns keep the contract.

use proptest::prelude::*;
use prost::Message;
use shoal_otlp_decoder::{
    BODY_BYTES_MAX, DecodeError, Decoder, decode_json, decode_protobuf, wire::Writer,
};

use crate::consistency::check;
use crate::messages::{Request, array, attribute, attributes, everything, resource_metrics, text};

/// Decodes in both forms with a decoder that has decoded before, and checks what comes out.
fn survive(body: &[u8], decoder: &mut Decoder) {
    if decode_protobuf(body, decoder).is_err() {
        assert!(decoder.columns().is_empty());
    }
    check(decoder.columns());
    if decode_json(body, decoder).is_err() {
        assert!(decoder.columns().is_empty());
    }
    check(decoder.columns());
}

#[test]
fn every_truncation_is_survived() {
    let mut decoder = Decoder::default();
    let protobuf = everything().encode_to_vec();
    let json = crate::json::everything();
    for body in [&protobuf[..], json.as_bytes()] {
        for length in 0..body.len() {
            survive(&body[..length], &mut decoder);
        }
    }
}

#[test]
fn every_single_changed_byte_is_survived() {
    let mut decoder = Decoder::default();
    let mut body = everything().encode_to_vec();
    for at in 0..body.len() {
        let good = body[at];
        for bad in [good ^ 1, good ^ 0x80, 0, 0xff, good.wrapping_add(8)] {
            body[at] = bad;
            survive(&body, &mut decoder);
        }
        body[at] = good;
    }
}

proptest! {
    #[test]
    fn random_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        survive(&body, &mut Decoder::default());
    }

    #[test]
    fn random_changes_of_a_good_body_are_survived(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        is_json: bool,
    ) {
        let mut body = match is_json {
            true => crate::json::everything().into_bytes(),
            false => everything().encode_to_vec(),
        };
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        survive(&body, &mut Decoder::default());
    }

    /// Parts of a good body in another order: lengths that are right in the wrong place.
    #[test]
    fn spliced_bodies_are_survived(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..80), 1..12),
    ) {
        let body = everything().encode_to_vec();
        let mut spliced = Vec::new();
        for (at, length) in cuts {
            let at = at.index(body.len());
            spliced.extend_from_slice(&body[at..(at + length).min(body.len())]);
        }
        let mut wrapped = Writer::default();
        wrapped.message(1, |resource| resource.message(2, |scope| scope.bytes(2, &spliced)));
        survive(&spliced, &mut Decoder::default());
        survive(&wrapped.finish(), &mut Decoder::default());
    }
}

#[track_caller]
fn refused(body: &[u8], expected: &str) {
    let error = decode_protobuf(body, &mut Decoder::default()).expect_err("refused");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn malformed_bytes_are_refused_with_their_place() {
    let prefix = "not a protobuf ExportMetricsServiceRequest: at byte";
    let long = "a field is longer than what is left of its message";
    refused(&[0x0a], &format!("{prefix} 1: {long}"));
    refused(
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &format!("{prefix} 6: {long}"),
    );
    refused(&[0x0a, 3, 0x12, 2, 0x12], &format!("{prefix} 4: {long}"));
    refused(
        &[0x0a, 1, 0x0b],
        &format!("{prefix} 3: a group, which proto3 does not have"),
    );
    let mut body = Writer::default();
    body.message(1, |resource| {
        resource.message(2, |scope| {
            scope.message(2, |metric| metric.bytes(1, b"a\xff"))
        });
    });
    refused(
        &body.finish(),
        &format!("{prefix} 9: a string is not UTF-8"),
    );
}

#[test]
fn nested_values_have_a_bound() {
    let nested = |depth: usize| {
        let value = (0..depth).fold(text("x"), |inner, _| array(vec![inner]));
        let resource = vec![attribute("k", value)];
        let resource_metrics = vec![resource_metrics(resource, Vec::new())];
        Request { resource_metrics }.encode_to_vec()
    };
    let decode = |body: Vec<u8>| decode_protobuf(&body, &mut Decoder::default());
    decode(nested(32)).expect("within the bound");
    let error = decode(nested(33)).expect_err("beyond").to_string();
    assert!(
        error.ends_with("an attribute value is nested too deeply"),
        "{error}"
    );
}

#[test]
fn a_body_above_the_limit_is_refused_before_it_is_read() {
    let body = vec![0; BODY_BYTES_MAX + 1];
    let bytes = body.len();
    for error in [
        decode_protobuf(&body, &mut Decoder::default()),
        decode_json(&body, &mut Decoder::default()),
    ] {
        assert_eq!(error, Err(DecodeError::TooLarge { bytes }));
    }
}

/// Nothing is allocated for a length that is only claimed, and no body blows up beyond the documented factor.
#[test]
fn columns_stay_in_proportion_to_the_body() {
    let claims = [0x0a, 0xff, 0xff, 0xff, 0x1f];
    let mut decoder = Decoder::default();
    assert!(decode_protobuf(&claims, &mut decoder).is_err());
    assert!(bytes_held(&decoder) < 1000);

    // The worst there is: a summary of nothing but empty quantiles, two bytes each.
    let mut body = Writer::default();
    body.message(1, |resource| {
        resource.message(2, |scope| {
            scope.message(2, |metric| {
                metric.bytes(1, b"m");
                metric.message(11, |data| {
                    data.message(1, |point| {
                        point.fixed64(3, 5);
                        (0..50_000).for_each(|_| point.bytes(6, b""));
                    });
                });
            });
        });
    });
    let body = body.finish();
    let decoded = decode_protobuf(&body, &mut decoder).expect("good bytes");
    assert_eq!(decoded.points, 1);
    assert!(bytes_held(&decoder) < 20 * body.len());
}

/// A sender that scatters attributes must not make the decoder repeat its work.
#[test]
fn scattered_attributes_cost_no_more_than_their_bytes() {
    let mut body = Writer::default();
    let [pair] = &attributes(&[("a", "b")])[..] else {
        unreachable!("one pair")
    };
    let pair = pair.encode_to_vec();
    body.message(1, |resource| {
        resource.message(2, |scope| {
            scope.message(2, |metric| {
                metric.bytes(1, b"m");
                metric.message(5, |data| {
                    data.message(1, |point| {
                        point.fixed64(3, 5);
                        point.fixed64(6, 5);
                        for _ in 0..20_000 {
                            point.bytes(7, &pair);
                            point.varint(8, 0);
                        }
                    });
                });
            });
        });
    });
    let body = body.finish();
    let mut decoder = Decoder::default();
    decode_protobuf(&body, &mut decoder).expect("good bytes");
    check(decoder.columns());
    assert_eq!(decoder.columns().set_pairs.len(), 2 + 40_000);
    assert!(bytes_held(&decoder) < 20 * body.len());
}

fn bytes_held(decoder: &Decoder) -> usize {
    let c = decoder.columns();
    let n = &c.numbers;
    c.symbol_bytes.len()
        + 4 * (c.symbol_ends.len() + c.set_pairs.len() + c.set_ends.len() + n.series.len())
        + 21 * c.series.names.len()
        + n.parts.len()
        + n.stale.len()
        + 8 * (n.quantiles.len()
            + n.start_unix_nano.len()
            + n.time_unix_nano.len()
            + n.values.len())
}
