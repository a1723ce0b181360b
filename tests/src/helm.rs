//! helm, and the chart of this repository.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Result, assets, images, process};

/// helm for one cluster, or for none.
#[derive(Clone, Debug)]
pub struct Helm {
    binary: PathBuf,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// helm for the cluster of `kubeconfig`; without one it can render and lint.
    ///
    /// # Errors
    /// It is not in the cache and cannot be built.
    pub fn new(kubeconfig: Option<&Path>) -> Result<Self> {
        Ok(Self::of(assets::helm()?, kubeconfig))
    }

    /// The helm `binary` for the cluster of `kubeconfig`.
    #[must_use]
    pub fn of(binary: PathBuf, kubeconfig: Option<&Path>) -> Self {
        Self {
            binary,
            kubeconfig: kubeconfig.map(Path::to_owned),
        }
    }

    /// Runs helm and returns what it printed.
    ///
    /// # Errors
    /// It fails; with what it printed.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        let mut command = Command::new(&self.binary);
        // Without a cluster it must not find somebody's.
        let nowhere = Path::new("/nonexistent");
        command.env("KUBECONFIG", self.kubeconfig.as_deref().unwrap_or(nowhere));
        process::output("helm", command.args(arguments))
    }
}

/// The folder of the chart.
#[must_use]
pub fn chart() -> PathBuf {
    images::repository().join("charts/mapa-refresh-operator")
}

/// The chart before this one, as it was packed: without leader election, metrics and probes.
#[must_use]
pub fn previous_chart() -> PathBuf {
    images::repository().join("tests/suites/chart/previous/mapa-refresh-operator-0.1.0.tgz")
}

/// The arguments that make a release run the images `operator` and `runner`, given as `repository:tag`.
#[must_use]
pub fn image_arguments(operator: &str, runner: &str) -> Vec<String> {
    let of = |value: &str, image: &str| {
        // A colon before the last slash is the registry's port.
        let (repository, tag) = match image.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (image, "latest"),
        };
        [
            format!("--set-string={value}.repository={repository}"),
            format!("--set-string={value}.tag={tag}"),
        ]
    };
    [of("image", operator), of("runner.image", runner)].concat()
}

#[cfg(test)]
mod tests {
    use super::image_arguments;

    #[test]
    fn an_image_is_split_at_its_tag_and_not_at_the_port_of_its_registry() {
        assert_eq!(
            image_arguments("localhost:5000/operator", "registry:5000/a/runner:1"),
            [
                "--set-string=image.repository=localhost:5000/operator",
                "--set-string=image.tag=latest",
                "--set-string=runner.image.repository=registry:5000/a/runner",
                "--set-string=runner.image.tag=1",
            ]
        );
    }
}
