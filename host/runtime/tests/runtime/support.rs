//! Makes components out of text and runs them.

use std::sync::Arc;
use std::time::Duration;

use shoal_model::grant::{Grants, Kind};
use shoal_model::{InstallationId, Timestamp};
use shoal_runtime::{
    Call, CallContext, CheckOutcome, InstallOptions, Installed, Plugin, Refusal, Runtime,
    RuntimeOptions,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What the guests may import of WASI.
const WASI: &str = include_str!("guests/wasi.wit");

/// What every guest has: a memory, an allocator that only goes forward, and a result area at 1024.
pub(crate) const BASE: &str = include_str!("guests/base.wat");

/// A plugin for tests: its code, and what its manifest says beside the usual.
#[derive(Clone, Debug)]
pub(crate) struct Guest<'a> {
    pub(crate) kind: Kind,
    /// Fields of a core module beside memory and allocator.
    pub(crate) code: &'a str,
    /// Further lines of `plugin.toml`.
    pub(crate) manifest: &'a str,
}

impl Guest<'_> {
    /// A check whose `run` does this.
    pub(crate) fn check(code: &str) -> Guest<'_> {
        Guest {
            kind: Kind::Check,
            code,
            manifest: "",
        }
    }

    /// The component.
    pub(crate) fn component(&self) -> Vec<u8> {
        self.component_on(BASE, StringEncoding::UTF8)
    }

    /// The component on another base than [`BASE`], with text in some encoding.
    pub(crate) fn component_on(&self, base: &str, encoding: StringEncoding) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
        resolve.push_path(wit).unwrap();
        resolve.push_str("wasi.wit", WASI).unwrap();
        let world = format!(
            "package test:guest;
             world guest {{
               import shoal:plugin/log@0.1.0;
               import shoal:plugin/net@0.1.0;
               import shoal:plugin/kv@0.1.0;
               import shoal:plugin/mail@0.1.0;
               import shoal:plugin/ingest@0.1.0;
               import wasi:cli/stderr@0.2.6;
               import wasi:cli/stdout@0.2.6;
               import wasi:cli/exit@0.2.6;
               import wasi:clocks/monotonic-clock@0.2.6;
               import wasi:clocks/wall-clock@0.2.6;
               import wasi:io/poll@0.2.6;
               import wasi:http/types@0.2.6;
               import wasi:http/outgoing-handler@0.2.6;
               import wasi:sockets/tcp-create-socket@0.2.6;
               import wasi:random/random@0.2.6;
               import wasi:random/insecure-seed@0.2.6;
               export shoal:plugin/{}@0.1.0;
               {}
             }}",
            self.kind,
            match self.code.contains("shoal:plugin/settings@0.1.0#") {
                true => "export shoal:plugin/settings@0.1.0;",
                false => "",
            }
        );
        let package = resolve.push_str("guest.wit", &world).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        let mut module = wat::parse_str(self.module(base)).unwrap_or_else(|e| panic!("{e}"));
        embed_component_metadata(&mut module, &resolve, world, encoding).unwrap();
        ComponentEncoder::default()
            .validate(true)
            .module(&module)
            .unwrap()
            .encode()
            .unwrap_or_else(|e| panic!("{e:#}"))
    }

    fn module(&self, base: &str) -> String {
        let manifest = format!(
            "id = \"guest\"\nversion = \"1.0.0\"\nkind = \"{}\"\ntitle = \"Guest\"\ndescription = \"For tests.\"\n{}\n{}",
            self.kind,
            if self.kind == Kind::Receiver {
                "[[endpoints]]\nhttp = \"/v1/test\"\n[[capabilities]]\nkind = \"ingest\"\nreason = \"to test\""
            } else {
                ""
            },
            self.manifest,
        );
        let quoted: String = manifest.bytes().map(|b| format!("\\{b:02x}")).collect();
        format!(
            "(module $guest {code} {base} (@custom \"shoal:manifest\" \"{quoted}\"))",
            code = self.code,
        )
    }
}

/// Few slots, so that many tests fit on a machine.
pub(crate) fn options() -> RuntimeOptions {
    RuntimeOptions {
        concurrent_calls_max: 16,
        ..RuntimeOptions::default()
    }
}

pub(crate) fn runtime() -> Runtime {
    Runtime::new(options()).unwrap()
}

pub(crate) async fn load(runtime: &Runtime, guest: &Guest<'_>) -> Result<Arc<Plugin>, Refusal> {
    runtime.load(guest.component()).await
}

pub(crate) fn id() -> InstallationId {
    InstallationId::from_random([7; 10])
}

/// Installs a plugin with all that it asks for and no settings.
pub(crate) fn install(plugin: &Arc<Plugin>) -> Arc<Installed> {
    let asked: Grants = plugin.manifest().asked();
    plugin
        .install(InstallOptions::new(id(), asked, serde_json::Map::new()))
        .unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) async fn installed(runtime: &Runtime, guest: &Guest<'_>) -> Arc<Installed> {
    let plugin = load(runtime, guest).await.unwrap_or_else(|e| panic!("{e}"));
    install(&plugin)
}

pub(crate) fn context() -> CallContext {
    CallContext::new(Timestamp(1_795_000_000_000), "work-1")
}

/// A context whose deadline is so far away.
pub(crate) fn within(time: Duration) -> CallContext {
    let context = context();
    CallContext {
        deadline: Some(context.now + time),
        ..context
    }
}

/// Loads a check and runs it once.
pub(crate) async fn run(code: &str) -> Call<CheckOutcome> {
    let runtime = runtime();
    let check = installed(&runtime, &Guest::check(code)).await;
    let call = check.run_check(&context()).await;
    drop(check);
    assert_eq!(runtime.stats().live, 0, "nothing of the call is left");
    call
}

/// `run` of a check that does something and then says that all is well.
pub(crate) fn well_after(doing: &str) -> String {
    format!(
        r#"
        (func (export "shoal:plugin/check@0.1.0#run")
          (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32)
          {doing}
          (i32.store (i32.const 1036) (i32.const 512))
          (i32.store (i32.const 1040) (i32.const 11))
          (i32.const 1024))
        "#
    )
}
