//! `cargo demo` on a machine on which nothing was done before, and what it leaves however it ends. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod downloads;
mod ends;

use libtest_mimic::{Arguments, Completion, Trial};
use mapa_refresh_tests::process;

/// A test: a name that says the promise, and what proves it.
type Test = (&'static str, fn());

fn main() {
    let arguments = Arguments::from_args();
    let tests = [downloads::TESTS, ends::TESTS].concat().into_iter();
    let trials = tests.map(|(name, test)| {
        if process::is_root() {
            Trial::test(name, move || {
                test();
                Ok(())
            })
        } else {
            let reason = "not root: neither images are built nor a node is started";
            Trial::ignorable_test(name, move || Ok(Completion::ignored_with(reason)))
        }
    });
    let one_by_one = Arguments {
        // A node at a time is alive on a machine, and the images come first.
        test_threads: Some(1),
        ..arguments
    };
    libtest_mimic::run(&one_by_one, trials.collect()).exit();
}
