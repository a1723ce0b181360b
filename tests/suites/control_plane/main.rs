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
mod evidence;
mod past_admission;
mod world;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, trials(None)).exit();
    }
    let world = world::World::start();
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&world)));
    // Exiting would skip it, and with it the end of the servers.
    drop(world);
    conclusion.exit();
}

fn trials(world: Option<&world::World>) -> Vec<Trial> {
    [
        admission::TESTS,
        configuration::TESTS,
        cron_jobs::TESTS,
        evidence::TESTS,
        past_admission::TESTS,
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
