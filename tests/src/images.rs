//! Container images without a registry: the project's real Dockerfiles, built by buildah over bases made from Debian's packages.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use crate::{
    Error, Result, assets,
    cargo_tool::{self, CargoTool},
    crates::Crates,
    error::Step,
    interrupt, packages, process, progress,
    scratch::Scratch,
    sources::Revision,
};

/// Name of the image of the pods' sandboxes.
pub const PAUSE: &str = "localhost/pause:3.10";
/// Name of the operator's image.
pub const OPERATOR: &str = "localhost/mapa-refresh-operator:test";
/// Name of the job-runner's image.
pub const JOB_RUNNER: &str = "localhost/mapa-job-runner:test";
/// Name of the job-runner's image for Oracle.
pub const JOB_RUNNER_ORACLE: &str = "localhost/mapa-job-runner-oracle:test";
/// Home-made base of that image: glibc, and in the place of Oracle's client the OCI stub, which is not Oracle.
const OCI_STUB_BASE: &str = "localhost/oci-stub-not-oracle:test";
/// The image that the Dockerfiles build in; made here over the host's toolchain under its official name.
const RUST: &str = "docker.io/library/rust:1.95-bookworm";

const PAUSE_SOURCE: &str = r"
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void down(int s) { (void)s; exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGINT, down); signal(SIGTERM, down); signal(SIGCHLD, reap); for (;;) pause(); }
";

/// What temporary folders of this module are for.
const KIND: &str = "image";

/// Downloads what the project's images are built of: crates, and Debian's packages for the image that they are built in. What is left to do
/// then keeps the processor busy and needs no network.
///
/// # Errors
/// It cannot be had.
pub fn download() -> Result<()> {
    packages::ensure(packages::IMAGES)?;
    Crates::find()?;
    make_rust_image()
}

/// The pause image as an OCI archive.
///
/// # Errors
/// gcc or buildah fail.
pub fn pause() -> Result<PathBuf> {
    let key = digest([PAUSE_SOURCE.as_bytes()]);
    cached("pause", &key, |archive| {
        let context = Scratch::new(KIND)?;
        fs::write(context.path().join("pause.c"), PAUSE_SOURCE).step("write pause.c")?;
        let mut gcc = Command::new("gcc");
        gcc.current_dir(context.path())
            .args(["-Os", "-static", "-s", "-o", "pause", "pause.c"]);
        process::output("compile pause", &mut gcc)?;
        fs::write(
            context.path().join("Dockerfile"),
            "FROM scratch\nCOPY pause /pause\nENTRYPOINT [\"/pause\"]\n",
        )
        .step("write Dockerfile")?;
        build(
            context.path(),
            &context.path().join("Dockerfile"),
            PAUSE,
            &[],
            &[],
            None,
            archive,
        )
    })
}

/// The job-runner's image as an OCI archive, from `job-runner/Dockerfile`.
///
/// # Errors
/// The build fails; with its output.
pub fn job_runner() -> Result<PathBuf> {
    let dockerfile = repository().join("job-runner/Dockerfile");
    project("job-runner", "job-runner", &dockerfile, JOB_RUNNER, &[])
}

/// The job-runner's image for Oracle as an OCI archive, from `job-runner/Dockerfile.oracle`, over a base that has the OCI stub in the
/// place of Oracle's client.
///
/// # Errors
/// The build fails; with its output.
pub fn job_runner_oracle() -> Result<PathBuf> {
    packages::ensure(packages::IMAGES)?;
    let stub = oci_stub::library().step("find the OCI stub")?;
    let base = make_oci_stub_base(&stub)?;
    let dockerfile = repository().join("job-runner/Dockerfile.oracle");
    let arguments = [format!("INSTANT_CLIENT={OCI_STUB_BASE}"), format!("OCI_STUB={base}")];
    project(
        "job-runner",
        "job-runner-oracle",
        &dockerfile,
        JOB_RUNNER_ORACLE,
        &arguments,
    )
}

