//! `cargo chart-readme`: writes the chart's README from its values.yaml, its alerts and the operator's metrics, and the dashboard. A test
//! compares them.

use std::{fs, process::ExitCode};

use mapa_refresh_tests::{Result, chart_readme::readme, dashboard::dashboard, error::Step, helm::chart};

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
    let alerts = chart().join("files/alerts.yaml");
    let alerts = fs::read_to_string(&alerts).step_at("read", &alerts)?;
    let path = chart().join("README.md");
    fs::write(&path, readme(&values, &alerts)?).step_at("write", &path)?;
    let path = chart().join("files/dashboard.json");
    fs::write(&path, dashboard()).step_at("write", &path)
}
