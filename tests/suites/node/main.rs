//! The whole way on a node: policy → CronJob → Job → pod → PostgreSQL → Redis → status. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod compliance;
mod end_to_end;
mod images;
mod in_cluster;
mod misfits;
mod oracle;
mod permissions;
mod restricted;
mod upgrade;
mod world;

use libtest_mimic::{Arguments, Completion, Trial};
use mapa_refresh_tests::{process, progress};

fn main() {
    let arguments = Arguments::from_args();
    if !process::is_root() {
        let reason = "not root: a node on which pods run cannot be started";
        let skipped = tests()
            .into_iter()
            .map(|(name, _)| Trial::ignorable_test(name, move || Ok(Completion::ignored_with(reason))))
            .collect();
        libtest_mimic::run(&arguments, skipped).exit();
    }
    if arguments.list {
        let listed = tests()
            .into_iter()
            .map(|(name, _)| Trial::test(name, || Ok(())))
            .collect();
        libtest_mimic::run(&arguments, listed).exit();
    }
    let world = world::World::start();
    // They wait for the clock, not for the processor.
    let together = Arguments {
        test_threads: arguments.test_threads.or(Some(8)),
        ..arguments.clone()
    };
    let conclusions = [
        // It measures an installation: nothing runs beside it.
        libtest_mimic::run(&arguments, trials(&world, in_cluster::TESTS)),
        libtest_mimic::run(&together, trials(&world, &together_tests())),
        libtest_mimic::run(&arguments, trials(&world, compliance::TESTS)),
    ];
    let is_whole = arguments.filter.is_none() && arguments.skip.is_empty();
    let permitted = permissions::check(&world.audit_events(), is_whole);
    // Exiting would skip it, and with it the end of the node.
    drop(world);
    for conclusion in conclusions {
        conclusion.exit_if_failed();
    }
    if let Err(error) = permitted {
        progress::say(&error);
        std::process::exit(101);
    }
}

fn trials(world: &world::World, tests: &[world::Test]) -> Vec<Trial> {
    tests
        .iter()
        .map(|(name, test)| {
            let (world, test) = (world.clone(), *test);
            Trial::test(*name, move || {
                test(&world);
                Ok(())
            })
        })
        .collect()
}

/// Every test.
fn tests() -> Vec<world::Test> {
    [in_cluster::TESTS, &together_tests(), compliance::TESTS].concat()
}

/// Tests that leave each other alone.
fn together_tests() -> Vec<world::Test> {
    [
        end_to_end::TESTS,
        images::TESTS,
        misfits::TESTS,
        oracle::TESTS,
        permissions::TESTS,
        upgrade::TESTS,
    ]
    .concat()
}
