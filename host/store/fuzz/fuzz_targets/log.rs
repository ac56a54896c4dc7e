//! Any bytes as a record of the log, and as a log file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    shoal_store::verify_log_bytes(bytes);
});
