//! Wherever kubectl works, the plugin works: both on the same kubeconfigs, flags and proxies, against a real API server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod clusters;
mod files;
mod proxies;
mod proxy;
mod users;
mod world;
mod yaml;

use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, trials(None)).exit();
    }
    let world = Arc::new(world::World::start());
    let conclusion = libtest_mimic::run(
        &Arguments {
            test_threads: arguments.test_threads.or(Some(4)),
            ..arguments
        },
        trials(Some(&world)),
    );
    // Exiting would skip it, and with it the end of the servers.
    drop(world);
    conclusion.exit();
}

fn trials(world: Option<&Arc<world::World>>) -> Vec<Trial> {
    [clusters::TESTS, files::TESTS, proxies::TESTS, users::TESTS, yaml::TESTS]
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
