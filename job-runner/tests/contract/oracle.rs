//! The genuine crate `oracle`, over the OCI stub (which is not Oracle) or over a real Oracle.

pub mod real;

use std::{fs, net::IpAddr, path::Path, sync::Arc, time::Duration};

use mapa_refresh_job_runner::database::{
    DatabaseError,
    oracle::{Oracle, Target},
};
use oci_stub::{portal, server::Server, value::Value, world::View};
use tempfile::TempDir;

use crate::backend::{Backend, names};

/// Loads the stub as Oracle's client, once for this process.
pub fn load_stub() {
    let folder = tempfile::tempdir().unwrap();
    oci_stub::install(folder.path()).unwrap();
    oracle::InitParams::new()
        .oracle_client_lib_dir(folder.path())
        .unwrap()
        .init()
        .unwrap();
}

/// A session for `view` at the database of the Secret in `secret`.
async fn connect(secret: &Path, view: &str, columns: &str) -> Result<Oracle, DatabaseError> {
    let (view, columns) = names(view, columns);
    let target = Target::from_secret(secret, None).unwrap();
    target.connect(&view, &columns, Duration::from_secs(60)).await
}

pub struct Stub {
    server: Server,
    secret: TempDir,
}

impl Stub {
    fn with_view<T>(&self, act: impl FnOnce(&mut View) -> T) -> T {
        self.server.world(|world| act(world.view("RADAR", "MV_PORTAL_PUBLICO")))
    }
}

impl Backend for Stub {
    type Session = Oracle;

    fn new() -> Self {
        let world = portal::database("radar", "contract");
        let server = Server::start(IpAddr::from([127, 0, 0, 1]), world).unwrap();
        let secret = tempfile::tempdir().unwrap();
        fs::write(
            secret.path().join("url"),
            format!("oracle://radar:contract@{}/RADAR", server.address()),
        )
        .unwrap();
        Self { server, secret }
    }

    async fn connect_to(&self, view: &str, columns: &str) -> Result<Oracle, DatabaseError> {
        connect(self.secret.path(), view, columns).await
    }

    fn source(&self, outages: &[(i64, Option<&str>)]) {
        let rows = outages
            .iter()
            .map(|(id, cause)| {
                let mut row = vec![Value::Null; portal::columns().len()];
                row[0] = Value::int(*id);
                row[11] = cause.map_or(Value::Null, Value::text);
                row
            })
            .collect();
        self.with_view(|view| view.source = Arc::new(rows));
    }

    fn refresh_takes(&self, time: Duration) {
        self.with_view(|view| view.refresh_takes = time);
    }

    fn refresh_from_outside(&self) {
        let now = self.server.world(|world| world.sysdate());
        self.with_view(|view| {
            view.rows = Arc::clone(&view.source);
            view.last_refresh = Some(now);
        });
    }

    fn age_stamp(&self, seconds: i64) -> bool {
        self.with_view(|view| view.last_refresh = view.last_refresh.map(|at| at - chrono::Duration::seconds(seconds)));
        true
    }

    fn is_refreshing(&self) -> bool {
        self.with_view(|view| view.refreshing.is_some())
    }

    fn let_stamps_differ(&self) {
        self.server
            .world(|world| world.clock_ahead += chrono::Duration::seconds(2));
    }
}
