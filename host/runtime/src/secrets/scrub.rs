//! Finding secrets in what comes back and in what a plugin says.
//!
//! In bytes a secret is covered by as many stars, so that lengths stay true; in text `[secret]` stands for it.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};
use memchr::memmem;

use super::SECRET_MIN_BYTES;

/// Looks for a set of texts.
#[derive(Clone, Default)]
pub(super) struct Scrubber {
    needles: Vec<Vec<u8>>,
    longest: usize,
}

impl Scrubber {
    /// Looks for these; what is too short to be told from chance is left out.
    pub(super) fn new(needles: impl Iterator<Item = Vec<u8>>) -> Scrubber {
        let mut needles: Vec<_> = needles
            .filter(|needle| needle.len() >= SECRET_MIN_BYTES)
            .collect();
        needles.sort_unstable();
        needles.dedup();
        let longest = needles.iter().map(Vec::len).max().unwrap_or(0);
        Scrubber { needles, longest }
    }

    pub(super) fn needles(&self) -> impl Iterator<Item = &[u8]> {
        self.needles.iter().map(Vec::as_slice)
    }

    /// Where secrets are, in order, none touching another.
    fn find(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for needle in &self.needles {
            let matches = memmem::find_iter(bytes, needle);
            found.extend(matches.map(|at| at..at + needle.len()));
        }
        found.sort_unstable_by_key(|range| range.start);
        let mut apart: Vec<Range<usize>> = Vec::with_capacity(found.len());
        for range in found {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        apart
    }

    pub(super) fn redact(&self, text: String) -> String {
        let found = self.find(text.as_bytes());
        let Some(first) = found.first() else {
            return text;
        };
        let mut redacted = text.as_bytes()[..first.start].to_vec();
        let ends = found[1..].iter().map(|range| range.start);
        for (range, next) in found.iter().zip(ends.chain([text.len()])) {
            redacted.extend_from_slice(b"[secret]");
            redacted.extend_from_slice(&text.as_bytes()[range.end..next]);
        }
        // Secrets are whole characters, so what is left is text.
        String::from_utf8_lossy(&redacted).into_owned()
    }

    /// Covers secrets in the values of headers.
    pub(super) fn cover_headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let found = self.find(value.as_bytes());
            if found.is_empty() {
                continue;
            }
            let mut covered = value.as_bytes().to_vec();
            for range in found {
                covered[range].fill(b'*');
            }
            *value = HeaderValue::from_bytes(&covered).expect("stars may stand in a header");
        }
    }
}

/// Covers secrets in a stream of bytes, wherever the stream is cut.
///
/// So much is held back as the longest secret takes, for it may go on in the next part.
#[derive(Clone, Default)]
struct Stream {
    /// As it came.
    held: Vec<u8>,
    /// Bytes at the beginning of `held` that belong to a secret which was found before.
    covered: usize,
}

impl Stream {
    /// What of the stream can be let go, with secrets covered.
    fn take(&mut self, scrubber: &Scrubber, is_end: bool) -> Vec<u8> {
        let back = if is_end {
            0
        } else {
            scrubber.longest.saturating_sub(1)
        };
        // Looked through when there is twice of it, so that no byte is looked at often.
        if !is_end && self.held.len() < 2 * back {
            return Vec::new();
        }
        let cut = self.held.len().saturating_sub(back);
        let found = scrubber.find(&self.held);
        let rest = self.held.split_off(cut);
        let mut out = std::mem::replace(&mut self.held, rest);
        let covered = self.covered.min(cut);
        out[..covered].fill(b'*');
        let mut reaches = self.covered;
        for range in found.into_iter().filter(|range| range.start < cut) {
            out[range.start..range.end.min(cut)].fill(b'*');
            reaches = reaches.max(range.end);
        }
        self.covered = reaches.saturating_sub(cut);
        out
    }
}

