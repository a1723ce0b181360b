//! Puts the stub where ODPI-C looks for Oracle's client library.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The stub is not where cargo should have put it, or can't be put where it should go.
#[derive(Debug)]
pub struct InstallError(PathBuf, io::Error);

impl std::fmt::Display for InstallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OCI stub: {}: {}", self.0.display(), self.1)
    }
}

impl std::error::Error for InstallError {}

/// Links the stub into `folder` as `libclntsh.so`. The process that is to load it needs the folder in `LD_LIBRARY_PATH`.
///
/// # Errors
/// When the stub was not built beside the running test, or the link can't be made.
pub fn install(folder: &Path) -> Result<(), InstallError> {
    let built = library()?;
    let link = folder.join("libclntsh.so");
    std::os::unix::fs::symlink(&built, &link).map_err(|error| InstallError(link, error))
}

/// Where cargo has built the stub: with the libraries of the test that depends on it.
///
/// # Errors
/// When it is not there.
pub fn library() -> Result<PathBuf, InstallError> {
    let test = std::env::current_exe().map_err(|error| InstallError(PathBuf::from("the running test"), error))?;
    let folders = test.ancestors().skip(1).take(2);
    let candidates: Vec<PathBuf> = folders
        .flat_map(|folder| [folder.join("liboci_stub.so"), folder.join("deps/liboci_stub.so")])
        .collect();
    match candidates.iter().find(|candidate| candidate.exists()) {
        Some(found) => fs::canonicalize(found).map_err(|error| InstallError(found.clone(), error)),
        None => Err(InstallError(
            test,
            io::Error::new(io::ErrorKind::NotFound, format!("none of {candidates:?} exists")),
        )),
    }
}
