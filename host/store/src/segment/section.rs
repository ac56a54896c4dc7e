//! Sections: tables that are read as a whole, compressed when that makes them smaller.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::codec::{Malformed, Reader, put_varint};

/// Deflate makes nothing smaller than this part of itself, so that a length that claims more is damage and not an
/// allocation.
const EXPANSION_MAX: usize = 1032;

/// Of 10: more makes tables hardly smaller.
const LEVEL: u8 = 6;

const PLAIN: u8 = 0;
const DEFLATED: u8 = 1;

/// The section's bytes as they are in the file.
pub(crate) fn compress(bytes: &[u8]) -> Vec<u8> {
    let deflated = compress_to_vec(bytes, LEVEL);
    let (coding, content) = match deflated.len() < bytes.len() {
        true => (DEFLATED, &deflated[..]),
        false => (PLAIN, bytes),
    };
    let mut out = Vec::with_capacity(content.len() + 8);
    put_varint(&mut out, bytes.len() as u64);
    out.push(coding);
    out.extend_from_slice(content);
    out
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
            match decompress_to_vec_with_limit(rest, len) {
                Ok(out) if out.len() == len => Ok(out),
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
