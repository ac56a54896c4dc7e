//! The relay against a server that says what a test wants.

use std::sync::Arc;

use parking_lot::Mutex;
use shoal_model::Timestamp;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::config::Hidden;

type Heard = Arc<Mutex<Vec<String>>>;

/// A relay on this machine that takes everything, but answers lines that begin with one of some words as given.
/// Returns its URL and what it hears.
async fn relay(answers: &'static [(&'static str, &'static str)]) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("smtp://{}", listener.local_addr().expect("an address"));
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let hears = Arc::clone(&hears);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let _ = stream.get_mut().write_all(b"220 relay.test\r\n").await;
                let (mut line, mut is_data) = (String::new(), false);
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    let said = std::mem::take(&mut line);
                    let said = said.trim_end();
                    hears.lock().push(said.to_owned());
                    let answer = match said {
                        "." if is_data => {
                            is_data = false;
                            "250 2.0.0 queued as 7"
                        }
                        _ if is_data => continue,
                        "DATA" => {
                            is_data = true;
                            "354 go on"
                        }
                        _ => "250-relay.test\r\n250 AUTH PLAIN",
                    };
                    let given = answers.iter().find(|(word, _)| said.starts_with(word));
                    let answer = given.map_or(answer, |(_, answer)| answer);
                    let _ = stream
                        .get_mut()
                        .write_all(format!("{answer}\r\n").as_bytes())
                        .await;
                }
            });
        }
    });
    (url, heard)
}

fn config(relay: &str) -> MailConfig {
    MailConfig {
        relay: Some(relay.to_owned()),
        from: Some("Shoal <shoal@example.com>".to_owned()),
        tls: MailTls::None,
        ..MailConfig::default()
    }
}

fn opened(config: &MailConfig) -> Result<Option<SmtpRelay>> {
    SmtpRelay::open(config, Clock::manual(Timestamp(1_000)))
}

fn mail() -> Mail {
    Mail {
        to: vec!["a@example.com".to_owned(), "b@example.org".to_owned()],
        subject: "[Acmé] CRITICAL: Load".to_owned(),
        text: "load is 7\r\n.\r\nBcc: c@example.com\n".to_owned(),
        html: Some("<p>load is 7</p>".to_owned()),
        key: "0123abcd".to_owned(),
    }
}

async fn send(url: &str) -> Result<String, MailError> {
    let relay = opened(&config(url)).expect("good").expect("a relay");
    relay.send(mail()).await
}

#[tokio::test]
async fn a_message_reaches_its_recipients_and_is_named_by_its_work() {
    let (url, heard) = relay(&[]).await;
    assert_eq!(send(&url).await, Ok("250 2.0.0 queued as 7".to_owned()));
    let heard = heard.lock().clone();
    let has = |line: &str| heard.iter().any(|heard| heard == line);
    for line in [
        "EHLO example.com",
        "MAIL FROM:<shoal@example.com>",
        "RCPT TO:<a@example.com>",
        "RCPT TO:<b@example.org>",
        "From: Shoal <shoal@example.com>",
        "To: a@example.com, b@example.org",
        "Message-ID: <0123abcd@example.com>",
        "Date: Thu, 01 Jan 1970 00:00:01 +0000",
        "Auto-Submitted: auto-generated",
    ] {
        assert!(has(line), "{line}: {heard:#?}");
    }
    let recipients = heard.iter().filter(|line| line.starts_with("RCPT")).count();
    assert_eq!(recipients, 2, "the text names nobody");
    let headers = heard.iter().take_while(|line| !line.is_empty());
    assert!(
        headers.clone().all(|line| !line.starts_with("Bcc")),
        "{heard:#?}"
    );
    let subject = headers.clone().find(|line| line.starts_with("Subject: "));
    assert!(
        subject.is_some_and(|subject| subject.is_ascii()),
        "{subject:?}"
    );
}

