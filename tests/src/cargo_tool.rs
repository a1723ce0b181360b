//! cargo's subcommands that are no part of the toolchain, installed once into the cache at the versions that are named here.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Result, assets, process, progress};

/// A subcommand of cargo.
#[derive(Clone, Copy, Debug)]
pub struct CargoTool {
    name: &'static str,
    version: &'static str,
}

/// Writes into a binary which crates it is made of. The Dockerfiles install the same version where it is missing.
pub const AUDITABLE: CargoTool = CargoTool {
    name: "cargo-auditable",
    version: "0.7.7",
};

/// Writes bills of materials in CycloneDX.
pub const CYCLONEDX: CargoTool = CargoTool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
};

impl CargoTool {
    /// Where it is; it is built if it is missing.
    ///
    /// # Errors
    /// It cannot be had, or does not compile; with cargo's words.
    pub fn path(self) -> Result<PathBuf> {
        let root = folder().join(format!("{}-{}", self.name, self.version));
        let path = root.join("bin").join(self.name);
        let _lock = assets::lock(&root.with_extension("lock"))?;
        if !path.exists() {
            progress::during(&format!("building {} {}, once", self.name, self.version), || {
                self.install(&root)
            })?;
        }
        Ok(path)
    }

    fn install(self, root: &Path) -> Result<()> {
        let mut install = Command::new("cargo");
        install
            .args(["install", "--quiet", "--locked", self.name, "--version", self.version])
            .arg("--root")
            .arg(root)
            .env("CARGO_TARGET_DIR", root.join("target"));
        process::output(&format!("install {}", self.name), &mut install)?;
        // Only the program is wanted of some hundred megabytes.
        let _ = std::fs::remove_dir_all(root.join("target"));
        Ok(())
    }
}

fn folder() -> PathBuf {
    assets::cache().join("tools")
}
