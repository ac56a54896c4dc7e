//! Components that do next to nothing, one for each kind: what a call of one takes is what calls take.
//!
//! Laid out as Rust's are: a stack below 1 MiB, data and heap above it, and imports that need adapting.

use anyhow::{Context as _, Result};
use shoal_model::grant::Kind;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What a guest's standard library imports of WASI, cut down.
const WASI: [&str; 2] = [
    "package wasi:io@0.2.6;
     interface error { resource error; }
     interface streams {
       use error.{error};
       variant stream-error { last-operation-failed(error), closed }
       resource output-stream {
         blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
       }
     }",
    "package wasi:cli@0.2.6;
     interface stderr { use wasi:io/streams@0.2.6.{output-stream}; get-stderr: func() -> output-stream; }",
];

/// A memory of 17 pages, an allocator that only goes forward, a function that uses the stack, and the imports.
const BASE: &str = r#"
    (import "shoal:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
    (import "wasi:cli/stderr@0.2.6" "get-stderr" (func $stderr (result i32)))
    (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
      (func $write (param i32 i32 i32 i32)))
    (memory $memory (export "memory") 17)
    (global $heap (mut i32) (i32.const 1052672))
    (func $allocate (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
      (global.set $heap (i32.add (local.get $at) (local.get $size)))
      (local.get $at))
    (func $work (i32.store (i32.const 1048560) (i32.const 1)))
    (data (i32.const 1049088) "all is well")
"#;

/// The function of each kind: an answer without content.
fn answer(kind: Kind) -> &'static str {
    match kind {
        Kind::Receiver => {
            r#"(func (export "shoal:plugin/receiver@0.1.0#receive") (param i32) (result i32)
                 (call $work)
                 (i32.store16 (i32.const 1049608) (i32.const 200))
                 (i32.const 1049600))"#
        }
        Kind::Check => {
            r#"(func (export "shoal:plugin/check@0.1.0#run")
                 (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32)
                 (call $work)
                 (i32.store (i32.const 1049612) (i32.const 1049088))
                 (i32.store (i32.const 1049616) (i32.const 11))
                 (i32.const 1049600))"#
        }
        Kind::Channel => {
            r#"(func (export "shoal:plugin/channel@0.1.0#notify") (param i32) (result i32)
                 (call $work)
                 (i32.store (i32.const 1049608) (i32.const 1049088))
                 (i32.store (i32.const 1049612) (i32.const 11))
                 (i32.const 1049600))"#
        }
        Kind::BillingRule => {
            r#"(func (export "shoal:plugin/billing-rule@0.1.0#rate")
                 (param i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                 (call $work)
                 (i32.const 1049600))"#
        }
    }
}

/// One of many: `number` tells components of a kind apart.
pub(crate) fn component(kind: Kind, number: usize) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit"))?;
    for package in WASI {
        resolve.push_str("wasi.wit", package)?;
    }
    let world = format!(
        "package bench:guest;
         world guest {{
           import shoal:plugin/log@0.1.0;
           import wasi:cli/stderr@0.2.6;
           export shoal:plugin/{kind}@0.1.0;
         }}"
    );
    let package = resolve.push_str("guest.wit", &world)?;
    let world = resolve.select_world(&[package], Some("guest"))?;
    let endpoint = match kind {
        Kind::Receiver => format!("[[endpoints]]\nhttp = \"/v1/bench-{number}\""),
        _ => String::new(),
    };
    let manifest = format!(
        "id = \"bench-{kind}-{number}\"\nversion = \"1.0.0\"\nkind = \"{kind}\"\ntitle = \"Bench\"\ndescription = \"Does nothing.\"\n{endpoint}"
    );
    let quoted: String = manifest.bytes().map(|b| format!("\\{b:02x}")).collect();
    let module = format!(
        "(module $bench {BASE} {} (@custom \"shoal:manifest\" \"{quoted}\"))",
        answer(kind)
    );
    let mut module = wat::parse_str(module)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default()
        .module(&module)?
        .encode()
        .context("a component of the benchmark")
}
