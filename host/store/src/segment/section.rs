//! Sections: tables that are read as a whole, compressed when that makes them smaller.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::codec::{Malformed, Reader, put_varint};

/// Deflate makes nothing smaller than this part of itself, so that a length that claims more is damage and not an
/// allocation.
const EXPANSION_MAX: usize = 1032;

const PLAIN: u8 = 0;
const DEFLATED: u8 = 1;

/// The section's bytes as they are in the file.
pub(crate) fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, bytes.len() as u64);
    out.push(DEFLATED);
    let begin = out.len();
    let mut encoder = DeflateEncoder::new(out, Compression::default());
    let deflated = encoder.write_all(bytes).and_then(|()| encoder.finish());
    match deflated {
        Ok(out) if out.len() - begin < bytes.len() => out,
        _ => {
            let mut out = Vec::with_capacity(bytes.len() + begin);
            put_varint(&mut out, bytes.len() as u64);
            out.push(PLAIN);
            out.extend_from_slice(bytes);
            out
        }
    }
}

/// What [`compress`] was given.
pub(crate) fn decompress(section: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(section);
    let len = usize::try_from(reader.varint()?).map_err(|_| Malformed("it is too large"))?;
    let coding = reader.u8()?;
    let rest = reader.rest();
    match coding {
        PLAIN if rest.len() == len => Ok(rest.to_vec()),
        DEFLATED if len <= rest.len().saturating_mul(EXPANSION_MAX) => {
            let mut out = Vec::with_capacity(len);
            let mut decoder = DeflateDecoder::new(rest).take(len as u64 + 1);
            match decoder.read_to_end(&mut out) {
                Ok(read) if read == len => Ok(out),
                _ => Err(Malformed("it cannot be decompressed")),
            }
        }
        PLAIN | DEFLATED => Err(Malformed("its length is wrong")),
        _ => Err(Malformed("how it is compressed is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_back_and_claim_no_more_than_they_can_hold() {
        let noise: Vec<u8> = (0..300u64)
            .map(|n| ((n * n * 2_654_435_761) >> 24) as u8)
            .collect();
        for bytes in [&b""[..], b"a", &[7; 100_000], &noise] {
            let section = compress(bytes);
            assert_eq!(decompress(&section).as_deref(), Ok(bytes));
            for len in 0..section.len().min(40) {
                assert!(decompress(&section[..len]).is_err() || len == section.len());
            }
        }
        assert!(compress(&[7; 100_000]).len() < 300);
        let mut greedy = Vec::new();
        put_varint(&mut greedy, 1 << 40);
        greedy.push(DEFLATED);
        greedy.extend_from_slice(&[0; 50]);
        assert_eq!(decompress(&greedy), Err(Malformed("its length is wrong")));
    }
}
