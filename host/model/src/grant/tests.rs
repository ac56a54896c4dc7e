//! Capabilities as text, and sets of them.

use super::*;

fn grants(list: &[&str]) -> Grants {
    list.iter()
        .map(|text| text.parse().expect("a capability"))
        .collect()
}

#[test]
fn a_capability_survives_a_trip_through_text() {
    for text in [
        "ingest",
        "kv",
        "http hooks.slack.com:443",
        "http *.example.com",
        "http POST setting:url",
        "net tls setting:url",
        "net dns *.example.com",
        "mail setting:to",
        "mail *@example.com",
        "mail ops+night@example.com",
        "secret token header:authorization setting:url",
        "secret token body:/auth/token api.example.com:443",
        "secret token query:key api.example.com",
        "secret url path setting:url",
        "secret signing_secret hmac",
    ] {
        assert_eq!(text.parse::<Capability>().expect(text).to_string(), text);
    }
    for text in [
        "",
        "http",
        "http ",
        "http EXAMPLE.com",
        "http a:0",
        "fs /tmp",
        "net setting:url",
        "net tls setting:",
        "http FETCH a.example",
        "mail example.com",
        "mail Ops@example.com",
        "secret token header:authorization",
        "secret token hmac setting:url",
        "secret token header:Authorization setting:url",
        "secret token body:token setting:url",
        "kv all",
    ] {
        assert!(text.parse::<Capability>().is_err(), "{text}");
    }
}

#[test]
fn permission_is_what_every_side_agrees_to() {
    let asked = grants(&["http a.example", "http b.example"]);
    let approved = grants(&["http a.example", "ingest"]);
    assert_eq!(asked.intersection(&approved), grants(&["http a.example"]));
    assert_eq!(
        asked
            .missing_in(&approved)
            .map(Capability::to_string)
            .collect::<Vec<_>>(),
        ["http b.example"]
    );
    assert!(
        !asked
            .intersection(&Grants::default())
            .has(CapabilityKind::Http),
        "an empty list denies"
    );
}
