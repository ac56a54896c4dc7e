//! Any bytes as a segment: read whole, as `shoal store verify` does. The checksums are made right first, so that what
//! lies behind them is reached.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    shoal_store::verify_segment_bytes("fuzzed", bytes.to_vec(), shoal_store::ChecksumUse::Ignore);
});
