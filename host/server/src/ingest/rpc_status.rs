//! The bytes of `google.rpc.Status`, with which OTLP tells errors over HTTP and over gRPC.

use std::time::Duration;

use serde_json::json;

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// Encodes a status with, when the client should come back, one `RetryInfo` detail.
///
/// Source: OTLP specification, "Failures"; `google/rpc/status.proto` and `error_details.proto`.
pub fn rpc_status(code: i32, message: &str, retry_after: Option<Duration>) -> Vec<u8> {
    let mut status = Vec::new();
    number(&mut status, 1, code as u64);
    bytes(&mut status, 2, message.as_bytes());
    if let Some(after) = retry_after {
        let mut any = Vec::new();
        bytes(&mut any, 1, RETRY_INFO.as_bytes());
        bytes(&mut any, 2, &retry_info(after));
        bytes(&mut status, 3, &any);
    }
    status
}

/// Encodes a `google.rpc.RetryInfo`.
pub fn retry_info(after: Duration) -> Vec<u8> {
    let mut duration = Vec::new();
    number(&mut duration, 1, after.as_secs());
    number(&mut duration, 2, u64::from(after.subsec_nanos()));
    let mut info = Vec::new();
    bytes(&mut info, 1, &duration);
    info
}

/// The same status in JSON.
pub fn rpc_status_json(code: i32, message: &str, retry_after: Option<Duration>) -> Vec<u8> {
    let mut status = json!({ "code": code, "message": message });
    if let Some(after) = retry_after {
        let delay = format!("{}.{:03}s", after.as_secs(), after.subsec_millis());
        status["details"] = json!([{ "@type": RETRY_INFO, "retryDelay": delay }]);
    }
    status.to_string().into_bytes()
}

fn number(buffer: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        varint(buffer, field << 3);
        varint(buffer, value);
    }
}

fn bytes(buffer: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(buffer, field << 3 | 2);
    varint(buffer, value.len() as u64);
    buffer.extend_from_slice(value);
}

fn varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_information_is_the_bytes_that_clients_expect() {
        let wanted = [
            &b"\x08\x0e\x12\x04busy\x1a\x36\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x0a"[..],
            b"\x0a\x08\x08\x01\x10\x80\xca\xb5\xee\x01",
        ]
        .concat();
        assert_eq!(
            rpc_status(14, "busy", Some(Duration::from_millis(1500))),
            wanted
        );
        assert_eq!(rpc_status(0, "", None), b"\x12\x00");
    }

    #[test]
    fn json_says_the_same() {
        let status = rpc_status_json(14, "busy", Some(Duration::from_millis(1500)));
        let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
        assert_eq!(status["code"], 14);
        assert_eq!(status["message"], "busy");
        assert_eq!(status["details"][0]["retryDelay"], "1.500s");
    }
}
