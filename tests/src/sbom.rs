//! Bills of materials of the shipped binaries, in CycloneDX.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Result, cargo_tool, error::Step, process, scratch::Scratch, sources};

/// What the images are built for.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A binary that is shipped.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Name of its bill, without `.cdx.json`.
    pub name: &'static str,
    /// Its package.
    pub package: &'static str,
    /// Folder of its package.
    pub folder: &'static str,
    /// How it is built, beside the target.
    pub features: &'static [&'static str],
}

/// Every binary that an image holds.
pub const SHIPPED: [Shipped; 3] = [
    Shipped {
        name: "operator",
        package: "mapa-refresh-operator",
        folder: "operator",
        features: &[],
    },
    Shipped {
        name: "job-runner",
        package: "mapa-refresh-job-runner",
        folder: "job-runner",
        features: &["--no-default-features"],
    },
    Shipped {
        name: "job-runner-oracle",
        package: "mapa-refresh-job-runner",
        folder: "job-runner",
        features: &[],
    },
];

/// Writes `<name>.cdx.json` of every shipped binary into `folder`; the same sources give the same text.
///
/// # Errors
/// cargo-cyclonedx cannot be had or fails; with its words.
pub fn write(folder: &Path) -> Result<Vec<PathBuf>> {
    let tool = cargo_tool::CYCLONEDX.path()?;
    let epoch = sources::Revision::read()?.epoch;
    fs::create_dir_all(folder).step_at("create", folder)?;
    let mut bills = Vec::new();
    for shipped in SHIPPED {
        // It writes beside the manifests of all packages.
        let copy = Scratch::new("copy")?;
        sources::copy(copy.path())?;
        let mut cyclonedx = Command::new(&tool);
        cyclonedx
            .current_dir(copy.path())
            .env("SOURCE_DATE_EPOCH", &epoch)
            .args([
                "cyclonedx",
                "--format",
                "json",
                "--spec-version",
                "1.5",
                "--no-build-deps",
            ])
            .args(["--target", TARGET, "--manifest-path"])
            .arg(format!("{}/Cargo.toml", shipped.folder))
            .args(shipped.features);
        process::output(&format!("write the bill of {}", shipped.name), &mut cyclonedx)?;
        let written = copy
            .path()
            .join(shipped.folder)
            .join(format!("{}.cdx.json", shipped.package));
        let text = fs::read_to_string(&written).step_at("read", &written)?;
        // Where the images are built, and no folder of this machine.
        let text = text.replace(&copy.path().display().to_string(), "/src");
        let bill = folder.join(format!("{}.cdx.json", shipped.name));
        fs::write(&bill, text).step_at("write", &bill)?;
        bills.push(bill);
    }
    Ok(bills)
}
