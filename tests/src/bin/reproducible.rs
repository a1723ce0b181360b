//! `cargo reproducible`: builds the operator's and the PostgreSQL runner's image twice, each time from nothing and from another folder, and
//! compares. Some twenty minutes.

use std::process::ExitCode;

use mapa_refresh_tests::{Result, images, interrupt, oci_archive::OciArchive, progress, scratch::Scratch, sources};

/// Folder of the Dockerfile, and the binary in the image. Oracle's runner lies over a base that is Oracle's, whose digest we do not make.
const IMAGES: [(&str, &str); 2] = [("operator", "mapa-refresh-operator"), ("job-runner", "job-runner")];

fn main() -> ExitCode {
    if let Err(error) = interrupt::listen() {
        eprintln!("reproducible: {error}");
        return ExitCode::FAILURE;
    }
    // Each is told, also when another differs.
    let compared = IMAGES.map(|(folder, binary)| is_reproduced(folder, binary));
    if compared.iter().all(|is_same| *is_same) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether two builds are one image; says so, or why not.
fn is_reproduced(folder: &str, binary: &str) -> bool {
    match ["first", "second"].map(|which| build(folder, binary, which)) {
        [Ok(first), Ok(second)] if first == second => {
            println!("{folder}: two builds from two folders are one image");
            return true;
        }
        [Ok(_), Ok(_)] => eprintln!("reproducible: {folder}: the two builds differ"),
        [first, second] => {
            for error in [first.err(), second.err()].into_iter().flatten() {
                eprintln!("reproducible: {folder}: {error}");
            }
        }
    }
    false
}

/// Digests of the binary and of the image.
fn build(folder: &str, binary: &str, which: &str) -> Result<(String, String)> {
    let place = Scratch::new(which)?;
    let root = place.path().join("sources");
    sources::copy(&root)?;
    let archive = place.path().join("image.tar");
    progress::during(&format!("building the image of {folder}, {which} time"), || {
        images::from_nothing(&root, folder, &archive)
    })?;
    let image = OciArchive::read(&archive)?;
    let binary = image.sha256(binary)?;
    println!("{folder}, {which}: binary sha256:{binary}, image {}", image.digest);
    Ok((binary, image.digest))
}
