//! A request's body: read within bounds of size, time and memory, and decompressed within the same.

use std::io::Read as _;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::Body;

use super::admission::Admitted;
use super::problem::Problem;
use crate::task::blocking;

/// Longest body, after decompression: what OTLP recommends as a server's limit.
pub const BODY_MAX_BYTES: usize = 64 << 20;
/// How long a body may take to arrive: the longest at 1 MiB a second.
const ARRIVAL_MAX: Duration = Duration::from_secs(64);
/// How much of a refused body is read on, and for how long: more than usual batches take.
const DISCARD_MAX_BYTES: usize = 1 << 20;
const DISCARD_MAX: Duration = Duration::from_secs(2);
/// What is decompressed at a time.
const STEP_BYTES: usize = 64 << 10;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// It is not.
    Identity,
    /// With gzip.
    Gzip,
}

impl Encoding {
    /// Reads a header's value; absent means not compressed.
    ///
    /// # Errors
    /// Another encoding.
    pub fn parse(header: Option<&http::HeaderValue>) -> Result<Encoding, Problem> {
        let text = header.map_or(Ok("identity"), |value| value.to_str());
        match text.unwrap_or("?").trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "none" => Ok(Encoding::Identity),
            "gzip" | "x-gzip" => Ok(Encoding::Gzip),
            other => {
                let other: String = other.chars().take(100).collect();
                Err(Problem::unsupported(format!(
                    "the encoding {other:?} is not supported; send gzip or uncompressed"
                )))
            }
        }
    }
}

/// Reads a body of at most `max_bytes`.
///
/// # Errors
/// It is longer, does not arrive in time, breaks off, or there is no room for it.
pub async fn read<B: Body<Data = Bytes>>(
    body: B,
    max_bytes: usize,
    admitted: &mut Admitted,
) -> Result<Vec<u8>, Problem> {
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(Problem::too_large(max_bytes));
    }
    let reading = async {
        let mut body = pin!(body);
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|_| Problem::bad_request("the body broke off; send it again"))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if read.len() + data.len() > max_bytes {
                return Err(Problem::too_large(max_bytes));
            }
            admitted.grow(data.len())?;
            read.extend_from_slice(&data);
        }
        Ok(read)
    };
    let read = tokio::time::timeout(ARRIVAL_MAX, reading).await;
    read.unwrap_or_else(|_| {
        let seconds = ARRIVAL_MAX.as_secs();
        Err(Problem::too_slow(format!(
            "the body took more than {seconds} s to arrive; send smaller batches"
        )))
    })
}

/// Reads on for a while and forgets what comes, because a client that is still sending when its connection ends may
/// never see the refusal.
pub async fn discard<B: Body<Data = Bytes>>(body: B) {
    let reading = async {
        let mut body = pin!(body);
        let mut discarded = 0;
        while discarded < DISCARD_MAX_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            discarded += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // What does not come in time is not waited for.
    let _ = tokio::time::timeout(DISCARD_MAX, reading).await;
}

/// Undoes an encoding, off the async threads. Returns the body and its room.
///
/// # Errors
/// It is not of this encoding, longer than [`BODY_MAX_BYTES`], or there is no room for it.
pub async fn decode(
    encoding: Encoding,
    body: Vec<u8>,
    admitted: Admitted,
) -> Result<(Vec<u8>, Admitted), Problem> {
    match encoding {
        Encoding::Identity => Ok((body, admitted)),
        Encoding::Gzip => blocking(move || gunzip(&body, admitted)).await,
    }
}

fn gunzip(compressed: &[u8], mut admitted: Admitted) -> Result<(Vec<u8>, Admitted), Problem> {
    let mut decoder = MultiGzDecoder::new(compressed);
    let mut step = vec![0; STEP_BYTES];
    let mut body = Vec::new();
    loop {
        let read = decoder
            .read(&mut step)
            .map_err(|error| Problem::bad_request(format!("the body is not gzip: {error}")))?;
        if read == 0 {
            return Ok((body, admitted));
        }
        if body.len() + read > BODY_MAX_BYTES {
            return Err(Problem::too_large(BODY_MAX_BYTES));
        }
        admitted.grow(read)?;
        body.extend_from_slice(&step[..read]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http_body_util::Full;
    use shoal_model::TenantId;

    use super::*;
    use crate::ingest::admission::Admission;

    fn admitted() -> Admitted {
        Admission::default().enter(TenantId(1))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("into memory");
        encoder.finish().expect("into memory")
    }

    #[tokio::test]
    async fn gzip_is_undone_even_in_several_members() {
        let body = [gzip(b"one "), gzip(b"two")].concat();
        let decoded = decode(Encoding::Gzip, body, admitted()).await;
        let (body, _) = decoded.unwrap_or_else(|problem| panic!("{problem:?}"));
        assert_eq!(body, b"one two");
    }

    #[tokio::test]
    async fn a_bomb_is_stopped_at_the_limit() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        for _ in 0..=BODY_MAX_BYTES / STEP_BYTES {
            encoder.write_all(&[0; STEP_BYTES]).expect("into memory");
        }
        let bomb = encoder.finish().expect("into memory");
        assert!(bomb.len() < 1 << 20);
        let problem = decode(Encoding::Gzip, bomb, admitted()).await.err();
        assert_eq!(problem.map(|problem| problem.http_status), Some(413));
    }

    #[tokio::test]
    async fn what_is_not_gzip_is_a_bad_request() {
        let mut broken = gzip(b"something longer than a few bytes");
        broken.truncate(broken.len() - 9);
        for body in [b"not gzip".to_vec(), broken] {
            let problem = decode(Encoding::Gzip, body, admitted()).await.err();
            assert_eq!(problem.map(|problem| problem.http_status), Some(400));
        }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let body = || Full::new(Bytes::from_static(b"12345"));
        let read = super::read(body(), 5, &mut admitted()).await;
        assert_eq!(read.expect("it fits"), b"12345");
        let problem = super::read(body(), 4, &mut admitted()).await;
        assert_eq!(problem.expect_err("too long").http_status, 413);
        let mut full = Admission::new(100, 3).enter(TenantId(1));
        let problem = super::read(body(), 5, &mut full).await;
        assert_eq!(problem.expect_err("no room").http_status, 429);
    }

    #[test]
    fn encodings_are_told_apart() {
        let parse = |text: &str| Encoding::parse(Some(&text.parse().expect("a header")));
        assert_eq!(Encoding::parse(None), Ok(Encoding::Identity));
        assert_eq!(parse("GZIP"), Ok(Encoding::Gzip));
        assert_eq!(parse("identity"), Ok(Encoding::Identity));
        let problem = parse("br").expect_err("not supported");
        assert_eq!(problem.http_status, 415);
        assert!(problem.message.contains("\"br\""), "{}", problem.message);
    }
}
