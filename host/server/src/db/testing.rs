//! Runs a repository's test on both databases.
//!
//! SQLite is a file in a folder of its own. PostgreSQL is a fresh database in the cluster that `SHOAL_TEST_POSTGRES` names (a URL
//! whose user may create databases; `cargo xtask test` starts one and sets it). Without the variable the first test of
//! the process starts a private cluster, which ends with the process.

use std::future::Future;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr as _;
use std::sync::OnceLock;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use super::Db;

/// Calls `test` with an empty, migrated SQLite and then with such a PostgreSQL.
pub(crate) async fn each_database<F: Future<Output = ()>>(test: impl Fn(Db) -> F) {
    each_address(|address| {
        let test = &test;
        async move {
            let db = Db::open(&address).await.expect("a database for the test");
            test(db.clone()).await;
            db.close().await;
        }
    })
    .await;
}

/// Like [`each_database`], before the database is opened.
pub(crate) async fn each_address<F: Future<Output = ()>>(test: impl Fn(String) -> F) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    test(format!(
        "sqlite:{}",
        folder.path().join("shoal.db").display()
    ))
    .await;
    test(new_postgres().await).await;
}

/// An empty, migrated SQLite that lives as long as the returned folder: for tests of what lies above the database.
pub(crate) async fn sqlite() -> (tempfile::TempDir, Db) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("shoal.db");
    let db = Db::open(&format!("sqlite:{}", path.display())).await;
    (folder, db.expect("a database for the test"))
}

/// Makes an empty database and returns its address.
async fn new_postgres() -> String {
    let server = server_address();
    let options =
        PgConnectOptions::from_str(&server).expect("SHOAL_TEST_POSTGRES is a postgres URL");
    let mut admin = options.connect().await.unwrap_or_else(|error| {
        panic!("PostgreSQL at {server} does not answer: {error}");
    });
    let name = format!(
        "shoal_test_{:016x}",
        u64::from_ne_bytes(crate::random::bytes())
    );
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut admin)
        .await
        .expect("the user may create databases");
    let base = server.split('?').next().unwrap_or_default();
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..]
        .find('/')
        .map_or(base.len(), |at| authority + at);
    format!("{}/{name}", &base[..end])
}

fn server_address() -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's setting, not the program's"
    )]
    let given = std::env::var("SHOAL_TEST_POSTGRES");
    given.unwrap_or_else(|_| {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(Cluster::start).address.clone()
    })
}

/// A PostgreSQL of this process.
struct Cluster {
    address: String,
    // Holds the pipe whose end tells the cluster's shell to stop it.
    _shell: Child,
}

impl Cluster {
    /// Starts PostgreSQL on a free port of the loopback address, in a temporary folder.
    ///
    /// The shell waits for the end of its standard input, which comes when this process ends, however it ends.
    fn start() -> Cluster {
        let bin = find_bin().expect(
            "tests need PostgreSQL: apt-get install postgresql, or set SHOAL_TEST_POSTGRES",
        );
        let port = free_port();
        let script = format!(
            "set -e; d=$(mktemp -d); trap 'kill $p 2>/dev/null; wait $p 2>/dev/null; rm -rf $d' EXIT
             {bin}/initdb -D $d/data -U postgres -A trust -N --no-instructions >/dev/null
             {bin}/postgres -D $d/data -h 127.0.0.1 -p {port} -k $d -c fsync=off -c max_connections=300 >$d/log 2>&1 & p=$!
             for i in $(seq 300); do {bin}/pg_isready -q -h 127.0.0.1 -p {port} && break; sleep 0.1; done
             echo ready; cat >/dev/null",
            bin = bin.display(),
        );
        let mut shell = unprivileged_shell(&script)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut ready = [0; 6];
        shell
            .stdout
            .as_mut()
            .expect("it is piped")
            .read_exact(&mut ready)
            .expect("PostgreSQL starts; its reason not to is above");
        Cluster {
            address: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            _shell: shell,
        }
    }
}

/// `initdb` refuses to run as root.
fn unprivileged_shell(script: &str) -> Command {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|it| {
        use std::os::unix::fs::MetadataExt as _;
        it.uid() == 0
    });
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    command.args(["-c", script]);
    command
}

fn find_bin() -> Option<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's setting, not the program's"
    )]
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    folders.sort();
    folders.reverse();
    folders.extend(path.split(':').map(PathBuf::from));
    let has = |folder: &Path, name| folder.join(name).is_file();
    folders.into_iter().find(|folder| {
        ["initdb", "postgres", "pg_isready"]
            .iter()
            .all(|name| has(folder, name))
    })
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
