//! The real binary as a child process.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::components::text;
use super::{Client, Database, eventually, now_ms};

/// The server runs on the loopback address and so do the targets of its plugins.
const ALWAYS: [&str; 2] = ["--allow-private", "127.0.0.0/8"];

/// How long the server itself waits for the end of a run; its API allows no more.
const RUN_WAIT_MS: u64 = 30_000;

/// How much of the log a failed test shows.
const LOG_TAIL_BYTES: usize = 16 << 10;

/// A running `shoal serve` with a data folder of its own. Killed when dropped.
pub(crate) struct Server {
    process: Child,
    folder: TempDir,
    pub(crate) database: Database,
    addresses: Value,
    operator: Client,
}

/// A tenant with its keys.
pub(crate) struct Tenant {
    /// Its name in addresses.
    pub(crate) key: String,
    /// With a key that may read.
    pub(crate) read: Client,
    /// With a key that may read and write.
    pub(crate) write: Client,
    /// With the same key, at the port of receivers; at the API's port while there is none.
    pub(crate) otlp: Client,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub(crate) async fn start(database: Database) -> Server {
        Server::start_with(database, &[]).await
    }

    /// The same with further arguments.
    pub(crate) async fn start_with(database: Database, arguments: &[&str]) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let process = spawn(folder.path(), &database, arguments);
        let mut server = Server {
            process,
            folder,
            database,
            addresses: Value::Null,
            operator: Client::new(""),
        };
        server.wait_until_it_listens().await;
        server
    }

    /// Starts it again on the same data, after [`Server::end`] or [`Server::kill`].
    pub(crate) async fn start_again(&mut self, arguments: &[&str]) {
        self.process = spawn(self.folder.path(), &self.database, arguments);
        self.wait_until_it_listens().await;
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> PathBuf {
        data(self.folder.path())
    }

    /// What it wrote to standard error, in every start.
    pub(crate) fn log_file(&self) -> PathBuf {
        log(self.folder.path())
    }

    /// With the operator's key.
    pub(crate) fn operator(&self) -> &Client {
        &self.operator
    }

    /// With no key at all.
    pub(crate) fn nobody(&self) -> Client {
        Client::new(&self.operator.base)
    }

    /// `http://127.0.0.1:PORT` of a listener, by its name in `addresses.json`.
    pub(crate) fn address(&self, listener: &str) -> Option<String> {
        let address = self.addresses[listener].as_str()?;
        Some(format!("http://{address}"))
    }

    /// Number of the process, which changes with each start.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Makes a tenant with a reading and a writing key.
    pub(crate) async fn tenant(&self, key: &str) -> Tenant {
        let name = format!("Tenant {key}");
        let made = self
            .operator
            .post("/api/v1/tenants", &json!({ "key": key, "name": name }))
            .await;
        made.is(201);
        let (read, write) = (self.key(key, "read").await, self.key(key, "write").await);
        Tenant {
            key: key.to_owned(),
            otlp: self.at_otlp(&write),
            read,
            write,
        }
    }

    /// The same tenant's clients after a start on other ports.
    pub(crate) fn found_again(&self, tenant: &Tenant) -> Tenant {
        let write = tenant.write.at(&self.operator.base);
        Tenant {
            key: tenant.key.clone(),
            read: tenant.read.at(&self.operator.base),
            otlp: self.at_otlp(&write),
            write,
        }
    }

    fn at_otlp(&self, client: &Client) -> Client {
        let address = self.address("otlp_http");
        client.at(&address.unwrap_or_else(|| self.operator.base.clone()))
    }

    /// Makes a key of a tenant; returns a client with it.
    pub(crate) async fn key(&self, tenant: &str, role: &str) -> Client {
        let path = format!("/api/v1/tenants/{tenant}/keys");
        let body = json!({ "role": role, "name": role });
        let made = self.operator.post(&path, &body).await.is(201);
        self.operator.with_key(&text(&made["key"]))
    }

    /// Posts a run of a job and waits for its end; returns the run.
    pub(crate) async fn run_job(&self, job: &str, body: &Value) -> Value {
        let mut body = body.clone();
        body["wait_ms"] = json!(RUN_WAIT_MS);
        let path = format!("/api/v1/jobs/{job}/runs");
        let run = self.operator.post(&path, &body).await.is(200);
        assert_eq!(run["status"], "done", "{job}: {run}");
        run
    }

    /// Has every monitor evaluated for this very moment instead of waiting for the scheduler's next minute: a run is an
    /// event that anyone may post. Returns the run.
    pub(crate) async fn evaluate_monitors(&self) -> Value {
        self.run_job("evaluate-monitors", &json!({ "scheduled_at_ms": now_ms() }))
            .await
    }

    /// Asks it to end (SIGTERM) and checks that it ends well.
    pub(crate) async fn end(&mut self) {
        let id = self.process.id().to_string();
        let told = Command::new("sh")
            .args(["-c", &format!("kill -TERM {id}")])
            .status();
        assert!(
            told.expect("a shell").success(),
            "cannot signal process {id}"
        );
        let process = &mut self.process;
        let status: ExitStatus = eventually("end after SIGTERM", async || {
            process.try_wait().expect("the process is ours")
        })
        .await;
        assert!(status.success(), "it ended with {status} after SIGTERM");
    }

    /// Kills it at once (SIGKILL), as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
    }

    /// [`Server::end`], for good.
    pub(crate) async fn stop(mut self) {
        self.end().await;
    }

    /// What it has logged so far, over all starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(log(self.folder.path())).unwrap_or_default()
    }

    async fn wait_until_it_listens(&mut self) {
        let file = self.data().join("addresses.json");
        let process = &mut self.process;
        self.addresses = eventually("addresses.json", async || {
            let ended = process.try_wait().expect("the process is ours");
            assert!(ended.is_none(), "it ended at its start: {ended:?}");
            let text = std::fs::read_to_string(&file).ok()?;
            Some(serde_json::from_str(&text).expect("it is renamed into place whole"))
        })
        .await;
        let key = std::fs::read_to_string(self.data().join("operator.key"))
            .expect("the first start leaves the operator's key");
        let base = self.address("http").expect("the API has an address");
        self.operator = Client::new(&base).with_key(key.trim());
    }
}

impl Tenant {
    /// The value that a PromQL expression has for this tenant now; `None` when no series matches.
    pub(crate) async fn value_of(&self, promql: &str) -> Option<f64> {
        self.read.value_of(promql).await
    }
}

/// Shows the end of the log of a test that fails.
impl Drop for Server {
    #[expect(
        clippy::print_stderr,
        reason = "the test runner shows it with the failure"
    )]
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            let mut start = log.len().saturating_sub(LOG_TAIL_BYTES);
            while !log.is_char_boundary(start) {
                start += 1;
            }
            let name = self.database.name();
            eprintln!("---- log of the server on {name}:\n{}", &log[start..]);
        }
    }
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn spawn(folder: &Path, database: &Database, arguments: &[&str]) -> Child {
    // The last start's, which would pass for this one's.
    let _ = std::fs::remove_file(data(folder).join("addresses.json"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    command.arg("serve").arg("--data").arg(data(folder));
    for listener in ["--http", "--otlp-http", "--otlp-grpc"] {
        command.args([listener, "127.0.0.1:0"]);
    }
    command.args(ALWAYS).args(arguments);
    if let Database::Postgres { url } = database {
        command.args(["--database-url", url]);
    }
    // Whatever the developer has set for a server of their own is not for this one.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SHOAL_") {
            command.env_remove(name);
        }
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log(folder));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a log beside the data"))
        .spawn()
        .expect("the binary starts")
}
