//! `cargo sbom`: writes the bills of materials of the shipped binaries, in CycloneDX, into `target/sbom`.

use std::process::ExitCode;

use mapa_refresh_tests::{images, sbom};

fn main() -> ExitCode {
    match sbom::write(&images::repository().join("target/sbom")) {
        Ok(bills) => {
            for bill in bills {
                println!("{}", bill.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sbom: {error}");
            ExitCode::FAILURE
        }
    }
}
