//! What manifests are accepted, and how the others are refused.

use super::*;

const CHECK: &str = include_str!("../../tests/fixtures/http-check.toml");
const RECEIVER: &str = include_str!("../../tests/fixtures/receiver.toml");

/// The reason for refusing `text` after replacing `from` by `to`.
#[track_caller]
fn refused(text: &str, from: &str, to: &str, wanted: &str) {
    assert!(text.contains(from), "{from} is in the fixture");
    let error = Manifest::parse(&text.replacen(from, to, 1)).expect_err("refused");
    let error = error.to_string();
    assert!(error.contains(wanted), "{error:?} says {wanted:?}");
}

#[test]
fn a_whole_manifest_is_understood() {
    let manifest = Manifest::parse(CHECK).expect("a manifest");
    assert_eq!(manifest.id.as_str(), "http-check");
    assert_eq!(manifest.version, semver::Version::new(0, 1, 0));
    assert_eq!(manifest.kind, Kind::Check);
    let asked: Vec<_> = manifest.asked().0.iter().map(ToString::to_string).collect();
    assert_eq!(
        asked,
        [
            "http *.example.com",
            "http hooks.slack.com:443",
            "http setting:url",
            "net tls setting:url",
            "secret token header:authorization setting:url"
        ]
    );
    let net: Capability = "net tls setting:url".parse().expect("a capability");
    assert_eq!(
        manifest.reason(&net),
        Some("to see when the certificate ends")
    );
    assert_eq!(manifest.limits.cpu, Some(Duration::from_millis(50)));
    assert_eq!(manifest.settings.secrets(), ["token"]);
}

#[test]
fn a_secret_that_may_go_nowhere_is_refused_by_name() {
    let property = "[settings.properties.timeout_ms]";
    refused(
        CHECK,
        property,
        &format!("[settings.properties.key]\ntype = \"string\"\nwriteOnly = true\n{property}"),
        "settings.properties.key.writeOnly: the plugin is given a reference",
    );
}

#[test]
fn a_receiver_has_endpoints() {
    let manifest = Manifest::parse(RECEIVER).expect("a manifest");
    assert_eq!(
        manifest.endpoints,
        [
            Endpoint::Http("/v1/metrics".into()),
            Endpoint::Grpc(
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export".into()
            ),
        ]
    );
}

#[test]
fn what_the_host_does_not_know_is_refused_by_name() {
    refused(CHECK, "title =", "titel =", "unknown field `titel`");
    refused(CHECK, "cpu_ms", "cpu", "unknown field `cpu`");
    refused(CHECK, "reason =", "why =", "unknown field `why`");
    refused(
        CHECK,
        "kind = \"check\"",
        "kind = \"probe\"",
        "kind: \"probe\" is not a kind",
    );
    refused(
        CHECK,
        "kind = \"net\"",
        "kind = \"fs\"",
        "capabilities[1].kind: \"fs\": a check may ask for http or net or kv or secrets",
    );
    refused(
        CHECK,
        "kind = \"net\"",
        "kind = \"ingest\"",
        "a check may ask for http or net or kv or secrets",
    );
}

#[test]
fn a_value_out_of_place_is_refused_by_name() {
    refused(
        CHECK,
        "id = \"http-check\"",
        "id = \"HTTP\"",
        "id: \"HTTP\" is not a plugin id",
    );
    refused(CHECK, "0.1.0", "1", "version");
    refused(
        CHECK,
        "\"hooks.slack.com:443\"",
        "\"https://hooks.slack.com\"",
        "capabilities[0].hosts[0]",
    );
    refused(
        CHECK,
        "setting = \"url\"",
        "setting = \"token\"",
        "capabilities[0].setting: \"token\" is not a setting",
    );
    refused(
        CHECK,
        "memory_mib = 32",
        "memory_mib = 0",
        "limits.memory_mib: is 0",
    );
    refused(
        RECEIVER,
        "http = \"/v1/metrics\"",
        "http = \"v1/../metrics\"",
        "endpoints[0]: wants either",
    );
    refused(
        RECEIVER,
        "kind = \"receiver\"",
        "kind = \"billing-rule\"",
        "a billing-rule may ask for nothing",
    );
    refused(
        CHECK,
        "url = \"https://example.com/\"",
        "url = 1",
        "example: url:",
    );
}

