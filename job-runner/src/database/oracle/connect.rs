//! Opens a session, in a thread that may block.

use std::{sync::Arc, time::Duration};

use mapa_refresh_crds::report::code;
use oracle::{Connection, Connector, InitParams};
use secrecy::ExposeSecret;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{
    Oracle,
    error::{Doing, silent},
    sql::Statements,
    target::Target,
};
use crate::{
    database::{
        DatabaseError,
        name::{ColumnNames, ViewName},
    },
    secret::BLANKS_AROUND,
};

/// How long a connection may take, whatever the url says: the call itself can't be stopped.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(12);

/// The client gives a call up this much later than the runner asks for that: only when the runner could not.
const CALL_GRACE: Duration = Duration::from_secs(5);

impl Target {
    /// Opens a session for `view`. None of its calls takes longer than some seconds more than `limit`.
    ///
    /// # Errors
    /// When Oracle's client is missing, or the server can't be reached in time, or refuses.
    pub async fn connect(
        &self,
        view: &ViewName,
        columns: &ColumnNames,
        limit: Duration,
    ) -> Result<Oracle, DatabaseError> {
        let connector = self.connector();
        let (place, config_dir) = (self.place().to_owned(), self.config_dir().map(ToOwned::to_owned));
        let doing = format!("connecting to {place}");
        let connecting = spawn_blocking(move || {
            let mut client = InitParams::new();
            if let Some(dir) = config_dir {
                client.oracle_client_config_dir(dir.as_os_str()).doing(&doing)?;
            }
            // Loads Oracle's client, once in a process.
            client.init().doing("loading Oracle's client")?;
            let connection = connector.connect().doing(&doing)?;
            connection.set_call_timeout(Some(limit + CALL_GRACE)).doing(&doing)?;
            Ok(connection)
        });
        let connection = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connected)) => connected.map_err(|error| self.with_hint(error))?,
            // The thread was lost: it can't have been anything but the end of the process.
            Ok(Err(_)) | Err(_) => return Err(silent(&place, CONNECT_TIMEOUT.as_secs())),
        };
        warn(&connection);
        Ok(Oracle {
            connection: Arc::new(connection),
            idle: Arc::new(Semaphore::new(1)),
            statements: Statements::new(view, columns),
            view: view.to_string(),
            is_located: false,
        })
    }

    /// The same error; of rejected credentials with what nobody sees of the password.
    fn with_hint(&self, mut error: DatabaseError) -> DatabaseError {
        if error.code == code::CREDENTIALS_REJECTED && self.has_blanks() {
            error.message = format!("{}; {BLANKS_AROUND}", error.message);
        }
        error
    }

    fn connector(&self) -> Connector {
        let connect_string = self.connect_string().expose_secret();
        let mut connector = match self.login() {
            Some((user, password)) => Connector::new(user.as_str(), password.expose_secret(), connect_string),
            None => Connector::new("", "", connect_string),
        };
        connector
            .external_auth(self.login().is_none())
            .driver_name("mapa-refresh-job-runner");
        connector
    }
}

/// A server's warning at the logon: above all that the password will expire.
fn warn(connection: &Connection) {
    if let Some(warning) = connection.last_warning() {
        tracing::warn!(
            "the database warns: {}",
            crate::database::ora::readable(&warning.to_string())
        );
    }
}
