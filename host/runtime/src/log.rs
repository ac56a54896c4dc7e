//! What a call says: lines of the interface `log`, standard output and standard error, and the host's own remarks.
//!
//! Writing never fails and never waits. What does not fit is dropped and counted; the end of standard error is kept
//! apart, because a panic's message comes last.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::call::{LogLevel, LogLine, LogSource, cut};

/// Longest line; longer ones are cut.
const LINE_MAX_BYTES: usize = 8192;
/// Most lines of a call: each costs memory beside its bytes.
const LINES_MAX: usize = 1000;
/// How much of the end of standard error is kept to find a panic's message in, and of that message.
const TAIL_MAX_BYTES: usize = 4096;
/// Largest single write to a stream; larger ones are split by the guest's library.
const WRITE_MAX_BYTES: usize = 64 << 10;

/// The log of one call at a time; clones share it.
#[derive(Clone)]
pub(crate) struct CallLog(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    max_bytes: u64,
    bytes: u64,
    dropped_bytes: u64,
    lines: Vec<LogLine>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    tail: Vec<u8>,
}

impl CallLog {
    pub(crate) fn new(max_bytes: u64) -> CallLog {
        CallLog(Arc::new(Mutex::new(Inner {
            max_bytes,
            ..Inner::default()
        })))
    }

    /// A line of the interface `log`.
    pub(crate) fn write(&self, level: LogLevel, message: String) {
        self.0.lock().push(level, LogSource::Log, message);
    }

    /// A remark of the host for the plugin's author.
    pub(crate) fn remark(&self, message: String) {
        self.0.lock().push(LogLevel::Warn, LogSource::Host, message);
    }

    /// The stream behind standard output or error.
    pub(crate) fn stream(&self, source: LogSource) -> LogStream {
        LogStream {
            log: self.clone(),
            source,
        }
    }

    /// What a panic said, beginning with file and line, if one spoke on standard error or in the log.
    pub(crate) fn panic_message(&self) -> Option<String> {
        let inner = self.0.lock();
        let tail = String::from_utf8_lossy(&inner.tail).into_owned();
        let logged = inner.lines.iter().rev().take(5);
        std::iter::once(tail.as_str())
            .chain(
                logged
                    .filter(|line| line.source == LogSource::Log)
                    .map(|line| line.message.as_str()),
            )
            .find_map(panic_in)
    }

    /// Takes the lines and how many bytes were dropped, and begins anew.
    pub(crate) fn take(&self) -> (Vec<LogLine>, u64) {
        let mut inner = self.0.lock();
        inner.end_line(LogSource::Stdout);
        inner.end_line(LogSource::Stderr);
        let max_bytes = inner.max_bytes;
        let done = std::mem::replace(
            &mut *inner,
            Inner {
                max_bytes,
                ..Inner::default()
            },
        );
        (done.lines, done.dropped_bytes)
    }
}

/// What a panic of Rust says before its place and message.
const PANIC_MARK: &str = "panicked at ";

/// Reads Rust's `thread '…' panicked at src/lib.rs:1:2:` and the message on the lines after it.
fn panic_in(text: &str) -> Option<String> {
    let (_, said) = text.rsplit_once(PANIC_MARK)?;
    let said = said.split("\nnote: run with").next().unwrap_or(said);
    let said = said.trim().replacen(":\n", ": ", 1);
    Some(cut(said, TAIL_MAX_BYTES))
}

impl Inner {
    fn push(&mut self, level: LogLevel, source: LogSource, message: String) {
        let given = message.len() as u64;
        let message = cut(message, LINE_MAX_BYTES);
        let kept = message.len() as u64;
        if self.lines.len() >= LINES_MAX || self.bytes + kept > self.max_bytes {
            self.dropped_bytes += given;
            return;
        }
        self.bytes += kept;
        self.dropped_bytes += given - kept;
        self.lines.push(LogLine {
            level,
            source,
            message,
        });
    }

    fn partial(&mut self, source: LogSource) -> &mut Vec<u8> {
        if source == LogSource::Stdout {
            &mut self.stdout
        } else {
            &mut self.stderr
        }
    }

