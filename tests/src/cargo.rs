//! The project's own binaries, built by cargo.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, Result, images, process, progress};

/// Builds the binary `name` of `package` in this process's own profile and returns where it is.
///
/// Without optimisation it is built as `cargo test --workspace` builds it, with the features of all members and of their tests: after such a
/// command nothing is compiled a second time. With optimisation (benches) it is built alone, as its image has it.
///
/// # Errors
/// It does not compile; with cargo's words.
pub fn binary(package: &str, name: &str) -> Result<PathBuf> {
    let release = !cfg!(debug_assertions);
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo
        .current_dir(images::repository())
        .args(["build", "--quiet", "--locked", "--bin", name]);
    // What cargo tells the program that it runs is not for the cargo within: build scripts look at it, and would run again.
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_CRATE_NAME" {
            cargo.env_remove(&variable);
        }
    }
    // The operator's image has a profile of its own.
    let profile = if package == "mapa-refresh-operator" {
        "operator"
    } else {
        "release"
    };
    if release {
        cargo.args(["--profile", profile, "--package", package]);
    } else {
        // A test among the targets makes cargo count the features of dev-dependencies.
        cargo.args(["--workspace", "--test", "control_plane"]);
    }
    progress::during(&format!("building {name}"), || {
        process::output(&format!("build {name}"), &mut cargo)
    })?;
    let folder = target_folder()?;
    let path = if release {
        folder.with_file_name(profile)
    } else {
        folder
    }
    .join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(Error::new(
            format!("build {name}"),
            format!("{} is not there", path.display()),
        ))
    }
}

/// The folder of this process's profile: its own binary lies in it, or (tests) one below it.
fn target_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|error| Error::new("find the target folder", error))?;
    let folder = own
        .parent()
        .filter(|folder| folder.file_name().is_none_or(|name| name != "deps"));
    folder
        .or_else(|| own.parent().and_then(Path::parent))
        .map(Path::to_owned)
        .ok_or_else(|| Error::new("find the target folder", own.display()))
}
