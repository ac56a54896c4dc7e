//! Linking: a plugin gets what it was granted; the rest is not there.

use shoal_model::grant::{CapabilityKind, Grants, Kind};
use wasmtime::component::{HasSelf, Instance, InstancePre, Linker};
use wasmtime::{Engine, Store};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

use crate::bindings::exports::shoal::plugin as exports;
use crate::bindings::shoal::plugin as imports;
use crate::call::cut;
use crate::engine::Sort;
use crate::state::State;

const REASON_MAX_BYTES: usize = 1000;

/// Which capabilities are linked. Everything else is linked for every plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    http: bool,
    net: bool,
    ingest: bool,
    mail: bool,
    kv: bool,
    secrets: bool,
}

impl Shape {
    pub(crate) fn of(grants: &Grants) -> Shape {
        Shape {
            http: grants.has(CapabilityKind::Http),
            net: grants.has(CapabilityKind::Net),
            ingest: grants.has(CapabilityKind::Ingest),
            mail: grants.has(CapabilityKind::Mail),
            kv: grants.has(CapabilityKind::Kv),
            secrets: grants.has(CapabilityKind::Secrets),
        }
    }
}

/// A linker with the baseline and what the shape has.
///
/// Never with traps for unknown imports: they would hide implementations of compatible versions.
pub(crate) fn linker(engine: &Engine, sort: Sort, shape: Shape) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::<State>::new(engine);
    let l = &mut linker;
    baseline(l)?;
    if sort == Sort::Large {
        refused_sockets(l)?;
    }
    imports::types::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    imports::telemetry::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    imports::log::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    if shape.http {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    }
    if shape.net {
        imports::net::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    }
    if shape.ingest {
        imports::ingest::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    }
    if shape.mail {
        imports::mail::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    }
    if shape.kv {
        imports::kv::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    }
    if shape.secrets {
        imports::secrets::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    }
    Ok(linker)
}

/// What standard libraries import anyway: streams, clocks, randomness, and an empty file system and environment.
fn baseline(l: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(l)?;
    random::insecure::add_to_linker::<_, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    cli::exit::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::environment::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, State::cli)?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)
}

/// The sockets that an interpreter imports because its C library has them: making one is refused, and so is looking up a
/// name, because the context of a [`State`] allows neither. Nothing is opened on the way there.
fn refused_sockets(l: &mut Linker<State>) -> wasmtime::Result<()> {
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<_, WasiSockets>(l, &options, State::sockets)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(l, State::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(l, State::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(l, State::sockets)?;
    sockets::tcp::add_to_linker::<_, WasiSockets>(l, State::sockets)?;
    sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(l, State::sockets)?;
    sockets::udp::add_to_linker::<_, WasiSockets>(l, State::sockets)
}

/// A component that is linked and whose export was found.
#[derive(Clone)]
pub(crate) struct Linked {
    pub(crate) pre: InstancePre<State>,
    export: Export,
}

#[derive(Clone)]
enum Export {
    Receiver(exports::receiver::GuestIndices),
    Check(exports::check::GuestIndices),
    Channel(exports::channel::GuestIndices),
    BillingRule(exports::billing_rule::GuestIndices),
    Settings(exports::settings::GuestIndices),
}

/// The functions of an instance.
pub(crate) enum Guest {
    Receiver(exports::receiver::Guest),
    Check(exports::check::Guest),
    Channel(exports::channel::Guest),
    BillingRule(exports::billing_rule::Guest),
    Settings(exports::settings::Guest),
}

impl Linked {
    pub(crate) fn new(pre: InstancePre<State>, kind: Kind) -> wasmtime::Result<Linked> {
        let export = match kind {
            Kind::Receiver => Export::Receiver(exports::receiver::GuestIndices::new(&pre)?),
            Kind::Check => Export::Check(exports::check::GuestIndices::new(&pre)?),
            Kind::Channel => Export::Channel(exports::channel::GuestIndices::new(&pre)?),
            Kind::BillingRule => {
                Export::BillingRule(exports::billing_rule::GuestIndices::new(&pre)?)
            }
        };
        Ok(Linked { pre, export })
    }

    /// The same component for its rules of settings.
    pub(crate) fn settings(pre: InstancePre<State>) -> wasmtime::Result<Linked> {
        let export = Export::Settings(exports::settings::GuestIndices::new(&pre)?);
        Ok(Linked { pre, export })
    }

    /// Makes an instance, running its start-up code, and finds its functions.
    pub(crate) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Guest> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        self.functions(store, &instance)
            .map_err(|e| WrongTypes(reason(&e)).into())
    }

    fn functions(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<Guest> {
        Ok(match &self.export {
            Export::Receiver(export) => Guest::Receiver(export.load(store, instance)?),
            Export::Check(export) => Guest::Check(export.load(store, instance)?),
            Export::Channel(export) => Guest::Channel(export.load(store, instance)?),
            Export::BillingRule(export) => Guest::BillingRule(export.load(store, instance)?),
            Export::Settings(export) => Guest::Settings(export.load(store, instance)?),
        })
    }
}

/// An exported function has other parameters or results than the contract.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WrongTypes(String);

/// The chain of causes in one line.
pub(crate) fn reason(error: &wasmtime::Error) -> String {
    cut(format!("{error:#}").replace('\n', " "), REASON_MAX_BYTES)
}
