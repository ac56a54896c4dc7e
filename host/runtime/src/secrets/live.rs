//! Covering secrets in a conversation, where the next part may come only after an answer to this one.
//!
//! So nothing is held back but what may be the beginning of a secret, until more comes or the peer is done. How much a
//! guest asks for at a time, or how long it waits, changes nothing.

use super::scrub::Scrubber;

/// What came in and was not handed on.
#[derive(Default)]
pub(crate) struct Live {
    needles: Vec<Matching>,
    /// Secrets that are complete are covered in it.
    held: Vec<u8>,
    is_over: bool,
}

impl Live {
    pub(super) fn new(scrubber: &Scrubber) -> Live {
        Live {
            needles: scrubber.needles().map(Matching::new).collect(),
            ..Live::default()
        }
    }

    /// Takes what came in.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.held.push(byte);
            let end = self.held.len();
            for needle in &mut self.needles {
                if needle.ends_with(byte) {
                    self.held[end - needle.needle.len()..].fill(b'*');
                }
            }
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self) {
        self.is_over = true;
    }

    /// Whether everything that came in was handed on.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// What can be handed on, at most so many bytes.
    pub(crate) fn take(&mut self, most: usize) -> Vec<u8> {
        let begun = self.needles.iter().map(|needle| needle.matched).max();
        let back = if self.is_over { 0 } else { begun.unwrap_or(0) };
        let count = most.min(self.held.len() - back);
        let rest = self.held.split_off(count);
        std::mem::replace(&mut self.held, rest)
    }
}

/// How much of one text the end of a stream is (Knuth, Morris and Pratt, 1977).
struct Matching {
    needle: Vec<u8>,
    /// For each length of a beginning, the next shorter one that is also its end.
    shorter: Vec<usize>,
    matched: usize,
}

impl Matching {
    fn new(needle: &[u8]) -> Matching {
        let mut shorter = vec![0; needle.len() + 1];
        let mut length = 0;
        for at in 1..needle.len() {
            while length > 0 && needle[at] != needle[length] {
                length = shorter[length];
            }
            length += usize::from(needle[at] == needle[length]);
            shorter[at + 1] = length;
        }
        Matching {
            needle: needle.to_vec(),
            shorter,
            matched: 0,
        }
    }

    /// Goes on by one byte; whether the whole text ends with it.
    fn ends_with(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.needle[self.matched] != byte {
            self.matched = self.shorter[self.matched];
        }
        self.matched += usize::from(self.needle[self.matched] == byte);
        let is_whole = self.matched == self.needle.len();
        if is_whole {
            self.matched = self.shorter[self.matched];
        }
        is_whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(needles: &[&str]) -> Live {
        let needles = needles.iter().map(|needle| needle.as_bytes().to_vec());
        Live::new(&Scrubber::new(needles))
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_secret_is_covered_wherever_it_is_cut_and_however_it_is_asked_for() {
        let said = b"a hunter2-hunter b hunter2 c hunthunter2";
        let covered = "a ************** b ******* c hunt*******";
        for part in 1..said.len() {
            for most in 1..10 {
                let mut live = live(&["hunter2-hunter", "hunter2"]);
                let mut out = Vec::new();
                for part in said.chunks(part) {
                    live.push(part);
                    out.extend(live.take(most));
                }
                live.end();
                while let rest = live.take(most)
                    && !rest.is_empty()
                {
                    out.extend(rest);
                }
                assert_eq!(text(out), covered, "{part} {most}");
            }
        }
    }

    #[test]
    fn what_begins_no_secret_is_there_at_once() {
        let mut live = live(&["hunter2", "aaaaaab"]);
        live.push(b"+OK ready\r\n");
        assert_eq!(text(live.take(100)), "+OK ready\r\n");
        live.push(b"go hunt");
        assert_eq!(text(live.take(100)), "go ");
        live.push(b"ing aaaaaaaaab");
        assert_eq!(text(live.take(100)), "hunting aaa*******");
        live.push(b"hunter");
        assert_eq!(text(live.take(100)), "");
        live.end();
        assert_eq!(text(live.take(100)), "hunter");
    }

    #[test]
    fn without_secrets_everything_passes() {
        let mut live = live(&[]);
        live.push(b"hunter2");
        assert_eq!(text(live.take(3)), "hun");
        assert_eq!(text(live.take(100)), "ter2");
    }
}
