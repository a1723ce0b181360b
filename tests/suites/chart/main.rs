//! The Helm chart: what it renders, what it refuses, and what it does to a real API server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod alerts;
mod configuration;
mod dependency;
mod examples;
mod gitops;
mod names;
mod notes;
mod ownership;
mod permissions;
mod platform;
mod properties;
mod release;
mod rendering;
mod schema;
mod selectors;
mod self_test;
mod umbrella;
mod world;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let world = world::World::default();
    let trials = [
        rendering::TESTS,
        schema::TESTS,
        ownership::TESTS,
        dependency::TESTS,
        platform::TESTS,
        selectors::TESTS,
        notes::TESTS,
        alerts::TESTS,
        configuration::TESTS,
        examples::TESTS,
        gitops::TESTS,
        release::TESTS,
        self_test::TESTS,
        permissions::TESTS,
        names::TESTS,
        properties::TESTS,
    ]
    .concat()
    .into_iter()
    .map(|(name, test)| {
        let world = world.clone();
        Trial::test(name, move || {
            test(&world);
            Ok(())
        })
    })
    .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Exiting would skip it, and with it the end of the servers.
    drop(world);
    conclusion.exit();
}
