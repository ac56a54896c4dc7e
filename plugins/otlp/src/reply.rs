//! Answers in OTLP's words: `ExportMetricsServiceResponse` for success, `google.rpc.Status` for failure, each in
//! protobuf or JSON. Source: <https://opentelemetry.io/docs/specs/otlp/>.

use shoal_otlp_decoder::wire::Writer;
use shoal_sdk::json;
use shoal_sdk::receiver::Response;

/// Longest error message, in bytes; a client may cut an answer above 4 MiB, and nobody reads even this much.
const MESSAGE_BYTES_MAX: usize = 8192;

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// How a request, and so its answer, is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// Over HTTP, in protobuf.
    Protobuf,
    /// Over HTTP, in JSON; also the answer to what has neither form, since a human can read it.
    #[default]
    Json,
    /// Over gRPC.
    Grpc,
}

impl Form {
    fn content_type(self) -> &'static str {
        match self {
            Form::Protobuf => "application/x-protobuf",
            Form::Json => "application/json",
            Form::Grpc => "application/grpc",
        }
    }
}

/// The request was taken, wholly or partly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// Data points that will never be stored.
    pub(crate) rejected_points: u64,
    /// Data points of the request.
    pub(crate) all_points: u64,
    /// The first reasons, in words.
    pub(crate) reasons: Vec<String>,
}

impl Stored {
    pub(crate) fn response(&self, form: Form) -> Response {
        Response {
            status: if form == Form::Grpc { 0 } else { 200 },
            content_type: form.content_type().to_owned(),
            retry_after_ms: None,
            message: String::new(),
            body: match form {
                Form::Protobuf | Form::Grpc => self.protobuf(),
                Form::Json => self.json(),
            },
        }
    }

    fn error_message(&self) -> String {
        let Stored {
            rejected_points,
            all_points,
            reasons,
        } = self;
        let reasons = reasons.join("; ");
        cut(format!(
            "{rejected_points} of {all_points} data points were rejected: {reasons}"
        ))
    }

    fn protobuf(&self) -> Vec<u8> {
        let mut message = Writer::default();
        if self.rejected_points > 0 {
            message.message(1, |partial_success| {
                partial_success.varint(1, self.rejected_points);
                partial_success.bytes(2, self.error_message().as_bytes());
            });
        }
        message.finish()
    }

    fn json(&self) -> Vec<u8> {
        let message = match self.rejected_points {
            0 => json!({}),
            rejected => json!({"partialSuccess": {
                "rejectedDataPoints": rejected.to_string(),
                "errorMessage": self.error_message(),
            }}),
        };
        message.to_string().into_bytes()
    }
}

/// Nothing of the request was taken.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    http_status: u16,
    /// gRPC status code; also the code in the `google.rpc.Status` of an HTTP answer.
    code: u16,
    message: String,
    retry_after_ms: Option<u64>,
}

impl Problem {
    pub(crate) fn bad_data(message: String) -> Problem {
        Problem::new(400, 3, message)
    }

    pub(crate) fn wrong_method(message: String) -> Problem {
        Problem::new(405, 12, message)
    }

    /// Not to be sent again as it is: no `RetryInfo`.
    pub(crate) fn too_large(message: String) -> Problem {
        Problem::new(413, 8, message)
    }

    pub(crate) fn unsupported(message: String) -> Problem {
        Problem::new(415, 3, message)
    }

    pub(crate) fn internal(message: String) -> Problem {
        Problem::new(500, 13, message)
    }

    /// The client chooses its own pause.
    pub(crate) fn unavailable(message: String) -> Problem {
        Problem::new(503, 14, message)
    }

    pub(crate) fn overloaded(after_ms: u64) -> Problem {
        let message = format!("no room for more metrics now; try again in {after_ms} ms");
        Problem {
            retry_after_ms: Some(after_ms),
            ..Problem::new(503, 14, message)
        }
    }

    fn new(http_status: u16, code: u16, message: String) -> Problem {
        Problem {
            http_status,
            code,
            message: cut(message),
            retry_after_ms: None,
        }
    }

    pub(crate) fn response(self, form: Form) -> Response {
        let body = match form {
            Form::Protobuf | Form::Grpc => self.protobuf(),
            Form::Json => self.json(),
        };
        Response {
            status: match form {
                Form::Grpc => self.code,
                Form::Protobuf | Form::Json => self.http_status,
            },
            content_type: form.content_type().to_owned(),
            retry_after_ms: self.retry_after_ms,
            message: match form {
                Form::Grpc => self.message,
                Form::Protobuf | Form::Json => String::new(),
            },
            body,
        }
    }

    /// A `google.rpc.Status`.
    fn protobuf(&self) -> Vec<u8> {
        let mut status = Writer::default();
        status.varint(1, self.code.into());
        status.bytes(2, self.message.as_bytes());
        if let Some(after_ms) = self.retry_after_ms {
            let mut retry_info = Writer::default();
            retry_info.message(1, |delay| {
                delay.varint(1, after_ms / 1000);
                delay.varint(2, after_ms % 1000 * 1_000_000);
            });
            status.message(3, |any| {
                any.bytes(1, RETRY_INFO.as_bytes());
                any.bytes(2, &retry_info.finish());
            });
        }
        status.finish()
    }

    fn json(&self) -> Vec<u8> {
        let mut status = json!({"code": self.code, "message": self.message});
        if let Some(after_ms) = self.retry_after_ms {
            let delay = format!("{}.{:03}s", after_ms / 1000, after_ms % 1000);
            status["details"] = json!([{"@type": RETRY_INFO, "retryDelay": delay}]);
        }
        status.to_string().into_bytes()
    }
}

fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    message
}
