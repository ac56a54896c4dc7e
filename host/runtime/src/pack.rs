//! Putting a manifest into a component that some language's tools built.
//!
//! Sections are copied as they are, in components inside and their modules as well; only manifests and signatures of
//! before are left out.

use wasmparser::BinaryReader;

use crate::inspect::{check_encoding, inspect};
use crate::manifest::{Manifest, SECTION};
use crate::refusal::Refusal;
use crate::signature::SIGNATURE_SECTION;

/// Magic number, version and layer of every WebAssembly binary.
const PREAMBLE_BYTES: usize = 8;
const CUSTOM_SECTION: u8 = 0;
/// In a component: a core module.
const MODULE_SECTION: u8 = 1;
/// In a component: a component inside.
const COMPONENT_SECTION: u8 = 4;
/// Components in each other; tools make two.
const DEPTH_MAX: usize = 16;

/// The component with this manifest, in place of the one that it may have, and without a signature.
///
/// # Errors
/// The manifest is wrong, or the component is not one that a server would take with it.
pub fn pack(component: &[u8], manifest: &str) -> Result<Vec<u8>, Refusal> {
    check_encoding(component)?;
    Manifest::parse(manifest)?;
    let mut packed = Vec::with_capacity(component.len() + manifest.len() + 32);
    copy(component, true, 0, &mut packed)?;
    let mut content = Vec::with_capacity(manifest.len() + 32);
    put_length(SECTION.len(), &mut content);
    content.extend_from_slice(SECTION.as_bytes());
    content.extend_from_slice(manifest.as_bytes());
    put_section(CUSTOM_SECTION, &content, &mut packed);
    inspect(&packed)?;
    Ok(packed)
}

fn copy(bytes: &[u8], is_component: bool, depth: usize, to: &mut Vec<u8>) -> Result<(), Refusal> {
    if depth > DEPTH_MAX || bytes.len() < PREAMBLE_BYTES {
        return Err(malformed(
            0,
            "components are too deep in each other, or cut off",
        ));
    }
    to.extend_from_slice(&bytes[..PREAMBLE_BYTES]);
    let mut reader = BinaryReader::new(bytes, 0);
    let broken = |e: wasmparser::BinaryReaderError| malformed(e.offset() as u64, e.message());
    reader.read_bytes(PREAMBLE_BYTES).map_err(broken)?;
    while !reader.eof() {
        let id = reader.read_u8().map_err(broken)?;
        let length = reader.read_var_u32().map_err(broken)?;
        let content = reader.read_bytes(length as usize).map_err(broken)?;
        match id {
            CUSTOM_SECTION if is_ours(content) => {}
            MODULE_SECTION | COMPONENT_SECTION if is_component => {
                let mut inside = Vec::with_capacity(content.len());
                copy(content, id == COMPONENT_SECTION, depth + 1, &mut inside)?;
                put_section(id, &inside, to);
            }
            _ => put_section(id, content, to),
        }
    }
    Ok(())
}

/// Whether a custom section is a manifest or a signature.
fn is_ours(content: &[u8]) -> bool {
    let name = BinaryReader::new(content, 0).read_string();
    name.is_ok_and(|name| name == SECTION || name == SIGNATURE_SECTION)
}

fn put_section(id: u8, content: &[u8], to: &mut Vec<u8>) {
    to.push(id);
    put_length(content.len(), to);
    to.extend_from_slice(content);
}

/// LEB128.
fn put_length(mut length: usize, to: &mut Vec<u8>) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            to.push(low);
            return;
        }
        to.push(low | 0x80);
    }
}

fn malformed(offset: u64, reason: &str) -> Refusal {
    Refusal::Malformed {
        offset,
        reason: reason.to_owned(),
    }
}
