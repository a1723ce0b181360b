//! A parent chart whose dependencies are this chart: as many of them as aliases, each with values of its own.

use std::{fmt::Write, fs, path::Path, process::Command};

use mapa_refresh_tests::{
    Result,
    helm::{Helm, chart},
};
use serde_json::Value;
use tempfile::TempDir;

/// A parent chart, packed of nothing: `charts/` has this chart as it is.
pub struct Umbrella {
    helm: Helm,
    folder: TempDir,
}

impl Umbrella {
    /// One whose dependencies have `further` fields each (`alias: a, condition: a.enabled`).
    pub fn new<F: AsRef<str>>(further: impl IntoIterator<Item = F>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::from("apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n");
        for further in further {
            let version = env!("CARGO_PKG_VERSION");
            let further = further.as_ref();
            writeln!(
                text,
                "  - {{ name: mapa-refresh-operator, version: {version}, {further} }}"
            )
            .unwrap();
        }
        fs::write(folder.path().join("Chart.yaml"), text).unwrap();
        let charts = folder.path().join("charts");
        fs::create_dir(&charts).unwrap();
        let copied = Command::new("cp").arg("-r").arg(chart()).arg(&charts).status().unwrap();
        assert!(copied.success());
        Self {
            helm: Helm::new(None).unwrap(),
            folder,
        }
    }

    /// The folder of the parent chart.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `helm template` of the release `release` in `namespace` with `values`, and `further` arguments.
    pub fn render(&self, release: &str, namespace: &str, values: &Value, further: &[&str]) -> Result<String> {
        let file = self.folder.path().join("given.yaml");
        fs::write(&file, yaml(values)).unwrap();
        let (parent, file) = (self.path().display().to_string(), file.display().to_string());
        let fixed = [
            "template",
            release,
            &parent,
            "--kube-version=1.33.0",
            "--namespace",
            namespace,
            "--values",
            &file,
        ];
        self.helm.run(fixed.iter().chain(further))
    }
}

/// `value` as YAML of ASCII alone: JSON may have characters as they are that YAML has not.
fn yaml(value: &Value) -> String {
    let json = value.to_string();
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match u32::from(character) {
            0..=0x7e => text.push(character),
            code @ 0x7f..=0xffff => write!(text, "\\u{code:04x}").unwrap(),
            code => write!(text, "\\U{code:08x}").unwrap(),
        }
    }
    text
}

/// The documents of `rendered`: the name of the chart or its alias, and the text.
pub fn documents(rendered: &str) -> impl Iterator<Item = (&str, &str)> {
    rendered.split("\n---\n").filter_map(|document| {
        let (_, source) = document.split_once("# Source: parent/charts/")?;
        let (of, _) = source.split_once('/')?;
        let (_, text) = source.split_once('\n')?;
        Some((of, text))
    })
}
