//! What goes out and what does not: places, destinations and grants, and a guest that tries everything else.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Map, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpHooks as _};

use super::outgoing::Unfilled;
use super::*;
use crate::egress::address::{AddressPolicy, Cidr};
use crate::egress::allow::Permits;
use crate::egress::gate::Gate;
use crate::egress::{Contacts, Network};
use crate::log::CallLog;

/// A secret that needs escaping everywhere.
const TOKEN: &str = "p/w\"d&1 x";
const HOOK: &str = "https://hooks.test/services/T0/abcdefghijklmnopqrstuvwx?k=v";

fn schema() -> SettingsSchema {
    SettingsSchema::parse(json!({
        "type": "object",
        "properties": {
            "token": {"type": "string", "writeOnly": true},
            "hook": {"type": "string", "format": "uri", "writeOnly": true},
            "url": {"type": "string", "format": "uri"},
        },
    }))
    .expect("a schema")
}

fn made(settings: Value, grants: &[&str]) -> Result<(Secrets, Settings), BadSecret> {
    let Value::Object(settings) = settings else {
        panic!("an object")
    };
    let settings = schema().validate(settings).expect("settings");
    let grants = grants
        .iter()
        .map(|grant| grant.parse().expect(grant))
        .collect();
    let id = InstallationId::from_random([7; 10]);
    let secrets = Secrets::new(&schema(), &settings, &grants, &ReferenceKey([1; 32]), &id)?;
    Ok((secrets, settings))
}

fn with(grants: &[&str]) -> Secrets {
    let settings = json!({"token": TOKEN, "hook": HOOK, "url": "https://api.test:8443/v1"});
    made(settings, grants).expect("secrets").0
}

fn reference(secrets: &Secrets, setting: &str) -> String {
    let mut list = secrets.list.iter();
    let secret = list
        .find(|secret| secret.setting == setting)
        .expect(setting);
    secret.reference.clone()
}

/// A request as it would go out.
#[derive(Debug)]
struct Sent {
    uri: String,
    headers: HeaderMap,
    body: String,
    carries: Option<String>,
}

async fn send(secrets: &Secrets, request: Request<String>) -> Result<Sent, String> {
    let target = Target::of_uri(request.uri()).expect("a target");
    let filled = match secrets.fill(&target, request.map(body), 1000).await {
        Ok(filled) => filled,
        Err(Unfilled::Refused(why)) => return Err(why),
        Err(Unfilled::Body(error)) => return Err(error.to_string()),
    };
    let (head, body) = filled.request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Ok(Sent {
        uri: head.uri.to_string(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).expect("text"),
        carries: filled.carries,
    })
}

fn body(text: String) -> WasiBody {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    body.boxed_unsync()
}

fn post(url: &str, header: Option<(&str, &str)>, body: &str) -> Request<String> {
    let mut request = Request::post(url);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let length = body.len().to_string();
    let request = request.header("content-length", length);
    request.body(body.to_owned()).expect("a request")
}

