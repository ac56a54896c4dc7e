//! The engines that compile and run components, and the clock that interrupts them.
//!
//! The general engine takes instances from a pool, so that a fresh one costs microseconds. The
//! deterministic engine counts instructions and has no other source of difference between two runs. The one for large
//! components has few slots with room for an interpreter in each, so that the others need no such room.

use std::num::NonZeroUsize;
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, EngineWeak, PoolingAllocationConfig, Strategy, WasmBacktraceDetails,
};

use crate::inspect::READY_MEMORY_BYTES;

/// How often a running guest is asked how long it has computed, and lets others run.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Memories of one component: one is usual, a composition of several components has more.
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 4;
/// Tables of one component.
pub(crate) const TABLES_PER_COMPONENT: u32 = 16;

const BACKTRACE_FRAMES_MAX: NonZeroUsize = NonZeroUsize::new(32).expect("32 is not 0");
/// Stack of a guest; deeper recursion is a trap. Its fiber needs room for host calls as well.
const GUEST_STACK_BYTES: usize = 512 << 10;
const FIBER_STACK_BYTES: usize = 1 << 20;
/// Fewest slots worth having when address space is short.
const SLOTS_MIN: u32 = 4;

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sort {
    /// For what may differ from run to run, as machines do.
    General,
    /// For what may not: billing rules.
    Exact,
    /// As `General`, for interpreters.
    Large,
}

impl Sort {
    const ALL: [Sort; 3] = [Sort::General, Sort::Exact, Sort::Large];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Sort::General => "general",
            Sort::Exact => "exact",
            Sort::Large => "large",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Sort> {
        Sort::ALL.into_iter().find(|sort| sort.as_str() == name)
    }

    /// Core instances of one component: a Rust component has four, Python one for each shared library.
    pub(crate) fn instances_per_component(self) -> u32 {
        match self {
            Sort::General | Sort::Exact => 32,
            Sort::Large => 128,
        }
    }

    /// Elements of one table.
    fn table_elements(self) -> usize {
        match self {
            Sort::General | Sort::Exact => 20_000,
            Sort::Large => 100_000,
        }
    }

    /// What stays mapped of a memory between two calls, from its beginning, and is cleared by hand: with a small stack, which
    /// is what the SDK sets, all of a small plugin's memory, and clearing it costs a third of mapping it anew. In the memory
    /// of an interpreter there lies nothing but the unused end of a large stack.
    fn keep_resident_bytes(self) -> usize {
        match self {
            Sort::General | Sort::Exact => READY_MEMORY_BYTES as usize,
            Sort::Large => 0,
        }
    }

    /// What the host keeps of one core instance, in bytes: grows with its functions and globals.
    fn instance_bytes(self) -> usize {
        match self {
            Sort::General | Sort::Exact => 1 << 20,
            Sort::Large => 8 << 20,
        }
    }
}

/// Makes an engine with room for `slots` instances, or for as many as there is address space for.
///
/// A slot reserves some GiB of addresses (not memory), which is what makes bounds checks free. Where the system
/// refuses so much, the number is halved until it fits.
pub(crate) fn engine(
    sort: Sort,
    slots: u32,
    memory_max_bytes: u64,
) -> wasmtime::Result<(Engine, u32)> {
    let mut slots = slots.max(1);
    loop {
        let mut config = config(sort);
        config.allocation_strategy(pool(sort, slots, memory_max_bytes));
        let error = match Engine::new(&config) {
            Ok(engine) => return Ok((engine, slots)),
            Err(error) => error,
        };
        if slots <= SLOTS_MIN {
            return Err(error);
        }
        slots = (slots / 2).max(SLOTS_MIN);
        tracing::info!(
            slots,
            "address space is short: fewer plugin calls at a time"
        );
    }
}

/// An engine that only compiles, for one of a sort: without a pool, which reserves addresses.
pub(crate) fn compiling_engine(sort: Sort) -> wasmtime::Result<Engine> {
    Engine::new(&config(sort))
}

fn pool(sort: Sort, slots: u32, memory_max_bytes: u64) -> PoolingAllocationConfig {
    let instances = sort.instances_per_component();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots * instances)
        .total_memories(slots * MEMORIES_PER_COMPONENT)
        .total_tables(slots * TABLES_PER_COMPONENT)
        .total_stacks(slots)
        .max_core_instances_per_component(instances)
        .max_core_instance_size(sort.instance_bytes())
        .max_component_instance_size(sort.instance_bytes())
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_memories_per_module(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .table_elements(sort.table_elements())
        .max_memory_size(usize::try_from(memory_max_bytes).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(sort.keep_resident_bytes())
        .table_keep_resident(64 << 10)
        .max_unused_warm_slots(slots)
        // A page that was swapped out may be taken for unwritten: wasmtime pull request 14357.
        .pagemap_scan(Enabled::No);
    pool
}

fn config(sort: Sort) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES_MAX))
        // Reading debug information at each trap would let a guest make the host work 100 times as long; see `symbols`.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .native_unwind_info(false)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES);
    if sort == Sort::Exact {
        config
            .consume_fuel(true)
            .cranelift_nan_canonicalization(true);
    }
    config
}

/// Moves the clock of engines on, from a thread of its own, until they are gone.
///
/// `each_second` runs about once a second and says whether to go on.
pub(crate) fn start_clock(
    engines: Vec<EngineWeak>,
    mut each_second: impl FnMut() -> bool + Send + 'static,
) -> std::io::Result<()> {
    let tick = move || {
        for turn in 1u32.. {
            std::thread::sleep(TICK);
            let mut alive = false;
            for engine in &engines {
                if let Some(engine) = engine.upgrade() {
                    engine.increment_epoch();
                    alive = true;
                }
            }
            if !alive || (turn.is_multiple_of(200) && !each_second()) {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("plugin-clock".into())
        .spawn(tick)
        .map(drop)
}
