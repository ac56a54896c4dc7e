//! Other programs: found in PATH, started on a free port of the loopback, stopped by their id; and plain HTTP to them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How to get what is measured beside Shoal.
pub(crate) const INSTALL: &str =
    "apt-get install prometheus-node-exporter victoria-metrics prometheus";

/// How long a program may take to serve, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A running program; killed when dropped.
pub(crate) struct Peer(Child);

impl Peer {
    /// Starts it and waits until it answers `path`; `None` when it is not installed.
    pub(crate) fn start(
        program: &str,
        arguments: &[&str],
        port: u16,
        path: &str,
    ) -> Result<Option<Peer>> {
        let child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut peer = match child {
            Ok(child) => Peer(child),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("could not start {program}")),
        };
        until(&format!("{program} to serve"), || {
            if let Some(status) = peer.0.try_wait()? {
                bail!("{program} ended with {status}");
            }
            Ok(get(port, path).is_ok())
        })?;
        Ok(Some(peer))
    }

    /// Asks it to end and waits until everything is on disk.
    pub(crate) fn stop(mut self) -> Result<()> {
        let id = self.0.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status()?;
        if !asked.success() {
            bail!("kill -TERM {id} ended with {asked}");
        }
        until("a program to end", || Ok(self.0.try_wait()?.is_some()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Waits for other programs, which tell nobody when they are done.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !done()? {
        if begun.elapsed() > PATIENCE {
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub(crate) fn get(port: u16, path: &str) -> Result<Vec<u8>> {
    request(port, "GET", path, &[])
}

pub(crate) fn post(port: u16, path: &str, body: &[u8]) -> Result<Vec<u8>> {
    request(port, "POST", path, body)
}

/// HTTP/1.0: the answer is what comes until the other side closes.
fn request(port: u16, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .with_context(|| format!("{path} answered no HTTP"))?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        let said = String::from_utf8_lossy(&answer[end..]);
        bail!("{path} answered {status}: {}", said.trim());
    }
    Ok(answer.split_off(end + 4))
}

/// Bytes of all files below a folder.
pub(crate) fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        bytes += match kind.is_dir() {
            true => folder_bytes(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}
