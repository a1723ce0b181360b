//! The Kubernetes binaries, helm and promtool: from `KUBEBUILDER_ASSETS`, from the cache, or built from the Go module proxy into the cache.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    Result,
    error::Step,
    process, progress,
    scratch::{OfTheDead, Scratch},
    wait::{self, Look},
};

/// Version of Kubernetes that is built.
pub const KUBERNETES_VERSION: &str = "v1.35.4";

const KUBERNETES: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];
const ETCD: &str = "etcd";

/// A folder with etcd and Kubernetes' binaries.
#[derive(Clone, Debug)]
pub struct Assets {
    /// `KUBEBUILDER_ASSETS`; setup-envtest fills it with only some of what is needed.
    given: Option<PathBuf>,
    built: PathBuf,
}

impl Assets {
    /// Finds the binaries, or builds them: some ten minutes the first time on two cores.
    ///
    /// # Errors
    /// Go is missing, or the build fails; with the end of its output.
    pub fn find() -> Result<Self> {
        let given = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let assets = Self {
            given,
            built: cache().join("kubernetes").join(KUBERNETES_VERSION),
        };
        if assets.is_complete() {
            return Ok(assets);
        }
        let _lock = lock(&assets.built.with_extension("lock"))?;
        // Another process may have built them while we waited for the lock.
        if !assets.is_complete() {
            fs::create_dir_all(&assets.built).step_at("create", &assets.built)?;
            build(&assets.built)?;
        }
        Ok(assets)
    }

    /// Where a binary is.
    #[must_use]
    pub fn path(&self, binary: &str) -> PathBuf {
        let given = self
            .given
            .as_ref()
            .map(|folder| folder.join(binary))
            .filter(|path| path.exists());
        given.unwrap_or_else(|| self.built.join(binary))
    }

    /// A command that runs a binary.
    #[must_use]
    pub fn command(&self, binary: &str) -> Command {
        Command::new(self.path(binary))
    }

    fn is_complete(&self) -> bool {
        KUBERNETES
            .iter()
            .chain([&ETCD])
            .all(|binary| self.path(binary).exists())
    }
}

/// Version of helm that is built.
const HELM_VERSION: &str = "v4.3.1";

/// helm: from `KUBEBUILDER_ASSETS`, from the cache, or built from the Go module proxy: some two minutes the first time on two cores.
///
/// # Errors
/// Go is missing, or the build fails; with the end of its output.
pub fn helm() -> Result<PathBuf> {
    tool(&HELM)
}

/// Downloads what helm is built of, if it has to be built: beside what keeps the processor busy.
///
/// # Errors
/// Go is missing, or the module proxy cannot be reached.
pub fn download_helm() -> Result<()> {
    if HELM.path().exists() {
        return Ok(());
    }
    progress::during("downloading the modules of helm", || {
        let mut list = go(&sources().join(HELM.module));
        // It reads every package that the build reads, and so needs the same modules and no other.
        list.args(["list", "-deps", HELM.package]);
        process::output("go list (Go 1.26 or later is needed)", &mut list).map(drop)
    })
}

const HELM: Tool = Tool {
    name: "helm",
    version: HELM_VERSION,
    module: "helm",
    package: "helm.sh/helm/v4/cmd/helm",
    version_variable: "helm.sh/helm/v4/internal/version.version",
};

/// Version of Prometheus of which promtool is built; its module says v0.316.0.
const PROMETHEUS_VERSION: &str = "v3.16.0";

/// promtool: from `KUBEBUILDER_ASSETS`, from the cache, or built from the Go module proxy: some ten minutes the first time on two cores.
///
/// # Errors
/// Go is missing, or the build fails; with the end of its output.
pub fn promtool() -> Result<PathBuf> {
    tool(&Tool {
        name: "promtool",
        version: PROMETHEUS_VERSION,
        module: "prometheus",
        package: "github.com/prometheus/prometheus/cmd/promtool",
        version_variable: "github.com/prometheus/common/version.Version",
    })
}

/// A program in Go.
struct Tool {
    name: &'static str,
    version: &'static str,
    /// The folder with the Go module that pins it.
    module: &'static str,
    package: &'static str,
    /// Where it keeps the version that it tells.
    version_variable: &'static str,
}

impl Tool {
    /// Where it is or will be.
    fn path(&self) -> PathBuf {
        let given = env::var_os("KUBEBUILDER_ASSETS").map(|folder| PathBuf::from(folder).join(self.name));
        given
            .filter(|path| path.exists())
            .unwrap_or_else(|| cache().join(self.module).join(self.version).join(self.name))
    }
}

