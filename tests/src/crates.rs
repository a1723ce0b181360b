//! The crates that images are made of, downloaded on the host with the host's own configuration of cargo (mirrors, proxies, authorities). Their
//! folder and a configuration of cargo are mounted into the build, which then needs neither a network nor anything of the host's.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use crate::{
    Result, assets,
    error::Step,
    images::{digest, repository},
    process, progress,
    scratch::{OfTheDead, Scratch},
};

/// Where a build on the official image unpacks them. The binaries hold these paths: with the same ones, an image that is built here is the
/// one that `docker build` makes elsewhere.
const IN_THE_BUILD: &str = "/usr/local/cargo/registry/src/index.crates.io-1949cf8c6b5b557f";

/// When every file of them was written: in July 2006, as crates.io says.
const MOMENT: Duration = Duration::from_secs(1_153_704_088);

/// Crates of a Cargo.lock that no build has asked for as long as that are removed.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Every crate of Cargo.lock, unpacked.
#[derive(Clone, Debug)]
pub struct Crates {
    folder: PathBuf,
}

impl Crates {
    /// The crates in the cache; they are downloaded if they are not there.
    ///
    /// # Errors
    /// They cannot be had; with cargo's words.
    pub fn find() -> Result<Self> {
        Self::find_with(&assets::cache().join("crates"), None)
    }

    /// The same with a cache `below`, by a cargo whose home is `home` if one is given.
    ///
    /// # Errors
    /// They cannot be had; with cargo's words.
    pub fn find_with(below: &Path, home: Option<&Path>) -> Result<Self> {
        let lock_file = repository().join("Cargo.lock");
        let lock = fs::read(&lock_file).step_at("read", &lock_file)?;
        let key = digest([lock.as_slice(), configuration().as_bytes()]);
        let folder = below.join(&key);
        let _lock = assets::lock(&below.join("crates.lock"))?;
        if !folder.join(CONFIGURATION).exists() {
            for dead in OfTheDead::find(below, |kind| kind == KIND) {
                dead.remove();
            }
            let scratch = Scratch::below(below, KIND)?;
            let crates = scratch.path().join("crates");
            progress::during("downloading the crates of Cargo.lock", || {
                download(&crates, home)?;
                make_old(&crates)
            })?;
            fs::write(crates.join(CONFIGURATION), configuration()).step_at("write", &crates)?;
            let _ = fs::remove_dir_all(&folder);
            fs::rename(&crates, &folder).step_at("move the crates to", &folder)?;
        }
        let used = File::options().write(true).open(folder.join(CONFIGURATION));
        used.and_then(|file| file.set_modified(SystemTime::now()))
            .step_at("set the time of the last use of", &folder)?;
        remove_the_unused(below);
        Ok(Self { folder })
    }

    /// What a build mounts: `host:container:ro` each.
    #[must_use]
    pub fn mounts(&self) -> [String; 2] {
        let configuration = self.folder.join(CONFIGURATION);
        [
            format!("{}:{IN_THE_BUILD}:ro", self.folder.display()),
            format!("{}:/usr/local/cargo/config.toml:ro", configuration.display()),
        ]
    }
}

/// What unfinished folders are for.
const KIND: &str = "crates";

/// The file with cargo's configuration in the folder of crates; cargo looks at folders there, and at no file.
const CONFIGURATION: &str = "config.toml";

/// In the build: every crate comes from that folder, and nothing from a network.
fn configuration() -> String {
    format!(
        "[source.crates-io]\nreplace-with = \"downloaded\"\n\n[source.downloaded]\ndirectory = \"{IN_THE_BUILD}\"\n\n[net]\noffline = true\n"
    )
}

fn download(folder: &Path, home: Option<&Path>) -> Result<()> {
    let mut vendor = Command::new("cargo");
    // By the host's mirrors, which cargo passes by otherwise; and named as a registry's folders are, with the version.
    vendor
        .current_dir(repository())
        .args([
            "vendor",
            "--quiet",
            "--locked",
            "--versioned-dirs",
            "--respect-source-config",
        ])
        .arg(folder);
    if let Some(home) = home {
        vendor.env("CARGO_HOME", home);
    }
    process::output("download the crates", &mut vendor).map(drop)
}

/// Gives every file below `folder` one moment, as a registry's archives do: cargo compiles anew what is younger than what was compiled of it, and
/// the same crates that are downloaded once more are no other.
fn make_old(folder: &Path) -> Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).step_at("read", &folder)? {
            let path = entry.step_at("read", &folder)?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let file = File::open(&path).step_at("open", &path)?;
                file.set_modified(SystemTime::UNIX_EPOCH + MOMENT)
                    .step_at("set the time of", &path)?;
            }
        }
    }
    Ok(())
}

fn remove_the_unused(below: &Path) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let used = fs::metadata(entry.path().join(CONFIGURATION)).and_then(|metadata| metadata.modified());
        let is_unused = |used| SystemTime::now().duration_since(used).is_ok_and(|age| age > KEPT);
        if used.is_ok_and(is_unused) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
