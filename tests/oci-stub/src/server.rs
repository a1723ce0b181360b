//! The server half: a listener, and a session in a thread of its own for each connection.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{session, world::World};

/// A running server; it ends with its handle.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// What all sessions share.
pub(crate) struct Shared {
    world: Mutex<World>,
    changed: Condvar,
    stopped: AtomicBool,
    pub(crate) next_session: AtomicU64,
}

impl Shared {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever waits for the world to change.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }
}

impl Server {
    /// Listens on a free port of `host`.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start(host: IpAddr, world: World) -> io::Result<Self> {
        let listener = TcpListener::bind((host, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
            next_session: AtomicU64::new(1),
        });
        let sessions = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &sessions));
        Ok(Self { shared, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Looks at the world, or changes it, while no session does.
    pub fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let result = act(&mut self.shared.world());
        self.shared.notify();
        result
    }

    /// Waits until `condition` holds of the world.
    ///
    /// # Panics
    /// When it does not within 30 s; with `what`, and the last statements.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&World) -> bool) {
        let ends = Instant::now() + Duration::from_secs(30);
        let mut world = self.shared.world();
        while !condition(&world) {
            let left = ends.saturating_duration_since(Instant::now());
            let last: Vec<_> = world.statements.iter().rev().take(5).collect();
            assert!(
                !left.is_zero(),
                "in 30 s not seen: {what}; sessions {:?}, locks {:?}, last statements {last:?}",
                world.sessions,
                world.locks
            );
            world = self
                .shared
                .changed
                .wait_timeout(world, left.min(Duration::from_millis(50)))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The listener wakes from its wait, sees that, and closes its port.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(stream) = stream {
            let shared = Arc::clone(shared);
            thread::spawn(move || session::serve(stream, &shared));
        }
    }
}
