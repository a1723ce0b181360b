//! `cargo reproducible`: builds the operator's image twice, each time from nothing and from another folder, and compares. Some ten minutes.

use std::process::ExitCode;

use mapa_refresh_tests::{Result, error::Step, images, oci_archive::OciArchive, progress, sources};

fn main() -> ExitCode {
    match [build("first"), build("second")] {
        [Ok(first), Ok(second)] if first == second => {
            println!("reproducible: two builds from two folders are one image");
            ExitCode::SUCCESS
        }
        [Ok(_), Ok(_)] => {
            eprintln!("reproducible: the two builds differ");
            ExitCode::FAILURE
        }
        [first, second] => {
            for error in [first.err(), second.err()].into_iter().flatten() {
                eprintln!("reproducible: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Digests of the binary and of the image.
fn build(which: &str) -> Result<(String, String)> {
    let folder = tempfile::Builder::new()
        .prefix(&format!("mapa-{which}-"))
        .tempdir()
        .step("create a folder")?;
    let root = folder.path().join("sources");
    sources::copy(&root)?;
    let archive = folder.path().join("image.tar");
    progress::during(&format!("building the operator's image, {which} time"), || {
        images::operator_from_nothing(&root, &archive)
    })?;
    let image = OciArchive::read(&archive)?;
    let binary = image.sha256("mapa-refresh-operator")?;
    println!("{which}: binary sha256:{binary}, image {}", image.digest);
    Ok((binary, image.digest))
}
