//! `kubectl mapa status` of thousands of policies, from the real API server.

use std::path::Path;

use mapa_refresh_tests::{cargo, control_plane::ControlPlane};

use crate::{
    child::{Measured, measured},
    plane::{plane, start_operator},
    policies::create,
    table::Table,
};

/// What `kubectl mapa status` answers when all is well, and when not.
const ANSWERS: [i32; 2] = [0, 1];

/// Of 1,000 policies and of 10,000, which an operator looks after.
pub fn plugin(table: &mut Table) {
    for count in [1_000, 10_000] {
        let plugin = cargo::binary("mapa-refresh-operator", "kubectl-mapa").unwrap();
        let plane = plane();
        plane.stop_controller_manager();
        let _operator = start_operator(&plane);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { create(&plane.client().await.unwrap(), count).await });
        status(table, &plane, &plugin, count);
    }
}

/// Of the `count` policies of the namespace `bench`, beside kubectl's list of the same.
fn status(table: &mut Table, plane: &ControlPlane, plugin: &Path, count: usize) {
    let ours = |which: &'static [&'static str]| {
        move || {
            measured(
                |command| {
                    command
                        .arg(plugin)
                        .arg("status")
                        .args(which)
                        .env("KUBECONFIG", plane.kubeconfig());
                },
                &ANSWERS,
            )
        }
    };
    let kubectl = |output: &'static str| {
        move || {
            measured(
                |command| {
                    command
                        .arg(plane.kubectl().binary())
                        .args(["get", "mapa-refresh", "--namespace", "bench", "--output", output])
                        .env("KUBECONFIG", plane.kubeconfig());
                },
                &[0],
            )
        }
    };
    let (objects, columns) = (fastest(kubectl("json")), fastest(kubectl("wide")));
    let wide = fastest(ours(&["--namespace", "bench", "--output", "wide"]));
    table.row(
        &format!("kubectl mapa status --output wide, {count} policies, start to exit"),
        told(&wide),
        "by objects",
    );
    table.row(
        &format!("kubectl mapa status --all-namespaces, {count} policies, start to exit"),
        told(&fastest(ours(&["--all-namespaces"]))),
        "1 s and 50 MB at 10,000",
    );
    table.row(
        &format!("kubectl mapa status, {count} policies, start to exit"),
        told(&fastest(ours(&["--namespace", "bench"]))),
        &format!(
            "1 s and 50 MB at 10,000; kubectl get --output json: {}; wide: {}",
            told(&objects),
            told(&columns)
        ),
    );
}

fn fastest(mut run: impl FnMut() -> Measured) -> Measured {
    (0..5).map(|_| run()).min_by_key(|measured| measured.wall).unwrap()
}

fn told(measured: &Measured) -> String {
    format!(
        "{:.0} ms (CPU {:.0} ms), peak {:.0} MB",
        measured.wall_ms(),
        measured.cpu_ms(),
        measured.peak_mb
    )
}
