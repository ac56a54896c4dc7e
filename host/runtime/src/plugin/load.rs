//! How a component becomes a [`Plugin`]: read, compiled or found compiled, linked and started once.
//!
//! While its code is at work in this process for the first time, a mark names it (see [`artifact`](crate::artifact)).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use shoal_model::grant::Kind;
use shoal_model::limit::CallLimits;
use wasmtime::component::Component;

use super::{Plugin, link, machine};
use crate::artifact::{Artifacts, Mark};
use crate::compile::{self, Compiler, NotCompiled};
use crate::engine::Sort;
use crate::inspect::{Inspection, inspect};
use crate::link::{Shape, reason};
use crate::manifest::LimitClass;
use crate::optional::{nothing, refusal};
use crate::refusal::Refusal;
use crate::runtime::Inner;
use crate::symbols::Symbols;

impl Plugin {
    /// See [`Runtime::load`](crate::Runtime::load).
    pub(crate) async fn load(runtime: Arc<Inner>, bytes: Vec<u8>) -> Result<Arc<Plugin>, Refusal> {
        let (shared, bytes) = (Arc::clone(&runtime), Arc::new(bytes));
        let read = Arc::clone(&bytes);
        let found = blocking(move || Found::new(&shared, &read)).await?;
        let found = match found.component {
            Some(_) => found,
            None => compiled(&runtime, found, bytes).await?,
        };
        let Found {
            inspection,
            sort,
            limits,
            symbols,
            component,
        } = found;
        let component = component.expect("found or compiled above");
        let mark = mark(&runtime, &inspection)?;
        let plugin = blocking(move || {
            let kind = inspection.kind;
            // All that is asked for, so that a wrong type is found now and not when it is granted.
            let shape = Shape::of(&inspection.manifest.asked());
            let linked = link(machine(&runtime, sort), &component, kind, shape)
                .map_err(|reason| Refusal::Incompatible { kind, reason })?;
            Ok(Plugin {
                inspection,
                sort,
                component,
                limits,
                symbols,
                linked: Mutex::new(HashMap::from([(shape, linked)])),
                runtime,
            })
        })
        .await?;
        let started = plugin.start_once().await;
        drop(mark);
        started.map(|()| Arc::new(plugin))
    }

    /// Instantiates it once with nothing open: checks the types of its functions and its start-up code.
    async fn start_once(&self) -> Result<(), Refusal> {
        let (started, _) = self.alone(&self.closed_link(), nothing()).await;
        started.map_err(|failed| refusal(self.kind(), failed))?;
        self.start_rules_once().await
    }
}

/// What is known of a component before it runs.
struct Found {
    inspection: Inspection,
    sort: Sort,
    limits: CallLimits,
    symbols: Option<Arc<Symbols>>,
    /// `None` until it is compiled.
    component: Option<Component>,
}

impl Found {
    fn new(runtime: &Inner, bytes: &[u8]) -> Result<Found, Refusal> {
        let inspection = inspect(bytes)?;
        let kind = inspection.kind;
        if let Some(artifacts) = &runtime.artifacts
            && artifacts.is_suspect(&inspection.digest)
        {
            return Err(Refusal::Suspect(inspection.digest));
        }
        let asked = inspection.manifest.limits;
        let sort = match (asked.class, kind) {
            (LimitClass::Standard, Kind::BillingRule) => Sort::Exact,
            (LimitClass::Standard, _) => Sort::General,
            (LimitClass::Large, Kind::BillingRule) => return Err(Refusal::LargeBillingRule),
            (LimitClass::Large, _) if runtime.large.is_some() => Sort::Large,
            (LimitClass::Large, _) => return Err(Refusal::LargeNotAllowed),
        };
        let limits = asked
            .within(runtime.limits(kind))
            .map_err(Refusal::LimitBeyond)?;
        let engine = &machine(runtime, sort).engine;
        let artifacts = runtime.artifacts.as_ref();
        let component = match artifacts {
            Some(artifacts) => {
                let _mark = mark(runtime, &inspection)?;
                artifacts.load(engine, &inspection.digest)
            }
            None => None,
        };
        let mut stats = runtime.compiled.lock();
        match component {
            Some(_) => stats.hits += 1,
            None => stats.misses += 1,
        }
        drop(stats);
        Ok(Found {
            symbols: Symbols::of(bytes).map(Arc::new),
            inspection,
            sort,
            limits,
            component,
        })
    }
}

/// Compiles a component, one at a time: each takes tens of MiB and all processors.
async fn compiled(
    runtime: &Arc<Inner>,
    found: Found,
    bytes: Arc<Vec<u8>>,
) -> Result<Found, Refusal> {
    let _turn = runtime.compiling.acquire().await.ok();
    let began = Instant::now();
    let compiled = compiled_in_turn(runtime, found, bytes).await;
    runtime.compiled.lock().compiling += began.elapsed();
    compiled
}

async fn compiled_in_turn(
    runtime: &Arc<Inner>,
    mut found: Found,
    bytes: Arc<Vec<u8>>,
) -> Result<Found, Refusal> {
    let (kind, sort) = (found.inspection.kind, found.sort);
    let limits = match sort {
        Sort::Large => runtime.options.compile.large(),
        Sort::General | Sort::Exact => runtime.options.compile,
    };
    let code = match &runtime.options.compiler {
        Compiler::InProcess => None,
        Compiler::Child { program, arguments } => {
            let code = compile::in_child(program, arguments, sort, limits, &bytes).await;
            Some(code.map_err(|why| not_compiled(why, kind))?)
        }
    };
    let runtime = Arc::clone(runtime);
    blocking(move || {
        let _mark = mark(&runtime, &found.inspection)?;
        let engine = &machine(&runtime, sort).engine;
        let incompatible = |reason: String| Refusal::Incompatible { kind, reason };
        found.component = Some(match (code, &runtime.artifacts) {
            (Some(code), Some(artifacts)) => artifacts
                .keep(engine, &found.inspection.digest, &code)
                .map_err(|e| incompatible(e.to_string()))?,
            _ => Component::from_binary(engine, &bytes).map_err(|e| incompatible(reason(&e)))?,
        });
        Ok(found)
    })
    .await
}

fn not_compiled(why: NotCompiled, kind: Kind) -> Refusal {
    match why {
        NotCompiled::Invalid(reason) => Refusal::Incompatible { kind, reason },
        NotCompiled::TooMuch(what) => Refusal::CompileLimit(what),
        NotCompiled::Broken(what) => Refusal::CompilerFailed(what),
    }
}

/// Off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::CannotStart("its loading was cut off".to_owned())))
}

/// Names a component while its code is at work in this process for the first time.
fn mark(runtime: &Inner, inspection: &Inspection) -> Result<Option<Mark>, Refusal> {
    let mark = |artifacts: &Artifacts| {
        let mark = artifacts.mark(&inspection.digest);
        mark.map_err(|e| Refusal::CompilerFailed(format!("its start cannot be noted: {e}")))
    };
    runtime.artifacts.as_ref().map(mark).transpose()
}
