//! A connection to the server half.

use std::{
    io,
    net::{Shutdown, TcpStream},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    connect_string::Target,
    protocol::{Ora, Request, Response, receive, send},
};

/// How long a call that timed out waits for its own cancellation.
const CANCEL: Duration = Duration::from_secs(1);

pub(super) struct Link {
    reader: Mutex<TcpStream>,
    writer: Mutex<TcpStream>,
    alive: AtomicBool,
}

impl Link {
    pub(super) fn attach(connect_string: &str) -> Result<Self, Ora> {
        let target = Target::parse(connect_string)?;
        let stream = target.connect()?;
        let writer = stream.try_clone().map_err(|_| lost())?;
        let link = Self {
            reader: Mutex::new(stream),
            writer: Mutex::new(writer),
            alive: AtomicBool::new(true),
        };
        let attach = Request::Attach {
            service: target.service.clone(),
        };
        match link.call(&attach, Some(target.timeout())) {
            Ok(_) => Ok(link),
            Err(ora) if ora.code == 3156 && !link.is_alive() => Err(Ora::new(12170, "TNS:Connect timeout occurred")),
            Err(ora) if ora.code == 3113 && !link.is_alive() => Err(Ora::new(12537, "TNS:connection closed")),
            Err(ora) => Err(ora),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    /// Asks, and waits for the answer.
    pub(super) fn call(&self, request: &Request, timeout: Option<Duration>) -> Result<Response, Ora> {
        if !self.is_alive() {
            return Err(Ora::new(3114, "not connected to ORACLE (OCI stub, not Oracle)"));
        }
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(request)?;
        let _ = reader.set_read_timeout(timeout);
        let answer = match receive::<Response>(&mut *reader) {
            Err(error) if is_timeout(&error) => {
                self.write(&Request::Break)?;
                let _ = reader.set_read_timeout(Some(CANCEL));
                return match receive::<Response>(&mut *reader) {
                    Ok(_) => Err(timed_out()),
                    Err(_) => {
                        self.die();
                        Err(timed_out())
                    }
                };
            }
            answer => answer,
        };
        match answer {
            Ok(Response::Failed(ora)) => Err(ora),
            Ok(response) => Ok(response),
            Err(_) => {
                self.die();
                Err(lost())
            }
        }
    }

    /// Says something that is not answered.
    pub(super) fn write(&self, request: &Request) -> Result<(), Ora> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        send(&mut *writer, request).map_err(|_| {
            self.alive.store(false, Ordering::SeqCst);
            lost()
        })
    }

    fn die(&self) {
        self.alive.store(false, Ordering::SeqCst);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writer.shutdown(Shutdown::Both);
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn lost() -> Ora {
    Ora {
        code: 3113,
        message: "ORA-03113: end-of-file on communication channel\nProcess ID: 4711\nSession ID: 42 Serial number: 7"
            .to_owned(),
    }
}

fn timed_out() -> Ora {
    Ora::new(3156, "OCI call timed out")
}
