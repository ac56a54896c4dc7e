//! Components made of bytes, where text would not let through what a case needs.

use wasmparser::{Parser, Payload};

use crate::support::{Guest, well_after};

/// The bytes of a check that says that all is well.
pub(super) fn well() -> Vec<u8> {
    Guest::check(&well_after("")).component()
}

/// That check, with a component of this text beside it that is instantiated so often.
pub(super) fn beside_well(text: &str, instances: u32) -> Vec<u8> {
    let mut bytes = well();
    let before = components(&bytes);
    let inner = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    section(&mut bytes, 4, &inner);
    let mut made = leb(instances);
    for _ in 0..instances {
        made.push(0);
        made.extend(leb(before));
        made.extend(leb(0));
    }
    section(&mut bytes, 5, &made);
    bytes
}

/// How many components a component has, so that the next one's number is known.
fn components(bytes: &[u8]) -> u32 {
    let (mut depth, mut count) = (0, 0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.expect("well formed") {
            Payload::ComponentSection { .. } if depth == 1 => count += 1,
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            _ => {}
        }
    }
    count
}

/// Adds a section to a component.
pub(super) fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    bytes.push(id);
    bytes.extend(leb(u32::try_from(content.len()).expect("small")));
    bytes.extend(content);
}

/// Adds a custom section.
pub(super) fn custom(bytes: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut named = leb(u32::try_from(name.len()).expect("short"));
    named.extend(name.as_bytes());
    named.extend(content);
    section(bytes, 0, &named);
}

/// A number as WebAssembly writes it.
fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
