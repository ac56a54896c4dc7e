//! Peers that are played, asked by a real client.

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1;

use super::*;

fn script(exchanges: serde_json::Value, faults: &str) -> Arc<Script> {
    let exchanges: Vec<HttpExchange> = serde_json::from_value(exchanges).expect("exchanges");
    let checked = exchanges.into_iter().map(HttpExchange::checked);
    let exchanges = Exchanges {
        http: checked.collect::<Result<_, _>>().expect("right exchanges"),
        net: Vec::new(),
    };
    let faults = match faults {
        "" => Faults::default(),
        faults => faults.parse().expect("faults"),
    };
    Arc::new(Script::new(exchanges, faults, Beyond::IsProblem))
}

fn target() -> Target {
    Target::of_url("https://a.example/").expect("a target")
}

/// Posts a body to `https://a.example/hook` and returns status and body.
async fn post(script: &Arc<Script>, body: &'static str) -> Result<(u16, String), String> {
    let peer = script.open(&target(), true).map_err(|e| e.to_string())?;
    let peer = peer.expect("the peer is played");
    let (mut sender, connection) = http1::handshake(TokioIo::new(peer))
        .await
        .map_err(|e| e.to_string())?;
    let request = Request::post("/hook")
        .header("x-key", "secret")
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let asked = async move {
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await;
        let body = body.map_err(|e| e.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let (answer, _) = tokio::join!(asked, connection);
    answer
}

#[tokio::test]
async fn answers_come_in_order_and_requests_are_compared() {
    let exchange = serde_json::json!({
        "request": "post https://A.example:443/hook",
        "request_headers": { "x-key": "secret" },
        "request_body": { "n": 1 },
        "answer": { "status": 201, "body": "made" },
    });
    let script = script(serde_json::json!([exchange, exchange]), "");
    let first = post(&script, r#"{"n":1,"m":2}"#).await;
    assert_eq!(first, Ok((201, "made".to_owned())));
    assert_eq!(script.problems(), [] as [&str; 0]);
    assert_eq!(script.left(), ["POST https://a.example/hook"]);
    let second = post(&script, r#"{"n":3}"#).await;
    assert_eq!(second, Ok((201, "made".to_owned())));
    assert_eq!(
        script.problems(),
        ["POST https://a.example/hook: body.n: expected 1, found 3"]
    );
}

#[tokio::test]
async fn a_request_that_no_answer_was_written_for_is_a_problem() {
    let script = script(serde_json::json!([]), "");
    post(&script, "").await.expect_err("nobody answers");
    assert_eq!(
        script.problems(),
        ["POST https://a.example/hook is beyond the script"]
    );
    let error = script.before_resolving(&target()).await;
    error.expect_err("no socket is opened");
    assert_eq!(script.problems()[1], "a.example:443 is not in the script");
}

#[tokio::test]
async fn a_peer_may_fail_in_each_way() {
    for (error, message) in [
        ("dns", "a.example:443 has no address"),
        (
            "refused",
            "no connection to a.example:443: connection refused",
        ),
        ("timeout", "a.example:443 did not answer in time"),
        ("closed", "connection"),
    ] {
        let exchange = serde_json::json!([{
            "request": "POST https://a.example/hook", "answer": { "error": error },
        }]);
        let script = script(exchange, "");
        let failed = post(&script, "").await.expect_err(error);
        assert!(failed.contains(message), "{error}: {failed}");
        assert_eq!(script.problems(), [] as [&str; 0], "{error}");
        assert_eq!(script.left(), [] as [&str; 0], "{error}");
    }
}

#[tokio::test]
async fn faults_take_the_place_of_answers() {
    let script_of = |faults| script(serde_json::json!([]), faults);
    let began = tokio::time::Instant::now();
    let answer = post(&script_of("http=503,delay=20ms"), "").await;
    assert_eq!(answer.expect("an answer").0, 503);
    assert!(began.elapsed() >= std::time::Duration::from_millis(20));
    let error = post(&script_of("dns=fail"), "").await;
    assert_eq!(error, Err("a.example:443 has no address".to_owned()));
}
