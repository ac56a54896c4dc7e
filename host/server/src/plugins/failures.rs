//! Calls that failed, kept until they are written: with message, backtrace, log and what was asked.
//!
//! A plugin may fail a thousand times a second and each time alike, so only some of each installation are kept, and the
//! rest is counted. Faults of the plugin's code have a share of their own: requests that a receiver refuses, however many,
//! do not hide that it crashes.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde_json::{Value, json};
use shoal_model::{TenantId, Timestamp};
use shoal_runtime::{CallError, CallReport};

use super::asked::Failed;
use crate::db::plugin_failures::FailureRow;
use crate::random;

/// Faults of one installation that are kept in one minute.
const FAULTS_PER_MINUTE: u32 = 4;
/// Failures that a plugin reported itself, of one installation in one minute.
const REPORTS_PER_MINUTE: u32 = 1;
/// What waits to be written: some seconds of many installations that fail at once. Beyond it failures are counted alone.
const WAITING_MAX: usize = 256;
/// Log lines of one failure, the last ones.
const LOG_LINES_MAX: usize = 50;
/// Bytes of log of one failure.
const LOG_MAX_BYTES: usize = 8 << 10;

#[derive(Default)]
pub(super) struct Failures(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Vec<FailureRow>,
    minute: i64,
    /// Kept in this minute: faults, and what plugins reported themselves.
    kept: HashMap<(TenantId, String), [u32; 2]>,
    dropped: u64,
}

impl Failures {
    /// Keeps a failure, if there is room; `asked` makes what is shown of the input.
    pub(super) fn note(&self, failed: &Failed<'_>, now: Timestamp, asked: impl FnOnce() -> Value) {
        let is_fault = failed.error.is_plugin_fault();
        if !is_fault && !matches!(failed.error, CallError::Failed(_)) {
            return;
        }
        let row = &failed.running.row;
        if self.has_room(row.tenant(), &row.id, is_fault, now) {
            let row = made(failed, now, &asked());
            self.0.lock().waiting.push(row);
        }
    }

    fn has_room(&self, tenant: TenantId, id: &str, is_fault: bool, now: Timestamp) -> bool {
        let mut inner = self.0.lock();
        let minute = now.0.div_euclid(60_000);
        if inner.minute != minute {
            inner.minute = minute;
            inner.kept.clear();
        }
        let is_full = inner.waiting.len() >= WAITING_MAX;
        let kept = inner.kept.entry((tenant, id.to_owned())).or_default();
        let (count, most) = match is_fault {
            true => (&mut kept[0], FAULTS_PER_MINUTE),
            false => (&mut kept[1], REPORTS_PER_MINUTE),
        };
        if is_full || *count >= most {
            inner.dropped += 1;
            return false;
        }
        *count += 1;
        true
    }

    /// What waits to be written.
    pub(super) fn take(&self) -> Vec<FailureRow> {
        std::mem::take(&mut self.0.lock().waiting)
    }

    /// What could not be written waits again, as far as there is room.
    pub(super) fn put_back(&self, rows: Vec<FailureRow>) {
        let mut inner = self.0.lock();
        let room = WAITING_MAX.saturating_sub(inner.waiting.len());
        inner.dropped += rows.len().saturating_sub(room) as u64;
        inner.waiting.extend(rows.into_iter().take(room));
    }

    /// Failures that were counted alone, since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }
}

fn made(failed: &Failed<'_>, now: Timestamp, input: &Value) -> FailureRow {
    let Failed {
        running,
        version,
        installed,
        error,
        report,
    } = failed;
    let backtrace: &[String] = match error {
        CallError::Panicked { backtrace, .. } | CallError::Trapped { backtrace, .. } => backtrace,
        _ => &[],
    };
    FailureRow {
        tenant_id: running.row.tenant_id,
        installation_id: running.row.id.clone(),
        id: format!(
            "{:016}-{:08x}",
            now.unix_ms(),
            u32::from_ne_bytes(random::bytes())
        ),
        at_ms: now.unix_ms(),
        plugin_id: version.plugin_id.clone(),
        version: version.version.clone(),
        digest: version.digest.clone(),
        kind: version.kind.clone(),
        code: error.code().to_owned(),
        message: error.to_string(),
        backtrace: json!(backtrace).to_string(),
        log: log(report).to_string(),
        input: installed.redact(input.to_string()),
        report: used(report).to_string(),
    }
}

/// The last lines of a call's log, within bounds.
fn log(report: &CallReport) -> Value {
    let mut bytes = 0;
    let mut lines: Vec<Value> = report
        .log
        .iter()
        .rev()
        .take(LOG_LINES_MAX)
        .take_while(|line| {
            bytes += line.message.len();
            bytes <= LOG_MAX_BYTES
        })
        .map(|line| {
            json!({
                "level": line.level.as_str(),
                "source": format!("{:?}", line.source).to_ascii_lowercase(),
                "message": line.message,
            })
        })
        .collect();
    lines.reverse();
    lines.into()
}

fn used(report: &CallReport) -> Value {
    json!({
        "duration_us": report.duration.as_micros() as u64,
        "queued_us": report.queued.as_micros() as u64,
        "cpu_us": report.cpu.as_micros() as u64,
        "memory_peak_bytes": report.memory_peak_bytes,
        "bytes_out": report.bytes_out,
        "log_dropped_bytes": report.log_dropped_bytes,
        "contacted": report.contacted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(60_000 * 1000);

    #[test]
    fn so_many_of_an_installation_are_kept_in_a_minute_and_reports_hide_no_fault() {
        let failures = Failures::default();
        let kept = |is_fault: bool, now| {
            let room = (0..10).filter(|_| failures.has_room(TenantId(2), "ins_1", is_fault, now));
            room.count()
        };
        assert_eq!(kept(false, NOW), REPORTS_PER_MINUTE as usize);
        assert_eq!(kept(true, NOW), FAULTS_PER_MINUTE as usize);
        assert!(failures.has_room(TenantId(3), "ins_1", true, NOW));
        assert_eq!(failures.dropped(), 9 + 6);
        let later = Timestamp(NOW.0 + 60_000);
        assert_eq!(kept(true, later), FAULTS_PER_MINUTE as usize);
    }

    #[test]
    fn the_end_of_a_long_log_is_kept() {
        let line = |message: String| shoal_runtime::LogLine {
            level: shoal_runtime::LogLevel::Info,
            source: shoal_runtime::LogSource::Stderr,
            message,
        };
        let report = CallReport {
            log: (0..100).map(|at| line(format!("line {at}"))).collect(),
            ..CallReport::default()
        };
        let shown = log(&report);
        assert_eq!(shown.as_array().map(Vec::len), Some(LOG_LINES_MAX));
        assert_eq!(shown[49]["message"], "line 99");
        assert_eq!(shown[49]["source"], "stderr");
        let report = CallReport {
            log: vec![line("a".repeat(LOG_MAX_BYTES)), line("b".to_owned())],
            ..CallReport::default()
        };
        assert_eq!(log(&report).as_array().map(Vec::len), Some(1));
    }
}
