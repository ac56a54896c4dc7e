//! Hostile guests and files: what each tries, which limit or rule stops it, and what people are told.
//!
//! Every case is one function and one test. A test asserts that the attack ends as its case says, in bounded
//! processor time and memory, that nothing of it stays, and that a neighbour's calls go on meanwhile. `cargo xtask
//! hostile` runs the same cases, each in a process of its own, and prints what they cost; `cargo xtask hostile
//! DIR` does so with files of others.

#[path = "hostile/answers.rs"]
mod answers;
#[path = "hostile/billing.rs"]
mod billing;
#[path = "hostile/bytes.rs"]
mod bytes;
#[path = "hostile/case.rs"]
pub(crate) mod case;
#[path = "hostile/code.rs"]
mod code;
#[path = "hostile/compute.rs"]
mod compute;
#[path = "hostile/contract.rs"]
mod contract;
#[path = "hostile/file.rs"]
pub(crate) mod file;
#[path = "hostile/fill.rs"]
pub(crate) mod fill;
#[path = "hostile/flood.rs"]
mod flood;
#[path = "hostile/http.rs"]
mod http;
#[path = "hostile/kinds.rs"]
mod kinds;
#[path = "hostile/measure.rs"]
pub(crate) mod measure;
#[path = "hostile/memory.rs"]
mod memory;
#[path = "hostile/network.rs"]
mod network;
#[path = "hostile/pieces.rs"]
mod pieces;
#[path = "hostile/repeat.rs"]
pub(crate) mod repeat;
#[path = "hostile/resolver.rs"]
mod resolver;
#[path = "hostile/rules.rs"]
mod rules;
#[path = "hostile/server.rs"]
mod server;
#[path = "hostile/services.rs"]
mod services;
#[path = "hostile/start.rs"]
mod start;
#[path = "hostile/structure.rs"]
mod structure;

use self::case::Case;

/// A case by name, to be made when it is run: some are large.
pub(crate) type Named = (&'static str, fn() -> Case);

/// Lists the cases of a module, and makes a test of each.
macro_rules! cases {
    ($($name:ident)*) => {
        pub(super) const CASES: &[super::Named] = &[$((stringify!($name), $name)),*];

        #[cfg(test)]
        mod tests {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::hostile::measure::check(super::$name()).await;
                }
            )*
        }
    };
}
use cases;

/// Every case, in the order of the table.
pub(crate) fn all() -> impl Iterator<Item = Named> {
    [
        compute::CASES,
        memory::CASES,
        flood::CASES,
        contract::CASES,
        kinds::CASES,
        billing::CASES,
        http::CASES,
        answers::CASES,
        network::CASES,
        services::CASES,
        rules::CASES,
        start::CASES,
        structure::CASES,
        code::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
}