/// Makes the base if it is not there; its key.
fn make_oci_stub_base(stub: &Path) -> Result<String> {
    let key = digest([fs::read(stub).step_at("read", stub)?.as_slice()]);
    let tag = format!("{OCI_STUB_BASE}-{key}");
    if !is_there(&tag) {
        let _lock = lock()?;
        let folder = Scratch::new(KIND)?;
        let libraries = process::output("look for the libraries of the OCI stub", Command::new("ldd").arg(stub))?;
        // `name => path (address)`; the linker itself stands alone.
        let paths = libraries
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
            .map(PathBuf::from);
        let mut copies = String::new();
        for (number, path) in paths.enumerate() {
            let copy = folder.path().join(format!("library-{number}"));
            fs::copy(&path, &copy).step_at("copy", &path)?;
            copies.push_str(&format!("COPY library-{number} {}\n", path.display()));
        }
        fs::copy(stub, folder.path().join("libclntsh.so")).step_at("copy", stub)?;
        let dockerfile = folder.path().join("Dockerfile");
        let text = format!(
            "FROM scratch\n{copies}COPY libclntsh.so /usr/lib/libclntsh.so\nLABEL description=\"OCI stub, not Oracle\"\n"
        );
        fs::write(&dockerfile, text).step_at("write", &dockerfile)?;
        let mut bud = buildah();
        bud.args(["bud", "--isolation", "chroot", "-t", &tag, "-f"])
            .arg(&dockerfile)
            .arg(folder.path());
        run_build("make the base with the OCI stub", &bud)?;
    }
    let mut name = buildah();
    name.args(["tag", &tag, OCI_STUB_BASE]);
    process::output("name the base with the OCI stub", &mut name)?;
    Ok(key)
}

/// The operator's image as an OCI archive, from `operator/Dockerfile`.
///
/// # Errors
/// The build fails; with its output.
pub fn operator() -> Result<PathBuf> {
    let dockerfile = repository().join("operator/Dockerfile");
    project("operator", "operator", &dockerfile, OPERATOR, &[])
}

fn project(package: &str, archive: &str, dockerfile: &Path, name: &str, arguments: &[String]) -> Result<PathBuf> {
    packages::ensure(packages::IMAGES)?;
    let root = repository();
    let sources = ["Cargo.toml", "Cargo.lock", "crds", package].map(|part| root.join(part));
    // What was built otherwise is built again: the image in the cache is the proof that it can be built like this.
    let how = [
        include_str!("images.rs"),
        include_str!("crates.rs"),
        include_str!("cargo_tool.rs"),
    ];
    let key = digest(
        [digest_of(&sources)?.as_bytes()]
            .into_iter()
            .chain(how.map(str::as_bytes))
            .chain(arguments.iter().map(String::as_bytes)),
    );
    cached(archive, &key, |archive| {
        let crates = Crates::find()?;
        build_project(&root, dockerfile, name, &crates, &shared_target()?, arguments, archive)
    })
}

/// What the build of the project's images is given: `host:container` each.
fn mounts(crates: &Crates, auditable: CargoTool) -> Result<Vec<String>> {
    let toolchain = process::output(
        "find the Rust toolchain",
        Command::new("rustc").args(["--print", "sysroot"]),
    )?;
    let mut mounts = vec![
        format!("{}:/usr/local/toolchain:ro", toolchain.trim()),
        format!(
            "{}:/usr/local/cargo/bin/cargo-auditable:ro",
            auditable.path()?.display()
        ),
    ];
    mounts.extend(crates.mounts());
    Ok(mounts)
}

/// Builds the job-runner's image of these crates into `archive`, with what other builds have compiled already.
///
/// # Errors
/// The build fails; with its output.
pub fn job_runner_of(crates: &Crates, archive: &Path) -> Result<()> {
    packages::ensure(packages::IMAGES)?;
    let root = repository();
    let dockerfile = root.join("job-runner/Dockerfile");
    let name = format!("{JOB_RUNNER}-again");
    build_project(&root, &dockerfile, &name, crates, &shared_target()?, &[], archive)
}

