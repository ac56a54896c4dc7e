//! Whose request it is and what receives it, without a plugin; with plugins the real process is tested.

use http::HeaderValue;
use shoal_model::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::db::testing::sqlite;
use crate::testing::{self, Engines};

const NOW: Timestamp = Timestamp(1_795_478_400_000);

/// A process without plugins, and a tenant `acme` with keys.
pub(crate) struct Fixture {
    pub(crate) receivers: Arc<Receivers>,
    pub(crate) write_key: String,
    pub(crate) read_key: String,
    pub(crate) app: App,
    _folders: [TempDir; 2],
}

pub(crate) async fn fixture(admission: Admission) -> Fixture {
    let (folder, db) = sqlite().await;
    let data = tempfile::tempdir().expect("a folder");
    let acme = db.system().create_tenant("acme", "Acme", NOW).await;
    let acme = db.tenant(acme.expect("it is new").id());
    let mut keys = Vec::new();
    for role in [Role::Write, Role::Read] {
        let key = ApiKey::random();
        acme.add_key(&key, "test", role, NOW).await.expect("added");
        keys.push(key.reveal());
    }
    let clock = Clock::manual(NOW);
    let app = testing::app(db, data.path(), clock, Engines::Store).await;
    let [write_key, read_key] = keys.try_into().expect("two were made");
    Fixture {
        receivers: Receivers::new(&app, admission),
        write_key,
        read_key,
        app,
        _folders: [folder, data],
    }
}

pub(crate) fn bearer(key: &str) -> HeaderMap {
    let value = format!("Bearer {key}").parse::<HeaderValue>();
    HeaderMap::from_iter([(http::header::AUTHORIZATION, value.expect("a header"))])
}

#[tokio::test]
async fn only_a_key_that_may_write_gets_as_far_as_a_receiver() {
    let fixture = fixture(Admission::default()).await;
    let endpoint = Endpoint::Http("/v1/metrics".to_owned());
    let unknown = ApiKey::random().reveal();
    for (headers, status, code, says) in [
        (HeaderMap::new(), 401, 16, "an API key is needed"),
        (bearer("nonsense"), 401, 16, "an API key is needed"),
        (bearer(&unknown), 401, 16, "is not valid"),
        (
            bearer(&fixture.read_key),
            403,
            7,
            "needs a key with role write",
        ),
        (
            bearer(&fixture.write_key),
            404,
            12,
            "shoal plugin enable otlp --tenant acme",
        ),
    ] {
        let refused = fixture.receivers.accept(&headers, &endpoint).await;
        let problem = refused.err().expect("there is no plugin");
        assert_eq!((problem.http_status, problem.grpc_code), (status, code));
        assert!(problem.message.contains(says), "{}", problem.message);
        assert!(!problem.message.contains(&unknown));
    }
    let keys = fixture
        .app
        .db
        .tenant(TenantId(1))
        .keys()
        .await
        .expect("keys");
    let used = keys.iter().filter(|key| key.last_used_at_ms.is_some());
    assert_eq!(used.count(), 1, "only where a request was let in");
}

#[test]
fn what_became_of_a_request_is_told_alike_for_both_transports() {
    let response = |status| {
        Ok(ReceiverResponse {
            status,
            content_type: String::new(),
            retry_after: None,
            message: String::new(),
            body: Vec::new(),
        })
    };
    for (transport, status, wanted) in [
        (Transport::Http, 200, "done"),
        (Transport::Http, 400, "refused"),
        (Transport::Http, 503, "retry"),
        (Transport::Http, 500, "failed"),
        (Transport::Grpc, 0, "done"),
        (Transport::Grpc, 3, "refused"),
        (Transport::Grpc, 14, "retry"),
        (Transport::Grpc, 13, "failed"),
    ] {
        assert_eq!(outcome(&response(status), transport), wanted, "{status}");
    }
    let busy = Err(Problem::unavailable("busy"));
    assert_eq!(outcome(&busy, Transport::Grpc), "retry");
}