/// A body in which secrets are covered.
pub(crate) struct Scrubbed<B> {
    body: B,
    scrubber: Scrubber,
    stream: Stream,
    /// Trailers that came before all bytes were let go.
    trailers: Option<HeaderMap>,
    is_over: bool,
}

impl<B> Scrubbed<B> {
    pub(super) fn new(body: B, scrubber: Scrubber) -> Scrubbed<B> {
        Scrubbed {
            body,
            scrubber,
            stream: Stream::default(),
            trailers: None,
            is_over: false,
        }
    }

    /// The next part, if enough has come or all.
    fn next(&mut self) -> Option<Frame<Bytes>> {
        let out = self.stream.take(&self.scrubber, self.is_over);
        if !out.is_empty() {
            return Some(Frame::data(out.into()));
        }
        self.trailers.take().map(Frame::trailers)
    }
}

impl<B, E> Body for Scrubbed<B>
where
    B: Body<Data = Bytes, Error = E> + Unpin,
{
    type Data = Bytes;
    type Error = E;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let this = &mut *self;
        while !this.is_over {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => this.is_over = true,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        this.stream.held.extend_from_slice(&data);
                        let out = this.stream.take(&this.scrubber, false);
                        if !out.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(out.into()))));
                        }
                    }
                    Err(frame) => {
                        let mut trailers = frame.into_trailers().unwrap_or_default();
                        this.scrubber.cover_headers(&mut trailers);
                        this.trailers = Some(trailers);
                        this.is_over = true;
                    }
                },
            }
        }
        Poll::Ready(this.next().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        let is_over = self.is_over || self.body.is_end_stream();
        is_over && self.stream.held.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.stream.held.len() as u64;
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::collections::VecDeque;
    use std::convert::Infallible;

    fn scrubber(needles: &[&str]) -> Scrubber {
        Scrubber::new(needles.iter().map(|needle| needle.as_bytes().to_vec()))
    }

    /// A body that comes in these parts.
    struct Parts(VecDeque<Bytes>);

    impl Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
        }
    }

    async fn through(scrubber: &Scrubber, parts: &[&[u8]]) -> String {
        let parts = parts.iter().map(|part| Bytes::copy_from_slice(part));
        let body = Scrubbed::new(Parts(parts.collect()), scrubber.clone());
        let all = body.collect().await.expect("never fails").to_bytes();
        String::from_utf8(all.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn a_secret_is_covered_wherever_the_stream_is_cut() {
        let scrubber = scrubber(&["hunter2-hunter", "hunter2"]);
        let text = b"a hunter2-hunter b hunter2 c hunter2-hunte";
        let covered = "a ************** b ******* c *******-hunte";
        for first in 0..text.len() {
            for second in first..text.len() {
                let parts = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(
                    through(&scrubber, &parts).await,
                    covered,
                    "{first} {second}"
                );
            }
        }
        let bytes: Vec<_> = text.chunks(1).collect();
        assert_eq!(through(&scrubber, &bytes).await, covered);
    }

    #[tokio::test]
    async fn what_has_no_secret_passes_as_it_is() {
        let long = "0123456789".repeat(20_000);
        let parts: Vec<_> = long.as_bytes().chunks(777).collect();
        assert_eq!(through(&scrubber(&["hunter2"]), &parts).await, long);
        assert_eq!(through(&Scrubber::default(), &parts).await, long);
    }

    #[test]
    fn text_says_that_something_was_there() {
        let scrubber = scrubber(&["hunter2", "ter2-abc", "short"]);
        for (text, redacted) in [
            ("é hunter2.", "é [secret]."),
            ("hunter2-abc", "[secret]"),
            ("hunter2 hunter2", "[secret] [secret]"),
            ("short and shown", "short and shown"),
        ] {
            assert_eq!(scrubber.redact(text.to_owned()), redacted);
        }
    }

    #[test]
    fn headers_are_covered() {
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_static("/x?token=hunter2"));
        scrubber(&["hunter2"]).cover_headers(&mut headers);
        assert_eq!(headers["location"], "/x?token=*******");
    }
}