#[tokio::test]
async fn a_secret_goes_to_the_place_and_destination_that_are_granted_and_nowhere_else() {
    let places = ["header:x-key", "path", "query:key", "body:/a/0"];
    let hosts = ["api.test:443", "setting:url", "other.test:443"];
    let url_of = |host: &str| match host {
        "setting:url" => "https://api.test:8443".to_owned(),
        host => format!("https://{host}"),
    };
    for granted_place in places {
        for granted_host in hosts {
            let grant = format!("secret token {granted_place} {granted_host}");
            let secrets = with(&[grant.as_str()]);
            let token = reference(&secrets, "token");
            for place in places {
                for host in hosts {
                    let base = url_of(host);
                    let request = match place {
                        "path" => post(&format!("{base}/bot{token}/send"), None, ""),
                        "query:key" => post(&format!("{base}/?a=1&key={token}"), None, ""),
                        "header:x-key" => post(&base, Some(("x-key", &format!("K {token}"))), ""),
                        _ => post(&base, None, &format!(r#"{{"a":["{token}"]}}"#)),
                    };
                    let sent = send(&secrets, request).await;
                    let is_granted = (place, host) == (granted_place, granted_host);
                    assert_eq!(
                        sent.is_ok(),
                        is_granted,
                        "{grant}: {place} {host}: {sent:?}"
                    );
                    let Ok(sent) = sent else { continue };
                    assert_eq!(sent.carries.as_deref(), Some("token"));
                    let shown = format!("{sent:?}");
                    assert!(!shown.contains(&token), "{shown}");
                    match place {
                        "path" => {
                            assert!(sent.uri.ends_with("/botp%2Fw%22d&1%20x/send"), "{shown}")
                        }
                        "query:key" => {
                            assert!(sent.uri.ends_with("/?a=1&key=p%2Fw%22d%261%20x"), "{shown}");
                        }
                        "header:x-key" => assert_eq!(sent.headers["x-key"], format!("K {TOKEN}")),
                        _ => assert_eq!(sent.body, json!({"a": [TOKEN]}).to_string()),
                    }
                    let length = sent.body.len().to_string();
                    assert_eq!(sent.headers["content-length"], length);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_names_setting_place_and_what_would_allow_it() {
    let secrets = with(&["secret token header:x-key api.test:443"]);
    let token = reference(&secrets, "token");
    let request = post("https://api.test/", Some(("authorization", &token)), "");
    let refused = send(&secrets, request).await.expect_err("refused");
    for part in [
        "secret token",
        "place header:authorization",
        "`secret token header:authorization api.test:443`",
        "[[capabilities]] kind = \"secrets\", secret = \"token\", places = [\"header:authorization\"], hosts = [\"api.test:443\"]",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(
        !refused.contains(TOKEN) && !refused.contains(&token),
        "{refused}"
    );
}

#[tokio::test]
async fn a_url_that_is_a_secret_keeps_its_origin_and_stands_for_path_and_query() {
    let secrets = with(&["secret hook path setting:hook"]);
    let hook = reference(&secrets, "hook");
    assert!(
        hook.starts_with("https://hooks.test/shoal-secret-hook-"),
        "{hook}"
    );
    for (url, real) in [
        (hook.clone(), HOOK.to_owned()),
        (
            format!("{hook}/more?x=1"),
            "https://hooks.test/services/T0/abcdefghijklmnopqrstuvwx/more?k=v&x=1".to_owned(),
        ),
        (format!("{hook}?x=1"), format!("{HOOK}&x=1")),
    ] {
        let sent = send(&secrets, post(&url, None, "")).await.expect(&url);
        assert_eq!(sent.uri, real);
    }
    let token = hook.rsplit('/').next().expect("a token").to_owned();
    for url in [
        format!("https://hooks.test/x/{token}"),
        format!("https://hooks.test/x{token}"),
        format!("https://hooks.test/{token}x"),
        format!("https://hooks.test/{token}/{token}"),
        format!("https://hooks.test/?q={token}"),
        format!("https://evil.test/{token}"),
        format!("https://hooks.test:8443/{token}"),
    ] {
        let refused = send(&secrets, post(&url, None, "")).await.expect_err(&url);
        assert!(refused.contains("secret hook"), "{refused}");
    }
}

#[tokio::test]
async fn basic_authentication_is_understood() {
    let secrets = with(&["secret token header:authorization api.test"]);
    let user = |text: &str| format!("Basic {}", BASE64.encode(text));
    let header = user(&format!("api:{}", reference(&secrets, "token")));
    let request = post("https://api.test/", Some(("authorization", &header)), "");
    let sent = send(&secrets, request).await.expect("sent");
    assert_eq!(sent.headers["authorization"], user(&format!("api:{TOKEN}")));
    let request = post("https://evil.test/", Some(("authorization", &header)), "");
    assert!(send(&secrets, request).await.is_err());
}

#[tokio::test]
async fn a_hostile_guest_gets_no_reference_out() {
    let secrets = with(&[
        "secret token header:x-key api.test",
        "secret token query:key api.test",
        "secret token path api.test",
        "secret token body:/a api.test",
    ]);
    let token = reference(&secrets, "token");
    let (url, half) = ("https://api.test/", &token[..token.len() - 1]);
    let name = token.to_ascii_lowercase();
    for request in [
        post(url, Some((&name, "x")), ""),
        post(url, Some(("x-other", &token)), ""),
        post(&format!("{url}?{token}=1"), None, ""),
        post(&format!("{url}?key2={token}"), None, ""),
        post(&format!("{url}?key={token}&key2={token}"), None, ""),
        post(url, None, &token),
        post(url, None, &format!("a={token}")),
        post(url, None, &format!(r#"{{"b":"{token}"}}"#)),
        post(url, None, &format!(r#"{{"a":{{"a":"{token}"}}}}"#)),
        post(url, None, &format!(r#"{{"a":"x{token}"}}"#)),
        post(url, None, &format!(r#"{{"{token}":1}}"#)),
        post(url, None, &format!(r#"{{"a":"{token}","{token}":1}}"#)),
        post(url, None, &format!(r#"{{"a":"{token}","a":"{token}"}}"#)),
        post(url, None, &format!(r#"{{"a":"{token}","a":"x"}}"#)),
        post(url, None, &format!(r#"{{"a":"{token}"}} {{"a":1}}"#)),
        post("https://api.test.evil.test/", Some(("x-key", &token)), ""),
        post("https://api.test:8443/", Some(("x-key", &token)), ""),
    ] {
        let shown = format!("{request:?}");
        assert!(send(&secrets, request).await.is_err(), "{shown}");
    }
    // Half a reference stands for nothing, and neither does one in another writing.
    for text in [
        half.to_owned(),
        BASE64.encode(&token),
        token.to_ascii_uppercase(),
    ] {
        let sent = send(&secrets, post(url, Some(("x-key", &text)), "")).await;
        let sent = sent.expect("it is text like any other");
        assert_eq!((sent.headers["x-key"] == text, sent.carries), (true, None));
    }
    let large = send(&secrets, post(url, None, &"x".repeat(1001))).await;
    assert!(large.is_err(), "a body that cannot be looked through");
    let several = format!("{url}{token}?key={token}");
    let body = format!(r#"{{"a":"{token}"}}"#);
    let sent = send(&secrets, post(&several, Some(("x-key", &token)), &body)).await;
    assert!(!format!("{sent:?}").contains(&token), "{sent:?}");
    assert!(sent.is_ok(), "four granted places at once");
}

#[tokio::test]
async fn a_secret_cannot_break_out_of_its_place() {
    let settings = json!({"token": "abc\r\nx-evil: 1"});
    let grants = [
        "secret token header:x-key api.test",
        "secret token path api.test",
    ];
    let secrets = made(settings, &grants).expect("secrets").0;
    let token = reference(&secrets, "token");
    let request = post("https://api.test/", Some(("x-key", &token)), "");
    let refused = send(&secrets, request).await.expect_err("no header");
    assert!(
        refused.contains("holds characters that a header cannot have"),
        "{refused}"
    );
    let request = post(&format!("https://api.test/{token}"), None, "");
    let sent = send(&secrets, request).await.expect("encoded");
    assert_eq!(sent.uri, "https://api.test/abc%0D%0Ax-evil:%201");
}

#[test]
fn a_reference_tells_nothing_and_stays_the_same_while_the_process_lives() {
    let grants = ["secret token hmac", "secret hook path setting:hook"];
    let (secrets, settings) = made(json!({"token": TOKEN, "hook": HOOK}), &grants).expect("made");
    let hidden = secrets.hide(&settings);
    assert!(
        !hidden.contains("p/w") && !hidden.contains("services"),
        "{hidden}"
    );
    let parsed: Map<String, Value> = serde_json::from_str(&hidden).expect("JSON");
    assert_eq!(parsed["token"], reference(&secrets, "token"));
    let again = made(json!({"token": "another secret"}), &grants)
        .expect("made")
        .0;
    assert_eq!(reference(&again, "token"), reference(&secrets, "token"));
    let id = InstallationId::from_random([8; 10]);
    let key = ReferenceKey([1; 32]);
    assert_ne!(key.token(&id, "token"), reference(&secrets, "token"));
    assert_ne!(ReferenceKey::random().0, ReferenceKey::random().0);
}

#[test]
fn a_secret_has_a_size_and_a_url_is_one_of_the_web() {
    for (settings, part) in [
        (
            json!({"token": "12345"}),
            "has 5 bytes; a secret has 6 to 4096",
        ),
        (json!({"token": "x".repeat(4097)}), "has 4097 bytes"),
        (json!({"hook": "ftp://h.test/x"}), "https://"),
        (
            json!({"hook": "https://user:password@h.test/x"}),
            "user information",
        ),
    ] {
        let refused = made(settings, &[]).err().expect("refused");
        assert!(refused.reason.contains(part), "{refused:?}");
        assert!(!refused.reason.contains("password@"), "{refused:?}");
    }
}

#[test]
fn a_key_signs_without_being_seen() {
    // The example of the reference implementations of Standard Webhooks.
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let data = br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#;
    let secrets = made(json!({"token": key}), &["secret token hmac"])
        .expect("made")
        .0;
    let signed = secrets.list[0]
        .sign(wit::KeyEncoding::Base64, data)
        .expect("signed");
    assert_eq!(
        BASE64.encode(signed),
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    );
    // RFC 4231, test case 2, has a key of four bytes; this is its key twice.
    let secrets = made(json!({"token": "JefeJefe"}), &["secret token hmac"])
        .expect("made")
        .0;
    let text = secrets.list[0].sign(wit::KeyEncoding::Text, b"what do ya want for nothing?");
    let mut mac = hmac(b"JefeJefe");
    mac.update(b"what do ya want for nothing?");
    assert_eq!(text.expect("signed"), mac.finalize().into_bytes().to_vec());
    let secrets = made(json!({"token": "not base64!"}), &["secret token hmac"])
        .expect("made")
        .0;
    let bad = secrets.list[0].sign(wit::KeyEncoding::Base64, data);
    assert!(
        matches!(bad, Err(wit::SecretError::Malformed(_))),
        "{bad:?}"
    );
}

#[test]
fn a_secret_that_may_go_nowhere_is_named() {
    assert_eq!(with(&["secret token hmac"]).useless(), Some("hook"));
    let grants = ["secret token hmac", "secret hook path setting:hook"];
    assert_eq!(with(&grants).useless(), None);
}

/// A server that answers each connection with a head and then all that it was sent.
async fn echo(head: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = vec![0; 8192];
                let read = stream.read(&mut all).await.unwrap_or(0);
                let answer = [head.as_bytes(), b"\r\n\r\n", &all[..read]].concat();
                // In small parts, so that a secret comes cut.
                for part in answer.chunks(3) {
                    let _ = stream.write_all(part).await;
                    let _ = stream.flush().await;
                }
            });
        }
    });
    address
}

fn gate(grants: &[&str], secrets: Secrets, opened: &[&str]) -> (Gate, CallLog) {
    let open = opened
        .iter()
        .map(|cidr| cidr.parse::<Cidr>().expect("a range"));
    let policy = AddressPolicy {
        open: open.collect(),
    };
    let grants = grants
        .iter()
        .map(|grant| grant.parse().expect(grant))
        .collect();
    let settings = schema().validate(Map::new()).expect("no settings");
    let allow = Permits::new("spy", &grants, &grants, &settings);
    let log = CallLog::new(10_000);
    let gate = Gate {
        network: Arc::new(Network::new(policy, b"").expect("roots")),
        allow: Arc::new(allow.expect("permits")),
        contacts: Contacts::default(),
        secrets: Arc::new(secrets),
        log: log.clone(),
        requests_max: 10,
        request_body_max_bytes: 10_000,
        body_max_bytes: 10_000,
        connections_max: 4,
    };
    (gate, log)
}

async fn through(gate: &mut Gate, request: Request<String>) -> Result<(HeaderMap, String), Error> {
    let nothing = Box::new(async { Ok(()) });
    let sending = Box::into_pin(gate.send_request(request.map(body), None, nothing));
    let (answer, driver) = sending.await?;
    let driver = tokio::spawn(Box::into_pin(driver));
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    Ok((head.headers, String::from_utf8_lossy(&body).into_owned()))
}

#[tokio::test]
async fn a_server_that_echoes_gives_nothing_away() {
    let head = "HTTP/1.1 302 Found\r\nlocation: /?t=p%2Fw%22d%261%20x\r\nconnection: close";
    let address = echo(head).await;
    let grants = [
        format!("http {address}"),
        format!("secret token header:x-key {address}"),
    ];
    let basic = format!("secret token header:authorization {address}");
    let grants: Vec<_> = grants.iter().map(String::as_str).chain([&*basic]).collect();
    let secrets = made(json!({"token": TOKEN}), &grants).expect("made").0;
    let token = reference(&secrets, "token");
    let (mut gate, log) = gate(&grants, secrets, &["127.0.0.0/8"]);
    let url = format!("http://{address}/x");
    let mut request = post(&url, Some(("x-key", &token)), "");
    let credentials = format!("Basic {}", BASE64.encode(format!("u:{token}")));
    let headers = request.headers_mut();
    headers.insert("authorization", credentials.parse().expect("a header"));
    headers.insert("accept-encoding", "gzip".parse().expect("a header"));
    let (headers, body) = through(&mut gate, request).await.expect("an answer");
    assert!(body.contains("x-key: *********\r\n"), "{body}");
    assert!(
        !body.contains(TOKEN) && !body.contains(&BASE64.encode(TOKEN)[..8]),
        "{body}"
    );
    assert!(!body.contains("accept-encoding"), "{body}");
    assert_eq!(headers["location"], "/?t=*****************");
    assert_eq!(log.take().0, []);
}

#[tokio::test]
async fn a_secret_goes_without_tls_only_where_the_operator_opened_the_address() {
    let address = echo("HTTP/1.1 200 OK\r\nconnection: close").await;
    let grants = [
        format!("http {address}"),
        format!("secret token header:x-key {address}"),
    ];
    let grants: Vec<_> = grants.iter().map(String::as_str).collect();
    let url = format!("http://{address}/x");
    for (opened, is_sent) in [(&["127.0.0.1/32"][..], true), (&[], false)] {
        let secrets = made(json!({"token": TOKEN}), &grants).expect("made").0;
        let token = reference(&secrets, "token");
        let (mut gate, _) = gate(&grants, secrets, opened);
        let sent = through(&mut gate, post(&url, Some(("x-key", &token)), "")).await;
        assert_eq!(sent.is_ok(), is_sent, "{sent:?}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_searched_is_dropped() {
    let address = echo("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close").await;
    let grants = [
        format!("http {address}"),
        format!("secret token header:x-key {address}"),
    ];
    let grants: Vec<_> = grants.iter().map(String::as_str).collect();
    let secrets = made(json!({"token": TOKEN}), &grants).expect("made").0;
    let (mut gate, log) = gate(&grants, secrets, &["127.0.0.0/8"]);
    let request = post(&format!("http://{address}/x"), None, "");
    let dropped = through(&mut gate, request).await.expect_err("dropped");
    assert!(
        matches!(dropped, Error::HttpResponseContentCoding(_)),
        "{dropped:?}"
    );
    let remark = &log.take().0[0].message;
    assert!(
        remark.contains("cannot be searched for secrets"),
        "{remark}"
    );
}
