//! A private PostgreSQL for the tests: made in a temporary folder, reachable over loopback with a random
//! password, gone afterwards.
//!
//! The tests' role may create databases but is no superuser, because row-level security does not bind
//! superusers and would pass every test.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{command, interrupt, report};

/// The variable in which tests find the address of a PostgreSQL that they may create databases in.
pub(crate) const VARIABLE: &str = "SHOAL_TEST_POSTGRES";

/// Tests run side by side and each has pools of its own.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
max_connections = 300
fsync = off
synchronous_commit = off
full_page_writes = off
";

/// How many ports are tried: another process may take the free one between our look and the start.
const START_ATTEMPTS: u32 = 5;

/// A running server; dropping it stops it and removes its folder.
pub(crate) struct Postgres {
    programs: Programs,
    folder: PathBuf,
    /// `postgres://` address of a database that the tests' role owns.
    pub(crate) url: String,
}

impl Postgres {
    /// Makes and starts a server.
    ///
    /// # Errors
    /// When PostgreSQL is not installed (the message names the package) or does not start.
    pub(crate) fn start() -> Result<Postgres> {
        let programs = Programs::find()?;
        let folder = std::env::temp_dir().join(format!("shoal-postgres-{}", std::process::id()));
        std::fs::create_dir(&folder)
            .with_context(|| format!("could not make {}", folder.display()))?;
        programs.give(&folder)?;
        let password = random_password()?;
        let mut server = Postgres {
            programs,
            folder,
            url: String::new(),
        };
        server.initialize(&password)?;
        for attempt in 1.. {
            let port = free_port()?;
            match server.start_on(port) {
                Ok(()) => {
                    server.url = format!("postgres://shoal:{password}@127.0.0.1:{port}/shoal");
                    break;
                }
                Err(_) if attempt < START_ATTEMPTS => {}
                Err(error) => return Err(error.context(server.log())),
            }
        }
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Makes the cluster, its role and its database, without a running server.
    fn initialize(&self, password: &str) -> Result<()> {
        let mut initdb = self.programs.command("initdb", &self.folder);
        initdb.arg("--pgdata").arg(self.data());
        initdb.args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
        ]);
        initdb.args(["--no-locale", "--no-sync"]);
        // initdb insists on a password for the superuser; nobody is told it.
        let password_file = self.folder.join("superuser");
        std::fs::write(&password_file, random_password()?)?;
        initdb.arg("--pwfile").arg(&password_file);
        self.programs.give(&password_file)?;
        command::output(&mut initdb).context("could not make a PostgreSQL cluster")?;
        std::fs::remove_file(&password_file)?;
        let settings = format!("{SETTINGS}unix_socket_directories = ''\n");
        std::fs::write(self.data().join("postgresql.auto.conf"), settings)?;
        self.programs
            .give(&self.data().join("postgresql.auto.conf"))?;
        let sql = format!(
            "CREATE ROLE shoal LOGIN CREATEDB PASSWORD '{password}'\n\
             CREATE DATABASE shoal OWNER shoal\n"
        );
        self.single_user(&sql)
    }

    /// Runs one statement a line in single-user mode.
    fn single_user(&self, sql: &str) -> Result<()> {
        let mut postgres = self.programs.command("postgres", &self.folder);
        postgres
            .args(["--single", "-D"])
            .arg(self.data())
            .arg("postgres");
        let mut child = postgres
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("could not start PostgreSQL's single-user mode")?;
        let mut input = child.stdin.take().expect("it is piped");
        input.write_all(sql.as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || said.contains("ERROR:") {
            bail!("could not make the tests' role: {said}");
        }
        Ok(())
    }

    fn start_on(&self, port: u16) -> Result<()> {
        let mut start = self.programs.command("pg_ctl", &self.folder);
        start
            .args(["start", "--wait", "--silent", "--pgdata"])
            .arg(self.data());
        start.arg("--log").arg(self.folder.join("log"));
        start.arg(format!("--options=-p {port}"));
        // Not `output`: the server would inherit the pipes and keep them open.
        start.stdout(Stdio::null()).stderr(Stdio::null());
        command::run(&mut start)
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        format!("could not start a private PostgreSQL; it said: {text}")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = self.programs.command("pg_ctl", &self.folder);
        stop.args(["stop", "--wait", "--silent", "--mode=immediate", "--pgdata"])
            .arg(self.data());
        stop.stdout(Stdio::null()).stderr(Stdio::null());
        if let Err(error) = command::output(&mut stop).and(Ok(())).and_then(|()| {
            std::fs::remove_dir_all(&self.folder).context("could not remove its folder")
        }) {
            report::failure(&error.context(format!("PostgreSQL in {}", self.folder.display())));
        }
    }
}

