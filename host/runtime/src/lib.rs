//! Plugins: read, check, grant, limit, run.
//!
//! Invariants:
//! - nothing outside this crate knows what plugins are made of;
//! - a plugin can do exactly what it was granted, and nothing else;
//! - no plugin can panic the host, make it allocate without bound or outlive its deadline.
//!
//! The way of a plugin: its bytes are read without running anything, loaded (compiled and checked
//! against its kind's contract), installed for a tenant with grants and settings, and called.
#![warn(missing_docs)]
#![expect(
    clippy::disallowed_methods,
    reason = "limits on time are measured here, and compiling is kept off the async threads"
)]

mod admission;
mod artifact;
mod billing;
mod bindings;
mod call;
mod channel;
mod check;
mod compile;
mod contract;
mod egress;
mod engine;
mod failure;
mod golden;
mod inspect;
mod install;
mod installed;
mod kv;
mod link;
mod log;
mod mail;
mod manifest;
mod memory;
mod meter;
mod optional;
mod pack;
mod plugin;
mod receiver;
mod refusal;
mod rehearsal;
mod run;
mod runtime;
mod secrets;
mod seeded;
mod services;
mod settings;
mod signature;
mod slots;
mod state;
mod symbols;

pub use artifact::ArtifactOptions;
pub use billing::{Statement, StatementLine, Terms};
pub use call::{
    Call, CallContext, CallError, CallReport, Failure, FailureDetail, LimitExceeded, LimitKind,
    LogLevel, LogLine, LogSource, RefusedContact,
};
pub use channel::{Notification, NotifiedAlert, NotifiedMonitor, Receipt, Trigger};
pub use check::{CheckOutcome, Measurement};
pub use compile::{CompileLimits, CompileStats, Compiler, compile_child};
pub use contract::{Difference, Step, differences};
pub use egress::InvalidRoots;
pub use egress::address::{Cidr, InvalidCidr};
pub use golden::GoldenResult;
pub use inspect::{
    COMPONENT_MAX_BYTES, Inspection, LARGE_COMPONENT_MAX_BYTES, READY_MEMORY_BYTES, capability_of,
    inspect,
};
pub use install::InstallOptions;
pub use installed::Installed;
pub use kv::{
    KEY_MAX_BYTES, KEY_VALUE_MAX_BYTES, KEYS_MAX, KeyValue, KeyValueError, MemoryKeyValue,
    OverlayKeyValue, VALUE_MAX_BYTES,
};
pub use mail::{Mail, MailError, MailRelay, MemoryRelay, RECIPIENTS_MAX};
pub use manifest::{
    Asked, AskedLimits, Endpoint, GoldenTest, InvalidManifest, LimitClass, MANIFEST_MAX_BYTES,
    Manifest, SECTION,
};
pub use pack::pack;
pub use plugin::{InstallError, Plugin};
pub use receiver::{
    Committed, Ingest, IngestError, RESPONSE_MAX_BYTES, ReceiverRequest, ReceiverResponse,
    Rejection, Transport,
};
pub use refusal::Refusal;
pub use rehearsal::faults::{Faults, InvalidFault};
pub use rehearsal::{Peers, Rehearsal, RehearsalError, Rehearsed};
pub use runtime::{Runtime, RuntimeError, RuntimeOptions, RuntimeStats, TenantLimits};
pub use secrets::{SECRET_MAX_BYTES, SECRET_MIN_BYTES};
pub use services::Services;
pub use settings::{
    InvalidSchema, InvalidSettings, SETTINGS_MAX_BYTES, SettingProblem, Settings, SettingsSchema,
};
pub use signature::{
    InvalidKey, KeyId, PublicKey, PublisherKey, SIGNATURE_SECTION, SignatureState, SigningKey,
    sign, unsigned, verify,
};