/// Runs `command` in bash where the project's images are built, as a step of their build.
///
/// # Errors
/// It fails; with what it printed.
pub fn run_in_build(command: &str) -> Result<()> {
    packages::ensure(packages::IMAGES)?;
    make_rust_image()?;
    let folder = Scratch::new(KIND)?;
    let dockerfile = folder.path().join("Dockerfile");
    let step = serde_json::json!(["/bin/bash", "-c", command]);
    fs::write(&dockerfile, format!("FROM {RUST}\nRUN {step}\n")).step_at("write", &dockerfile)?;
    let _lock = lock()?;
    let mut bud = buildah();
    bud.args(["bud", "--isolation", "chroot", "--pull-never", "--no-cache", "-f"])
        .arg(&dockerfile)
        .arg(folder.path());
    run_build(command, &bud)
}

/// What the builds in the cache have compiled.
fn shared_target() -> Result<PathBuf> {
    let target = assets::cache().join("image-target");
    fs::create_dir_all(&target).step_at("create", &target)?;
    Ok(target)
}

/// Builds the image `name` of the sources in `root` into `archive`, with what is compiled already in `target`.
fn build_project(
    root: &Path,
    dockerfile: &Path,
    name: &str,
    crates: &Crates,
    target: &Path,
    arguments: &[String],
    archive: &Path,
) -> Result<()> {
    make_rust_image()?;
    let mut mounts = mounts(crates, cargo_tool::AUDITABLE)?;
    mounts.push(format!("{}:/src/target", target.display()));
    let revision = Revision::read()?;
    let told = [
        format!("VERSION={}", env!("CARGO_PKG_VERSION")),
        format!("REVISION={}", revision.commit),
        format!("CREATED={}", revision.moment),
    ];
    build(
        root,
        dockerfile,
        name,
        &mounts,
        &[&told, arguments].concat(),
        Some(&revision.epoch),
        archive,
    )
}

/// Builds the image of `folder`'s Dockerfile of the sources in `root`, of which nothing is compiled yet, into `archive`.
///
/// # Errors
/// The build fails; with its output.
pub fn from_nothing(root: &Path, folder: &str, archive: &Path) -> Result<()> {
    packages::ensure(packages::IMAGES)?;
    let target = Scratch::new(KIND)?;
    let dockerfile = root.join(folder).join("Dockerfile");
    let name = format!("localhost/mapa-{folder}:reproduced");
    build_project(root, &dockerfile, &name, &Crates::find()?, target.path(), &[], archive)
}

/// A Debian with a C compiler, under the name of the official Rust image; the toolchain is mounted into the build.
fn make_rust_image() -> Result<()> {
    if is_there(RUST) {
        return Ok(());
    }
    let _lock = lock()?;
    // Another process may have made it while we waited for the lock.
    if is_there(RUST) {
        return Ok(());
    }
    progress::during("making the build image from Debian's packages, once", || {
        let folder = Scratch::new(KIND)?;
        let root = folder.path().join("root");
        let mut debootstrap = Command::new("debootstrap");
        debootstrap
            .args([
                "--variant=minbase",
                "--include=gcc,libc6-dev,ca-certificates",
                "bookworm",
            ])
            .arg(&root);
        process::output("debootstrap", &mut process::contained(&debootstrap, &[]))?;
        for heavy in [
            "var/cache/apt",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/locale",
            "usr/share/man",
        ] {
            let _ = fs::remove_dir_all(root.join(heavy));
        }
        let dockerfile = folder.path().join("Dockerfile");
        let text = "FROM scratch\nCOPY root /\nENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/toolchain/bin:/usr/local/bin:/usr/bin:/bin\n";
        fs::write(&dockerfile, text).step_at("write", &dockerfile)?;
        let mut bud = buildah();
        bud.args(["bud", "--isolation", "chroot", "-t", RUST, "-f"])
            .arg(&dockerfile)
            .arg(folder.path());
        run_build("make the build image", &bud)
    })
}