/// Starts a server, prints its address and stops it on Ctrl-C.
pub(crate) fn serve() -> Result<()> {
    let server = Postgres::start()?;
    report::line(format_args!("export {VARIABLE}={}", server.url));
    report::line("# Ctrl-C stops it and removes its data.");
    while !interrupt::interrupted() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Where PostgreSQL's programs are, and as whom they run.
struct Programs {
    folder: PathBuf,
    /// PostgreSQL refuses to run as root; then as this user and group.
    run_as: Option<(u32, u32)>,
}

impl Programs {
    fn find() -> Result<Programs> {
        let Some(folder) = installed_folder() else {
            bail!(
                "PostgreSQL's `initdb` is neither in PATH nor in /usr/lib/postgresql/*/bin; install \
                 Debian's package `postgresql` (apt-get install postgresql), or set {VARIABLE} to the \
                 address of a server in which tests may create databases"
            );
        };
        let run_as = if user_id()? == 0 {
            Some(unprivileged_user()?)
        } else {
            None
        };
        Ok(Programs { folder, run_as })
    }

    fn command(&self, program: &str, working_folder: &Path) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command
            .current_dir(working_folder)
            .env_clear()
            .stdin(Stdio::null());
        if let Some((user, group)) = self.run_as {
            command.uid(user).gid(group);
        }
        command
    }

    /// Makes a file or folder the server's own.
    fn give(&self, path: &Path) -> Result<()> {
        if let Some((user, group)) = self.run_as {
            std::os::unix::fs::chown(path, Some(user), Some(group))
                .with_context(|| format!("could not give {} to PostgreSQL", path.display()))?;
        }
        Ok(())
    }
}

/// The folder of `initdb` and its companions: from PATH, else the newest of Debian's.
fn installed_folder() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let from_path = std::env::split_paths(&path).find_map(|folder| {
        // A link in PATH leads to the folder where the companions are.
        let initdb = folder.join("initdb").canonicalize().ok()?;
        initdb.parent().map(Path::to_owned)
    });
    from_path.or_else(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        versions
            .filter_map(|version| {
                let version = version.ok()?;
                let number: u32 = version.file_name().to_str()?.parse().ok()?;
                let folder = version.path().join("bin");
                folder.join("initdb").is_file().then_some((number, folder))
            })
            .max()
            .map(|(_, folder)| folder)
    })
}

fn user_id() -> Result<u32> {
    let text = command::output(Command::new("id").arg("-u"))?;
    text.trim()
        .parse()
        .with_context(|| format!("`id -u` printed {text:?}"))
}

/// User and group ids of `postgres`, else of `nobody`.
fn unprivileged_user() -> Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").context("could not read /etc/passwd")?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| ids_of(&users, name))
        .context(
            "running as root, PostgreSQL needs a user `postgres` or `nobody`; there is neither",
        )
}

fn ids_of(users: &str, name: &str) -> Option<(u32, u32)> {
    let row = users
        .lines()
        .find(|row| row.split(':').next() == Some(name))?;
    let mut fields = row.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

fn random_password() -> Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("no randomness for a password")?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_group_are_read_from_the_password_file() {
        let users = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";
        assert_eq!(ids_of(users, "nobody"), Some((65534, 65533)));
        assert_eq!(ids_of(users, "postgres"), None);
    }
}