    /// Splits a stream's bytes into lines.
    fn stream(&mut self, source: LogSource, mut bytes: &[u8]) {
        if source == LogSource::Stderr {
            self.extend_tail(bytes);
        }
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend_line(source, &bytes[..at]);
            self.end_line(source);
            bytes = &bytes[at + 1..];
        }
        self.extend_line(source, bytes);
    }

    /// Keeps the end of standard error; of a panic, its beginning.
    fn extend_tail(&mut self, bytes: &[u8]) {
        // What was kept and what is new may hold one half each of the mark.
        let seam = self.tail.len().saturating_sub(PANIC_MARK.len() - 1);
        let mut new = self.tail.split_off(seam);
        new.extend_from_slice(bytes);
        let panics_at = new
            .windows(PANIC_MARK.len())
            .rposition(|window| window == PANIC_MARK.as_bytes());
        if let Some(at) = panics_at {
            new.drain(..at);
            self.tail = new;
            self.tail.truncate(TAIL_MAX_BYTES);
            return;
        }
        self.tail.append(&mut new);
        if self.tail.starts_with(PANIC_MARK.as_bytes()) {
            self.tail.truncate(TAIL_MAX_BYTES);
        } else {
            let old = self.tail.len().saturating_sub(TAIL_MAX_BYTES);
            self.tail.drain(..old);
        }
    }

    fn extend_line(&mut self, source: LogSource, bytes: &[u8]) {
        let partial = self.partial(source);
        let room = LINE_MAX_BYTES
            .saturating_sub(partial.len())
            .min(bytes.len());
        partial.extend_from_slice(&bytes[..room]);
        self.dropped_bytes += (bytes.len() - room) as u64;
    }

    fn end_line(&mut self, source: LogSource) {
        let partial = std::mem::take(self.partial(source));
        if partial.is_empty() {
            return;
        }
        let level = if source == LogSource::Stdout {
            LogLevel::Info
        } else {
            LogLevel::Warn
        };
        let text = String::from_utf8_lossy(&partial).into_owned();
        self.push(level, source, text);
    }
}

/// Standard output or error of a guest.
#[derive(Clone)]
pub(crate) struct LogStream {
    log: CallLog,
    source: LogSource,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.0.lock().stream(self.source, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX_BYTES)
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.log.0.lock().stream(self.source, bytes);
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let log = CallLog::new(10);
        log.write(LogLevel::Info, "12345".into());
        log.write(LogLevel::Info, "123456".into());
        log.write(LogLevel::Info, "67890".into());
        let (lines, dropped) = log.take();
        let kept: Vec<_> = lines.iter().map(|line| line.message.as_str()).collect();
        assert_eq!(kept, ["12345", "67890"]);
        assert_eq!(dropped, 6);
        assert_eq!(log.take(), (vec![], 0), "the next call begins anew");
    }

    #[test]
    fn lines_have_a_longest_length_and_a_greatest_number() {
        let log = CallLog::new(1 << 20);
        log.write(LogLevel::Info, "é".repeat(5000));
        for _ in 0..LINES_MAX {
            log.write(LogLevel::Info, String::new());
        }
        let (lines, dropped) = log.take();
        assert_eq!(lines[0].message.len(), LINE_MAX_BYTES);
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(dropped, 10_000 - LINE_MAX_BYTES as u64);
    }

    #[test]
    fn streams_become_lines() {
        let log = CallLog::new(1 << 20);
        let mut out = log.stream(LogSource::Stdout);
        for part in ["one\ntw", "o\n\nthr", "ee"] {
            OutputStream::write(&mut out, Bytes::from(part)).expect("never fails");
        }
        let lines: Vec<_> = log.take().0.into_iter().map(|line| line.message).collect();
        assert_eq!(lines, ["one", "two", "three"]);
    }

    #[test]
    fn a_panic_is_found_even_behind_a_flood() {
        let log = CallLog::new(100);
        let mut err = log.stream(LogSource::Stderr);
        for text in [
            "flood\n".repeat(10_000).as_str(),
            "\nthread '<unnamed>' (1) panicked at src/lib.rs:15:9:\nno such page\nnote: run with `RUST_BACKTRACE=1`\n",
        ] {
            OutputStream::write(&mut err, Bytes::from(text.to_owned())).expect("never fails");
        }
        assert_eq!(
            log.panic_message().as_deref(),
            Some("src/lib.rs:15:9: no such page")
        );
        assert!(log.take().1 > 49_000);
        assert_eq!(log.panic_message(), None);
    }

    #[test]
    fn a_panic_of_any_length_is_found_by_its_beginning() {
        let log = CallLog::new(100);
        let mut err = log.stream(LogSource::Stderr);
        let said = format!(
            "panicked at a.rs:1:1:\nfirst\nthread panicked at b.rs:2:2:\n{}",
            "x".repeat(100_000)
        );
        // In pieces of 7 bytes the mark lies in two of them.
        for piece in said.as_bytes().chunks(7) {
            OutputStream::write(&mut err, Bytes::copy_from_slice(piece)).expect("never fails");
        }
        let found = log.panic_message().expect("a panic");
        assert!(found.starts_with("b.rs:2:2: xxx"), "{found}");
        assert!(found.len() > 4000 && found.len() <= TAIL_MAX_BYTES);
    }
}
