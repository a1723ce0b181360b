//! The operator's configuration file, when it is of no use: the process ends, and Kubernetes starts it again.

use std::{fs, process::Command};

use mapa_refresh_tests::cargo;

use crate::world::{Test, World};

pub const TESTS: &[Test] = &[(
    "configuration::a_file_that_is_of_no_use_ends_the_start_with_one_line_that_names_it",
    unusable,
)];

fn unusable(_: &World) {
    let operator = cargo::binary("mapa-refresh-operator", "mapa-refresh-operator").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    for (path, word) in [
        (folder.path().join("absent.yaml"), "No such file"),
        (folder.path().to_owned(), "directory"),
        (write("bytes.yaml", b"\xff\xfe"), "UTF-8"),
        (write("broken.yaml", b"runner: {"), "line"),
        (write("list.yaml", b"- a\n"), "sequence"),
        (write("unknown.yaml", b"concurrency: 2\nruner: {}\n"), "runer"),
        (write("range.yaml", b"concurrency: 65\n"), "65"),
        (
            write("collector.yaml", b"otlpEndpoint: collector:4317\n"),
            "otel-collector",
        ),
    ] {
        let output = Command::new(&operator)
            .args(["run", "--config"])
            .arg(&path)
            .env("KUBECONFIG", "/nonexistent")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}: {said}", path.display());
        assert_eq!(said.lines().count(), 1, "{}: {said}", path.display());
        assert!(
            said.contains(&path.display().to_string()) && said.contains(word),
            "{}: {said}",
            path.display()
        );
    }
}
