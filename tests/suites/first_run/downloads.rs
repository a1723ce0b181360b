//! All that is downloaded is downloaded by the host, before anything is built.

use mapa_refresh_tests::{crates::Crates, images, scratch::Scratch};

use crate::Test;

pub const TESTS: &[Test] = &[
    (
        "downloads::a_build_has_no_route_to_any_network",
        a_build_has_no_route_to_any_network,
    ),
    (
        "downloads::an_image_is_built_of_what_was_downloaded_into_an_empty_registry_though_its_build_has_no_network",
        an_image_is_built_of_what_was_downloaded,
    ),
];

fn a_build_has_no_route_to_any_network() {
    images::download().unwrap();
    // The first line is the head of the table, if there is a table.
    images::run_in_build("test \"$(wc -l < /proc/net/route)\" -le 1").unwrap();
    let refused = images::run_in_build("exec 3<>/dev/tcp/1.1.1.1/443")
        .unwrap_err()
        .to_string();
    assert!(refused.contains("Network is unreachable"), "{refused}");
}

fn an_image_is_built_of_what_was_downloaded() {
    let fresh = Scratch::new("fresh").unwrap();
    let home = fresh.path().join("cargo-home");
    std::fs::create_dir(&home).unwrap();
    let crates = Crates::find_with(&fresh.path().join("crates"), Some(&home)).unwrap();
    assert!(
        home.join("registry").exists(),
        "they came from elsewhere than this registry"
    );
    let archive = fresh.path().join("job-runner.tar");
    images::job_runner_of(&crates, &archive).unwrap();
    assert!(archive.exists());
}
