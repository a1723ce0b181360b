//! What the API server and the operator do together: everything that needs no pod to run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod admission;
mod configuration;
mod cron_jobs;
mod deadlines;
mod doctor;
mod edges;
mod evidence;
mod extra_runs;
mod logs;
mod metrics;
mod past_admission;
mod permissions;
mod plugin;
mod plugin_memory;
mod pods;
mod replicas;
mod terminal;
mod traces;
mod vitals;
mod world;

use libtest_mimic::{Arguments, Trial};
use mapa_refresh_tests::progress;

fn main() {
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, trials(None)).exit();
    }
    let is_whole = arguments.filter.is_none() && arguments.skip.is_empty();
    let world = world::World::start();
    let calls = world.calls();
    // Some wait for the clock, not for the processor.
    let conclusion = libtest_mimic::run(
        &Arguments {
            test_threads: arguments.test_threads.or(Some(4)),
            ..arguments
        },
        trials(Some(&world)),
    );
    // Exiting would skip it, and with it the end of the servers.
    drop(world);
    // A test that failed may be the one that would have used a permission.
    let permitted = permissions::check(&calls, is_whole && !conclusion.has_failed());
    conclusion.exit_if_failed();
    if let Err(error) = permitted {
        progress::say(&error);
        std::process::exit(101);
    }
}

fn trials(world: Option<&world::World>) -> Vec<Trial> {
    [
        admission::TESTS,
        configuration::TESTS,
        cron_jobs::TESTS,
        deadlines::TESTS,
        doctor::TESTS,
        edges::TESTS,
        evidence::TESTS,
        extra_runs::TESTS,
        logs::TESTS,
        metrics::TESTS,
        past_admission::TESTS,
        permissions::TESTS,
        replicas::TESTS,
        plugin::TESTS,
        plugin_memory::TESTS,
        terminal::TESTS,
        traces::TESTS,
        vitals::TESTS,
    ]
    .concat()
    .into_iter()
    .map(|(name, test)| {
        let world = world.cloned();
        Trial::test(name, move || {
            if let Some(world) = &world {
                test(world);
            }
            Ok(())
        })
    })
    .collect()
}
