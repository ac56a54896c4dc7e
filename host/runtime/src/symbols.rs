//! File and line of a crash, from the debug information that a component carries.
//!
//! Reading debug information takes milliseconds, and a guest chooses when it crashes. So nothing of it is read when it
//! does: the frames are looked up afterwards, off the async threads, a few times a minute for each plugin; what was looked up
//! before is remembered. Where there is no debug information, or it makes no sense, the names of functions have to do.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use addr2line::Context;
use gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use parking_lot::Mutex;
use wasmparser::{Parser, Payload};

use crate::call::cut;

/// Most debug information of one component that is kept, in bytes: a debug build of a small plugin has some 3 MB.
const DEBUG_MAX_BYTES: usize = 16 << 20;
/// Crashes that are looked up in each minute; the others have names of functions only.
const LOOK_UPS_A_MINUTE: u32 = 10;
/// Crashes that are remembered: a plugin has few ways to crash.
const REMEMBERED_MAX: usize = 32;
/// Lines of one backtrace.
pub(crate) const LINES_MAX: usize = 32;
/// Longest line.
pub(crate) const LINE_MAX_BYTES: usize = 300;

/// A frame of a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Frame {
    /// Where in the component's bytes its instruction stands.
    pub(crate) offset: Option<u64>,
    /// What it is called without debug information.
    pub(crate) name: String,
}

/// The debug information of one component.
pub(crate) struct Symbols {
    modules: Vec<Module>,
    remembered: Mutex<HashMap<Vec<Frame>, Vec<String>>>,
    budget: Mutex<Budget>,
}

/// One core module that has some.
#[derive(Default)]
struct Module {
    /// Where its code lies in the component.
    code: Range<u64>,
    sections: HashMap<String, Vec<u8>>,
}

struct Budget {
    minute: Instant,
    left: u32,
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

impl Symbols {
    /// What a valid component carries, if it carries anything.
    pub(crate) fn of(component: &[u8]) -> Option<Symbols> {
        let mut open: Vec<Module> = Vec::new();
        let mut modules = Vec::new();
        let mut bytes = 0;
        for payload in Parser::new(0).parse_all(component) {
            match payload.ok()? {
                Payload::Version { .. } => open.push(Module::default()),
                Payload::CodeSectionStart { range, .. } => {
                    open.last_mut()?.code = range.start as u64..range.end as u64;
                }
                Payload::CustomSection(section) if section.name().starts_with(".debug_") => {
                    bytes += section.data().len();
                    let sections = &mut open.last_mut()?.sections;
                    sections.insert(section.name().to_owned(), section.data().to_owned());
                }
                Payload::End(_) => {
                    modules.extend(open.pop().filter(|module| module.has_lines()));
                }
                _ => {}
            }
            if bytes > DEBUG_MAX_BYTES {
                return None;
            }
        }
        (!modules.is_empty()).then(|| Symbols {
            modules,
            remembered: Mutex::default(),
            budget: Mutex::new(Budget {
                minute: Instant::now(),
                left: LOOK_UPS_A_MINUTE,
            }),
        })
    }

    /// The lines of a backtrace, innermost first, if they may be looked up now. Takes milliseconds.
    pub(crate) fn lines(&self, frames: &[Frame]) -> Option<Vec<String>> {
        if let Some(lines) = self.remembered.lock().get(frames) {
            return Some(lines.clone());
        }
        if !self.may_look() {
            return None;
        }
        let lines = self.look_up(frames);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(frames.to_vec(), lines.clone());
        Some(lines)
    }

    fn may_look(&self) -> bool {
        let mut budget = self.budget.lock();
        if budget.minute.elapsed() >= Duration::from_secs(60) {
            *budget = Budget {
                minute: Instant::now(),
                left: LOOK_UPS_A_MINUTE,
            };
        }
        let may = budget.left > 0;
        budget.left = budget.left.saturating_sub(1);
        may
    }

    fn look_up(&self, frames: &[Frame]) -> Vec<String> {
        let contexts: Vec<_> = self.modules.iter().map(Module::context).collect();
        let mut lines = Vec::new();
        for frame in frames {
            let known = frame.offset.and_then(|offset| {
                let at = self
                    .modules
                    .iter()
                    .position(|module| module.code.contains(&offset))?;
                // Addresses of debug information count from the beginning of the code.
                named(contexts[at].as_ref()?, offset - self.modules[at].code.start)
            });
            lines.extend(known.unwrap_or_else(|| vec![frame.name.clone()]));
        }
        lines.truncate(LINES_MAX);
        lines
    }
}

impl Module {
    fn has_lines(&self) -> bool {
        self.sections.contains_key(".debug_info") && self.sections.contains_key(".debug_line")
    }