#[tokio::test]
async fn only_what_may_pass_is_tried_again() {
    let cases: [(&'static [(&str, &str)], bool); 7] = [
        (&[("RCPT TO:<b@", "550 5.1.1 no such user")], false),
        (&[(".", "554 5.7.1 looks like spam")], false),
        (&[("RCPT", "450 4.2.1 try later")], true),
        (&[("MAIL", "421 4.3.2 going down")], true),
        (&[("MAIL", "530 5.7.0 authentication required")], true),
        (&[("EHLO", "gibberish")], true),
        (&[("DATA", "451 4.3.0 no space")], true),
    ];
    for (answers, is_retry) in cases {
        let (url, _) = relay(answers).await;
        let error = send(&url).await.expect_err("refused");
        assert_eq!(
            matches!(error, MailError::Retry(_)),
            is_retry,
            "{answers:?}: {error}"
        );
    }
    let error = send("smtp://127.0.0.1:1").await.expect_err("nobody there");
    assert!(matches!(error, MailError::Retry(_)), "{error}");
    let (url, _) = relay(&[("RCPT TO:<b@", "550 5.1.1 no such user: b@example.org")]).await;
    let error = send(&url).await.expect_err("refused").to_string();
    assert!(
        error.contains("550") && error.contains("b@example.org"),
        "{error}"
    );
}

#[tokio::test]
async fn nothing_is_said_without_tls_unless_the_operator_wants_it() {
    let (url, heard) = relay(&[]).await;
    let strict = MailConfig {
        tls: MailTls::Required,
        ..config(&url)
    };
    let relay = opened(&strict).expect("good").expect("a relay");
    let error = relay.send(mail()).await.expect_err("no STARTTLS there");
    assert!(matches!(error, MailError::Retry(_)), "{error}");
    assert!(
        heard.lock().iter().all(|line| !line.starts_with("MAIL")),
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_wrong_password_is_the_operators_to_mend_and_shown_to_nobody() {
    let (url, heard) = relay(&[("AUTH", "535 5.7.8 authentication failed")]).await;
    let with_user = MailConfig {
        password: Some(Hidden::new("hunter2".to_owned())),
        ..config(&url.replace("smtp://", "smtp://shoal%40example.com@"))
    };
    assert!(!format!("{with_user:?}").contains("hunter2"));
    let relay = opened(&with_user).expect("good").expect("a relay");
    let error = relay.send(mail()).await.expect_err("refused");
    assert!(matches!(error, MailError::Retry(_)), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let auth = heard
        .lock()
        .iter()
        .any(|line| line.starts_with("AUTH PLAIN "));
    assert!(auth, "{heard:?}");
}

#[test]
fn what_makes_no_sense_is_named() {
    assert!(
        opened(&MailConfig::default())
            .expect("nothing is set")
            .is_none()
    );
    let good = config("smtp://relay.example.com");
    for (config, part) in [
        (
            MailConfig {
                from: None,
                ..good.clone()
            },
            "[mail] from is not",
        ),
        (
            MailConfig {
                relay: None,
                ..good.clone()
            },
            "[mail] relay is not",
        ),
        (
            MailConfig {
                from: Some("nobody".to_owned()),
                ..good.clone()
            },
            "[mail] from: \"nobody\"",
        ),
        (
            config("https://relay.example.com"),
            "neither smtp:// nor smtps://",
        ),
        (
            config("smtp://u:hunter2@relay.example.com"),
            "password_file or SHOAL_MAIL_PASSWORD",
        ),
        (
            config("smtp://u@relay.example.com"),
            "would cross the network",
        ),
        (config("smtps://relay.example.com"), "choose one"),
        (
            MailConfig {
                tls: MailTls::Required,
                ..config("smtp://u@relay.example.com")
            },
            "names a user",
        ),
    ] {
        let error = format!("{:#}", opened(&config).err().expect(part));
        assert!(error.contains(part), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn ports_are_the_usual_ones() {
    for (url, port) in [
        ("smtp://h.example", 25),
        ("smtp://u@h.example", 587),
        ("smtps://u@h.example", 465),
        ("smtp://h.example:2525", 2525),
    ] {
        assert_eq!(Relay::parse(url).expect(url).port, port, "{url}");
    }
}

#[test]
fn a_password_comes_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("password");
    std::fs::write(&path, "hunter2\n").expect("written");
    let config = MailConfig {
        password_file: Some(path),
        ..config("smtp://u@127.0.0.1")
    };
    assert_eq!(password(&config).expect("read"), "hunter2");
}
