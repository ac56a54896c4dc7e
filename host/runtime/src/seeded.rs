//! Randomness that is the same whenever it is asked for: what billing rules get.

use std::convert::Infallible;

use rand_core::TryRng;
use sha2::{Digest as _, Sha256};

/// SHA-256 in counter mode, from a seed; nothing is computed before it is asked for.
pub(crate) struct SeededStream {
    seed: [u8; 32],
    /// Tells streams of one seed apart.
    name: u8,
    blocks: u64,
    block: [u8; 32],
    /// How much of `block` is left, at its end.
    left: usize,
}

impl SeededStream {
    pub(crate) fn new(seed: [u8; 32], name: u8) -> SeededStream {
        SeededStream {
            seed,
            name,
            blocks: 0,
            block: [0; 32],
            left: 0,
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.left == 0 {
                let mut hash = Sha256::new();
                hash.update(self.seed);
                hash.update([self.name]);
                hash.update(self.blocks.to_le_bytes());
                self.block = hash.finalize().into();
                self.blocks += 1;
                self.left = self.block.len();
            }
            *byte = self.block[self.block.len() - self.left];
            self.left -= 1;
        }
    }
}

impl TryRng for SeededStream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.fill(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand_core::Rng as _;

    use super::*;

    #[test]
    fn a_stream_is_the_same_in_any_pieces_and_another_for_each_seed_and_name() {
        let stream = |seed: u8, name: u8, pieces: &[usize]| {
            let mut stream = SeededStream::new([seed; 32], name);
            let mut all = Vec::new();
            for piece in pieces {
                let mut bytes = vec![0; *piece];
                stream.fill_bytes(&mut bytes);
                all.extend(bytes);
            }
            all
        };
        let whole = stream(1, b's', &[100]);
        assert_eq!(stream(1, b's', &[1, 31, 32, 36]), whole);
        assert_ne!(stream(2, b's', &[100]), whole);
        assert_ne!(stream(1, b'i', &[100]), whole);
        assert_ne!(whole[..32], whole[32..64]);
    }
}