fn tool(tool: &Tool) -> Result<PathBuf> {
    let Tool {
        name,
        version,
        module,
        package,
        version_variable,
    } = tool;
    let binary = tool.path();
    if binary.exists() {
        return Ok(binary);
    }
    let folder = cache().join(module).join(version);
    let _lock = lock(&folder.with_extension("lock"))?;
    if !binary.exists() {
        fs::create_dir_all(&folder).step_at("create", &folder)?;
        let scratch = scratch_in(&folder)?;
        let unfinished = scratch.path().join(name);
        let flags = format!("-s -w -X {version_variable}={version}");
        let what = format!("building {name} {version} from the Go module proxy, once (some minutes on two cores)");
        progress::during(&what, || {
            go_build(
                &sources().join(module),
                &flags,
                &unfinished,
                scratch.path(),
                &[(*package).to_owned()],
            )
        })?;
        fs::rename(&unfinished, &binary).step_at("move it into", &folder)?;
    }
    Ok(binary)
}

/// The cache of everything that takes long to make: outside the checkout, so that a fresh clone finds it.
#[must_use]
pub fn cache() -> PathBuf {
    let home = || {
        env::var_os("HOME")
            .map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
            .join(".cache")
    };
    env::var_os("XDG_CACHE_HOME")
        .map_or_else(home, PathBuf::from)
        .join("mapa-refresh")
}

/// Waits for an exclusive lock, which ends with the returned file.
///
/// # Errors
/// The file cannot be made.
pub fn lock(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).step_at("create", parent)?;
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .step_at("open", path)?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    let what = format!("waiting for {}", path.display());
    // Below a progress line the start of a step is not printed; without this line a wait for the lock would look like a hang.
    progress::say(&what);
    progress::during(&what, || {
        // A blocking lock could not be interrupted.
        wait::until(&what, Duration::MAX, || match file.try_lock() {
            Ok(()) => Look::Met(()),
            Err(TryLockError::WouldBlock) => Look::Saw("another holds it".to_owned()),
            Err(TryLockError::Error(error)) => Look::Never(error.to_string()),
        })
    })?;
    Ok(file)
}

/// The lock, if its file exists and no process holds it. It is not made here: a file of another user's would keep root from the lock.
#[must_use]
pub fn lock_if_free(path: &Path) -> Option<File> {
    let file = File::options().write(true).open(path).ok()?;
    file.try_lock().ok().map(|()| file)
}

/// A folder for what is being built in `folder`, of which the lock is held: what is unfinished there was left by the dead.
fn scratch_in(folder: &Path) -> Result<Scratch> {
    const KIND: &str = "build";
    for dead in OfTheDead::find(folder, |kind| kind == KIND) {
        dead.remove();
    }
    Scratch::below(folder, KIND)
}

fn build(folder: &Path) -> Result<()> {
    let sources = sources();
    let scratch = scratch_in(folder)?;
    let minor = KUBERNETES_VERSION.split('.').nth(1).unwrap_or_default();
    let version = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {version}.gitVersion={KUBERNETES_VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
    );

    let packages: Vec<String> = KUBERNETES
        .iter()
        .map(|binary| format!("k8s.io/kubernetes/cmd/{binary}"))
        .collect();
    // Where a folder is named, each binary is put into it by its own name.
    let to_folder = scratch.path().join("");
    let what = format!(
        "building Kubernetes {KUBERNETES_VERSION} from the Go module proxy, once (some 10 minutes on two cores)"
    );
    progress::during(&what, || {
        go_build(
            &sources.join("kubernetes"),
            &flags,
            &to_folder,
            scratch.path(),
            &packages,
        )
    })?;
    let to_file = scratch.path().join(ETCD);
    progress::during("building etcd, once", || {
        go_build(
            &sources.join("etcd"),
            "-s -w",
            &to_file,
            scratch.path(),
            &["go.etcd.io/etcd/server/v3".to_owned()],
        )
    })?;
    for binary in KUBERNETES.iter().chain([&ETCD]) {
        fs::rename(scratch.path().join(binary), folder.join(binary)).step_at("move the binary into", folder)?;
    }
    Ok(())
}

/// The Go modules that name what is built.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster-tools")
}

fn go_build(module: &Path, flags: &str, output: &Path, scratch: &Path, packages: &[String]) -> Result<()> {
    let mut build = go(module);
    // Its own temporary files stay when it is killed.
    build.env("GOTMPDIR", scratch);
    build
        .args(["build", "-trimpath", "-ldflags", flags, "-o"])
        .arg(output)
        .args(packages);
    process::output("go build (Go 1.26 or later is needed)", &mut build).map(drop)
}

fn go(module: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(module)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly");
    go
}