fn build(
    context: &Path,
    dockerfile: &Path,
    name: &str,
    mounts: &[String],
    arguments: &[String],
    epoch: Option<&str>,
    archive: &Path,
) -> Result<()> {
    let _lock = lock()?;
    let mut bud = buildah();
    bud.args(["bud", "--isolation", "chroot", "--pull-never", "-t", name]);
    for mount in mounts {
        bud.args(["-v", mount]);
    }
    for argument in arguments {
        bud.args(["--build-arg", argument]);
    }
    if let Some(epoch) = epoch {
        // The moment of every file and of the image itself: else no two builds are alike.
        bud.args(["--timestamp", epoch]);
    }
    bud.arg("-f").arg(dockerfile).arg(context);
    run_build(&format!("build {name}"), &bud)?;
    let mut push = buildah();
    push.args(["push", name, &format!("oci-archive:{}:{name}", archive.display())]);
    process::output(&format!("export {name}"), &mut push).map(drop)
}

fn is_there(image: &str) -> bool {
    let mut inspect = buildah();
    inspect.args(["inspect", "--type", "image", image]);
    inspect.output().is_ok_and(|output| output.status.success())
}

/// The storage of images is one builder's at a time.
fn lock() -> Result<File> {
    assets::lock(&lock_file())
}

fn lock_file() -> PathBuf {
    assets::cache().join("buildah.lock")
}

/// Runs a build, of which the lock is held, where no network is: everything was downloaded before, by the host and as it is configured. A build
/// with chroot isolation has the network of whoever starts it, whatever `--network` says.
fn run_build(step: &str, bud: &Command) -> Result<()> {
    if !process::is_root() {
        return Err(Error::new(
            step,
            "images are built in namespaces of their own: run as root",
        ));
    }
    remove_working_containers();
    let scratch = Scratch::new(KIND)?;
    let mut bud = process::contained(bud, &["--net"]);
    bud.env("TMPDIR", scratch.path());
    let built = process::output(step, &mut bud);
    if built.is_err() {
        interrupt::shielded(remove_working_containers);
    }
    built.map(drop)
}

/// Removes what builds that were broken off have left in the storage, of which the lock is held: whole file systems.
fn remove_working_containers() {
    let mut list = buildah();
    list.args(["containers", "--quiet"]);
    if process::output("list working containers", &mut list).is_ok_and(|listed| !listed.trim().is_empty()) {
        let mut remove = buildah();
        remove.args(["rm", "--all"]);
        // What cannot be removed takes room and does no harm.
        let _ = process::output("remove working containers", &mut remove);
    }
}

/// Removes what killed builds have left in the storage.
pub fn clean_up_after_the_dead() {
    let storage = assets::cache().join("buildah");
    if let (true, Some(_lock)) = (storage.exists(), assets::lock_if_free(&lock_file())) {
        remove_working_containers();
    }
}

fn buildah() -> Command {
    let mut command = Command::new("buildah");
    command
        .arg("--storage-driver")
        .arg("vfs")
        .arg("--root")
        .arg(assets::cache().join("buildah"));
    command.arg("--runroot").arg(assets::cache().join("buildah-run"));
    command
}

/// The archive `<name>-<key>` of the cache, made by `make` if it is not there.
fn cached(name: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = assets::cache().join("images");
    let archive = folder.join(format!("{name}-{key}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    let _lock = assets::lock(&folder.join(format!("{name}.lock")))?;
    if !archive.exists() {
        let unfinished = folder.join(format!("{name}.part"));
        // The lock is held: what is unfinished was left by the dead.
        let _ = fs::remove_file(&unfinished);
        progress::during(&format!("building the image {name}"), || make(&unfinished))?;
        fs::rename(&unfinished, &archive).step_at("move", &archive)?;
    }
    Ok(archive)
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_owned)
}

/// The first half of a digest of `parts`, in hexadecimal.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn digest_of(sources: &[PathBuf]) -> Result<String> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for source in sources {
        if source.is_dir() {
            folders.push(source.clone())
        } else {
            files.push(source.clone())
        }
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).step_at("read", &folder)? {
            let path = entry.step_at("read", &folder)?.path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.sort();
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for file in files {
        // Relative: another checkout of the same sources finds the same image.
        let name = file.strip_prefix(repository()).unwrap_or(&file);
        parts.push(name.display().to_string().into_bytes());
        parts.push(fs::read(&file).step_at("read", &file)?);
    }
    Ok(digest(parts.iter().map(Vec::as_slice)))
}