    fn context(&self) -> Option<Context<Slice<'_>>> {
        let section = |id: SectionId| -> Result<Slice<'_>, gimli::Error> {
            let bytes = self.sections.get(id.name()).map_or(&[][..], Vec::as_slice);
            Ok(EndianSlice::new(bytes, LittleEndian))
        };
        Context::from_dwarf(Dwarf::load(section).ok()?).ok()
    }
}

/// The functions at an address, inlined ones first, with file and line.
fn named(context: &Context<Slice<'_>>, address: u64) -> Option<Vec<String>> {
    let folder = context.find_dwarf_and_unit(address).skip_all_loads();
    let folder = folder.and_then(|unit| Some(unit.comp_dir?.to_string_lossy().into_owned()));
    let mut frames = context.find_frames(address).skip_all_loads().ok()?;
    let mut lines = Vec::new();
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.and_then(|function| {
            let name = function.raw_name().ok()?;
            Some(demangled(&name))
        });
        let place = frame.location.and_then(|at| {
            let file = shortened(at.file?, folder.as_deref());
            let (line, column) = (at.line?, at.column.unwrap_or(0));
            Some(format!("{file}:{line}:{column}"))
        });
        let line = match (name, place) {
            (Some(name), Some(place)) => format!("{name} at {place}"),
            (Some(name), None) => name,
            (None, Some(place)) => format!("at {place}"),
            (None, None) => continue,
        };
        lines.push(cut(line, LINE_MAX_BYTES));
    }
    (!lines.is_empty()).then_some(lines)
}

/// A function's name as it stands in the source.
pub(crate) fn demangled(name: &str) -> String {
    cut(
        format!("{:#}", rustc_demangle::demangle(name)),
        LINE_MAX_BYTES,
    )
}

/// A path without what only the machine that built it has.
fn shortened<'a>(file: &'a str, folder: Option<&str>) -> &'a str {
    let below = folder.and_then(|folder| file.strip_prefix(folder)?.strip_prefix('/'));
    // The standard library: /rustc/<commit>/library/…
    let library = || {
        file.strip_prefix("/rustc/")?
            .split_once('/')
            .map(|(_, rest)| rest)
    };
    below.or_else(library).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_those_of_the_source() {
        assert_eq!(
            demangled("_ZN4acme5parse17h0123456789abcdefE"),
            "acme::parse"
        );
        assert_eq!(demangled("parse_page"), "parse_page");
        let file = shortened("/home/me/acme/src/lib.rs", Some("/home/me/acme"));
        assert_eq!(file, "src/lib.rs");
        let file = shortened("/rustc/abc/library/core/src/str.rs", Some("/home"));
        assert_eq!(file, "library/core/src/str.rs");
    }

    #[test]
    fn without_debug_information_there_is_nothing_to_look_up() {
        let component = wat::parse_str("(component (core module (func)))").expect("a component");
        assert!(Symbols::of(&component).is_none());
    }

    #[test]
    fn debug_information_that_makes_no_sense_does_no_harm() {
        let component = wat::parse_str(
            r#"(component (core module (func)
                 (@custom ".debug_info" "\ff\ff\ff\ff\ff\ff\ff\ff")
                 (@custom ".debug_line" "\00\01\02")))"#,
        )
        .expect("a component");
        let symbols = Symbols::of(&component).expect("it carries some");
        let frame = Frame {
            offset: Some(symbols.modules[0].code.start),
            name: "function 0".to_owned(),
        };
        for _ in 0..2 {
            let lines = symbols.lines(std::slice::from_ref(&frame));
            assert_eq!(lines.as_deref(), Some(&["function 0".to_owned()][..]));
        }
        let other = |n: u32| Frame {
            offset: None,
            name: n.to_string(),
        };
        let looked_up = (0..20).filter(|n| symbols.lines(&[other(*n)]).is_some());
        assert_eq!(looked_up.count(), LOOK_UPS_A_MINUTE as usize - 1);
    }
}
