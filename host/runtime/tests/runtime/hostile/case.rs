//! What a hostile case is.

use std::time::Duration;

use shoal_model::grant::Kind;
use wit_component::StringEncoding;

use super::server::Answer;
use crate::support::{BASE, Guest, well_after};

/// One attack and what becomes of it.
pub(crate) struct Case {
    /// What it tries, in a few words.
    pub(crate) tries: &'static str,
    /// Which limit or rule stops it.
    pub(crate) stopped_by: &'static str,
    pub(crate) attack: Attack,
    pub(crate) ends: Ends,
    /// Most processor time of the whole process while it is loaded and called, a neighbour's calls included.
    pub(crate) cpu_max: Duration,
}

/// A file, and how it is called.
pub(crate) struct Attack {
    pub(crate) file: File,
    /// Time that the caller gives each call; `None` leaves the limit of the kind.
    pub(crate) deadline: Option<Duration>,
    /// Calls, one after the other, as long as they succeed.
    pub(crate) calls: u32,
    /// How a server answers each connection that the guest makes; `{port}` in its text is that server's.
    pub(crate) serves: Option<Answer>,
    /// Whether names are looked up at a resolver of the case's own.
    pub(crate) resolves: bool,
}

/// What is loaded.
pub(crate) enum File {
    Bytes(Vec<u8>),
    Text(Text),
}

/// A guest of text.
pub(crate) struct Text {
    pub(crate) kind: Kind,
    pub(crate) code: String,
    pub(crate) base: String,
    pub(crate) encoding: StringEncoding,
    pub(crate) manifest: String,
}

/// What operator and tenant are told.
pub(crate) enum Ends {
    /// The file is not accepted; the reason holds this.
    Refused(&'static str),
    /// The call fails: the word for metrics, and what the message holds.
    Failed(&'static str, &'static str),
    /// Nothing happens: the call succeeds.
    Well,
    /// One of several, because time or memory may end first.
    OneOf(Vec<Ends>),
}

/// How much more time than usual a guest may take that something else is to end: which limit ends it is then no question of
/// how fast the machine is.
const ROOM_FACTOR: u32 = 10;

impl Case {
    pub(crate) fn new(
        tries: &'static str,
        stopped_by: &'static str,
        attack: Attack,
        ends: Ends,
    ) -> Case {
        Case {
            tries,
            stopped_by,
            attack,
            ends,
            cpu_max: Duration::from_secs(10),
        }
    }

    /// By what the processor time and the wall-clock time of its kind are multiplied for each call.
    pub(crate) fn time_factor(&self) -> u32 {
        if self.ends.by_time() { 1 } else { ROOM_FACTOR }
    }
}

impl Ends {
    /// Whether time is what ends it, or may be.
    fn by_time(&self) -> bool {
        match self {
            Ends::Refused(says) => says.contains("the plugin computed "),
            Ends::Failed(code, _) => matches!(*code, "limit-cpu" | "limit-wall"),
            Ends::Well => false,
            Ends::OneOf(all) => all.iter().any(Ends::by_time),
        }
    }
}

impl Attack {
    pub(crate) fn bytes(bytes: Vec<u8>) -> Attack {
        Attack::of(File::Bytes(bytes))
    }

    /// A check that does something and then says that all is well.
    pub(crate) fn check(doing: &str) -> Attack {
        Attack::check_with("", doing)
    }

    /// The same with imports, globals or functions before it.
    pub(crate) fn check_with(before: &str, doing: &str) -> Attack {
        Attack::guest(Kind::Check, format!("{before}\n{}", well_after(doing)))
    }

    pub(crate) fn guest(kind: Kind, code: String) -> Attack {
        Attack::of(File::Text(Text {
            kind,
            code,
            base: BASE.to_owned(),
            encoding: StringEncoding::UTF8,
            manifest: String::new(),
        }))
    }

    fn of(file: File) -> Attack {
        Attack {
            file,
            deadline: None,
            calls: 1,
            serves: None,
            resolves: false,
        }
    }

    pub(crate) fn within(mut self, time: Duration) -> Attack {
        self.deadline = Some(time);
        self
    }

    pub(crate) fn times(mut self, calls: u32) -> Attack {
        self.calls = calls;
        self
    }

    pub(crate) fn serving(mut self, answer: Answer) -> Attack {
        self.serves = Some(answer);
        self
    }

    /// With further fields of its module.
    pub(crate) fn after(self, fields: &str) -> Attack {
        self.text(|text| text.code.push_str(fields))
    }

    pub(crate) fn resolving(mut self) -> Attack {
        self.resolves = true;
        self
    }

    /// With further lines of `plugin.toml`.
    pub(crate) fn manifest(self, lines: &str) -> Attack {
        self.text(|text| text.manifest = lines.to_owned())
    }

    /// With something else in the base that every guest has.
    pub(crate) fn base(self, from: &str, to: &str) -> Attack {
        assert!(BASE.contains(from), "the base holds {from}");
        self.text(|text| text.base = text.base.replace(from, to))
    }

    pub(crate) fn encoding(self, encoding: StringEncoding) -> Attack {
        self.text(|text| text.encoding = encoding)
    }

    fn text(mut self, change: impl FnOnce(&mut Text)) -> Attack {
        if let File::Text(text) = &mut self.file {
            change(text);
        }
        self
    }

    /// What is loaded, with the port of its server where it says `{port}`.
    pub(crate) fn component(&self, port: u16) -> Vec<u8> {
        let text = match &self.file {
            File::Bytes(bytes) => return bytes.clone(),
            File::Text(text) => text,
        };
        let port = port.to_string();
        Guest {
            kind: text.kind,
            code: &text.code.replace("{port}", &port),
            manifest: &text.manifest.replace("{port}", &port),
        }
        .component_on(&text.base, text.encoding)
    }
}