#[test]
fn an_author_may_ask_for_less_and_not_for_more_than_allowed() {
    let asked = Manifest::parse(CHECK).expect("a manifest").limits;
    let allowed = CallLimits::for_kind(Kind::Check);
    let given = asked.within(allowed).expect("less");
    assert_eq!(given.cpu, Duration::from_millis(50));
    assert_eq!(given.memory_max_bytes, 32 << 20);
    assert_eq!(given.wall, allowed.wall);
    let small = CallLimits {
        cpu: Duration::from_millis(10),
        ..allowed
    };
    assert_eq!(
        asked.within(small),
        Err("limits.cpu_ms asks for 50 ms, this deployment allows 10 ms".into())
    );
}

#[test]
fn each_capability_has_its_own_keys() {
    let entry = |lines: &str| {
        let table = format!("[[capabilities]]\nreason = \"because\"\n{lines}\n\n[limits]");
        let text = CHECK.replacen("[limits]", &table, 1);
        Manifest::parse(&text).map(|manifest| manifest.capabilities.last().cloned())
    };
    let asked = |lines: &str| {
        let asked = entry(lines).expect("a manifest").expect("an entry");
        let texts: Vec<_> = asked.capabilities.iter().map(ToString::to_string).collect();
        texts.join("; ")
    };
    assert_eq!(asked("kind = \"kv\""), "kv");
    assert_eq!(
        asked("kind = \"http\"\nmethods = [\"GET\", \"POST\"]\nhosts = [\"a.example:443\"]"),
        "http GET a.example:443; http POST a.example:443"
    );
    assert_eq!(
        asked("kind = \"net\"\noperations = [\"dns\", \"icmp\"]\nsetting = \"url\""),
        "net dns setting:url; net icmp setting:url"
    );
    assert_eq!(
        asked(
            "kind = \"secrets\"\nsecret = \"token\"\nplaces = [\"header:x-key\", \"hmac\"]\nsetting = \"url\""
        ),
        "secret token header:x-key setting:url; secret token hmac"
    );
    for (lines, wanted) in [
        (
            "kind = \"kv\"\nhosts = [\"a.example\"]",
            "hosts: kv has no such key",
        ),
        (
            "kind = \"net\"\nsetting = \"url\"",
            "operations: is empty: give tcp, tls",
        ),
        (
            "kind = \"http\"\nmethods = [\"get\"]\nsetting = \"url\"",
            "methods[0]: \"get\" is not GET",
        ),
        (
            "kind = \"secrets\"\nsecret = \"url\"\nplaces = [\"path\"]\nsetting = \"url\"",
            "secret: \"url\" is not a setting with writeOnly",
        ),
        (
            "kind = \"secrets\"\nsecret = \"token\"\nplaces = [\"hmac\"]\nsetting = \"url\"",
            "hmac has no destination",
        ),
        ("kind = \"mail\"\nsetting = \"url\"", "a check may ask for"),
    ] {
        let error = entry(lines).expect_err(lines).to_string();
        assert!(error.contains(wanted), "{error:?} says {wanted:?}");
    }
}

#[test]
fn a_wrong_golden_test_is_refused_by_its_key() {
    let with = |test: &str| Manifest::parse(&format!("{CHECK}\n[[tests]]\n{test}\n"));
    let whole = r#"
        name = "a page"
        settings = { url = "https://example.com/" }
        http = [{ request = "get https://EXAMPLE.com", answer = { json = { a = 1 } } }]
        expect = { outcome = "ok" }"#;
    let manifest = with(whole).expect("a manifest");
    assert_eq!(
        manifest.tests[0].exchanges.http[0].request,
        "GET https://example.com/"
    );
    for (from, to, wanted) in [
        ("\"a page\"", "\"\"", "tests[0].name: has 0 characters"),
        ("url =", "uri =", "tests[0].settings: "),
        (
            "\"ok\" }",
            "\"ok\" }\nnow = \"noon\"",
            "tests[0].now: \"noon\" is not a time",
        ),
        (
            "\"ok\" }",
            "\"ok\" }\ninput = { a = 1 }",
            "tests[0].input: unknown field `a`",
        ),
        ("\"ok\" }", "\"ok\" }\ninputs = 1", "unknown field `inputs`"),
        ("get https", "https", "tests[0].http[0]: request: "),
        (
            "json =",
            "status = 99, json =",
            "answer.status: 99 is not 200 to 599",
        ),
        ("json =", "body = \"a\", json =", "answer: give one of"),
        ("{ outcome = \"ok\" }", "{}", "tests[0].expect: is empty"),
    ] {
        let text = whole.replacen(from, to, 1);
        assert_ne!(text, whole, "{from}");
        let error = with(&text).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{error} says {wanted}");
    }
    let twice = format!("{whole}\n[[tests]]\n{whole}");
    let error = with(&twice).expect_err("twice").to_string();
    assert!(
        error.contains("tests[1].name: is the name of two tests"),
        "{error}"
    );
}
