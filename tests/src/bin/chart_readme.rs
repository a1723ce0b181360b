//! `cargo chart-readme`: writes the chart's README from its values.yaml. A test compares them.

use std::{fs, process::ExitCode};

use mapa_refresh_tests::{Result, chart_readme::readme, error::Step, helm::chart};

fn main() -> ExitCode {
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chart-readme: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<()> {
    let values = chart().join("values.yaml");
    let values = fs::read_to_string(&values).step_at("read", &values)?;
    let path = chart().join("README.md");
    fs::write(&path, readme(&values)?).step_at("write", &path)
}
