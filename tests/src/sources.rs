//! The sources of the repository: copied elsewhere, and their moment and revision by git.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Result, error::Step, images, process};

/// What images are made of.
const PARTS: [&str; 6] = ["Cargo.toml", "Cargo.lock", "crds", "operator", "job-runner", "tests"];

/// Copies what images are made of into `folder`.
///
/// # Errors
/// A file cannot be copied.
pub fn copy(folder: &Path) -> Result<()> {
    let root = images::repository();
    let mut left: Vec<PathBuf> = PARTS.iter().map(PathBuf::from).collect();
    while let Some(part) = left.pop() {
        let (from, to) = (root.join(&part), folder.join(&part));
        if from.is_dir() {
            fs::create_dir_all(&to).step_at("create", &to)?;
            for entry in fs::read_dir(&from).step_at("read", &from)? {
                left.push(part.join(entry.step_at("read", &from)?.file_name()));
            }
        } else {
            fs::copy(&from, &to).step_at("copy", &from)?;
        }
    }
    Ok(())
}

/// Where the sources stand.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The commit.
    pub commit: String,
    /// Its moment in seconds since 1970.
    pub epoch: String,
    /// The same in RFC 3339.
    pub moment: String,
}

impl Revision {
    /// The commit that is checked out.
    ///
    /// # Errors
    /// git cannot say.
    pub fn read() -> Result<Self> {
        let ask = |format: &str| {
            let mut git = Command::new("git");
            git.current_dir(images::repository())
                .env("TZ", "UTC")
                .args(["log", "-1", "--date=iso-strict-local"])
                .arg(format!("--format={format}"));
            process::output("ask git for the revision", &mut git).map(|said| said.trim().to_owned())
        };
        Ok(Self {
            commit: ask("%H")?,
            epoch: ask("%ct")?,
            moment: ask("%cd")?,
        })
    }
}
