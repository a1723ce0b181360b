//! Prints the CustomResourceDefinition as YAML. `crds/maparefreshpolicies.yaml` is its output; a test compares them.

use std::process::ExitCode;

use kube::CustomResourceExt;
use mapa_refresh_crds::MapaRefreshPolicy;

fn main() -> ExitCode {
    match serde_yaml::to_string(&MapaRefreshPolicy::crd()) {
        Ok(yaml) => {
            print!("{yaml}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}
