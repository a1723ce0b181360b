//! However the demo ends, nothing of it is left; what one that was killed could not remove is removed by the next.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use mapa_refresh_tests::{
    assets::Assets,
    images, node,
    process::Process,
    scratch::Scratch,
    wait::{self, Look},
};
use nix::sys::signal::Signal;

use crate::Test;

pub const TESTS: &[Test] = &[
    (
        "ends::sigterm_ends_a_demo_that_downloads",
        sigterm_ends_a_demo_that_downloads,
    ),
    (
        "ends::sigint_ends_a_demo_whose_cluster_starts",
        sigint_ends_a_demo_whose_cluster_starts,
    ),
    (
        "ends::sighup_ends_a_demo_whose_pods_run",
        sighup_ends_a_demo_whose_pods_run,
    ),
    (
        "ends::what_a_demo_leaves_that_is_killed_is_removed_by_the_next_one",
        what_a_demo_leaves_that_is_killed_is_removed_by_the_next_one,
    ),
];

/// The demo may build images first.
const STARTED_WITHIN: Duration = Duration::from_secs(1200);
const ENDS_WITHIN: Duration = Duration::from_secs(30);

fn sigterm_ends_a_demo_that_downloads() {
    let fresh = Scratch::new("fresh").unwrap();
    // Kubernetes alone is there: it would be minutes until anything else happens.
    let kubernetes = Assets::find().unwrap().path("etcd");
    let mut demo = Demo::start(|command| {
        command
            .env("XDG_CACHE_HOME", fresh.path())
            .env("KUBEBUILDER_ASSETS", kubernetes.parent().unwrap());
    });
    demo.wait_for("debootstrap");
    demo.ends_by(Signal::SIGTERM);
    let unfinished: Vec<_> = files_below(fresh.path())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "part"))
        .collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");
}

fn sigint_ends_a_demo_whose_cluster_starts() {
    let mut demo = Demo::start(|_| ());
    demo.wait_for("kubelet");
    demo.ends_by(Signal::SIGINT);
}

fn sighup_ends_a_demo_whose_pods_run() {
    let mut demo = Demo::start(|_| ());
    demo.wait_for_a_pod();
    demo.ends_by(Signal::SIGHUP);
}

fn what_a_demo_leaves_that_is_killed_is_removed_by_the_next_one() {
    let mut killed = Demo::start(|_| ());
    killed.wait_for_a_pod();
    killed.process.signal(Signal::SIGKILL);
    killed.process.wait(ENDS_WITHIN);
    let left = killed.left();
    assert!(
        left.iter().any(|what| what.contains("mapa-k8s-")) && left.iter().any(|what| what.contains("cni-")),
        "it was killed too early to leave anything: {left:?}"
    );

    let alive = Scratch::new("alive").unwrap();
    let mut next = Demo::start(|_| ());
    wait::until("the next demo to clean up", STARTED_WITHIN, || {
        next.look(|log| log.contains("removed what a killed run had left"))
    })
    .unwrap();
    next.wait_for("kube-apiserver");
    assert_eq!(killed.folders_and_mounts(), [""; 0], "the next demo left what it found");
    assert!(alive.path().exists(), "a folder of a process that is alive is gone");
    next.ends_by(Signal::SIGTERM);
    assert_eq!(killed.left(), [""; 0]);
}

/// A demo that runs.
struct Demo {
    process: Process,
    id: u32,
    /// What the machine had before.
    before: HashSet<PathBuf>,
    _folder: Scratch,
}

impl Demo {
    fn start(change: impl FnOnce(&mut Command)) -> Self {
        let before = of_nodes();
        let folder = Scratch::new("test").unwrap();
        // The tests themselves may be run with SIGHUP ignored (nohup), which a demo would inherit and keep to.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").arg(env!("CARGO_BIN_EXE_demo"));
        command.current_dir(images::repository());
        change(&mut command);
        let process = Process::start("demo", &command, folder.path()).unwrap();
        Self {
            id: process.id(),
            process,
            before,
            _folder: folder,
        }
    }

    fn look(&mut self, is_met: impl FnOnce(&str) -> bool) -> Look<()> {
        if let Err(ended) = self.process.check() {
            return Look::Never(ended.to_string());
        }
        let log = self.process.log();
        if is_met(&log) {
            Look::Met(())
        } else {
            Look::Saw(self.process.last_lines())
        }
    }

    /// Waits until it runs `program`.
    fn wait_for(&mut self, program: &str) {
        wait::until(&format!("the demo to run {program}"), STARTED_WITHIN, || {
            let runs = descendants(self.id).iter().any(|(_, command)| {
                let mut words = command.split(' ').take(3);
                words.any(|word| word.rsplit('/').next() == Some(program))
            });
            self.look(|_| runs)
        })
        .unwrap();
    }

    /// Waits until a pod of its cluster has its network.
    fn wait_for_a_pod(&mut self) {
        wait::until("a pod", STARTED_WITHIN, || {
            let namespaces = of_nodes()
                .difference(&self.before)
                .any(|path| path.starts_with("/run/netns"));
            self.look(|log| log.contains("applied the policy") && namespaces)
        })
        .unwrap();
    }

    /// Sends it `signal` and waits until it has ended, and nothing is left of it.
    fn ends_by(&mut self, signal: Signal) {
        let programs = descendants(self.id);
        assert!(!programs.is_empty());
        self.process.signal(signal);
        let ended = wait::until("the demo to end", ENDS_WITHIN, || match self.process.check() {
            Ok(()) => Look::Saw(self.process.last_lines()),
            Err(error) => Look::Met(error.to_string()),
        })
        .unwrap();
        assert!(
            ended.contains(&format!("exit status: {}", 128 + signal as i32)),
            "{ended}"
        );
        // What was killed last needs a moment to go.
        let still_there = wait::until("its programs to end", Duration::from_secs(5), || {
            let left = self.left();
            let running: Vec<_> = programs.iter().filter(|(id, command)| runs(*id, command)).collect();
            Look::when(left.is_empty() && running.is_empty(), (left, running.len()))
        });
        still_there.unwrap();
    }

    /// What is left of this demo while no node is alive.
    fn left(&self) -> Vec<String> {
        let mut left = self.folders_and_mounts();
        if !node::is_alive() {
            left.extend(
                of_nodes()
                    .difference(&self.before)
                    .map(|path| path.display().to_string()),
            );
        }
        left
    }

    fn folders_and_mounts(&self) -> Vec<String> {
        let temporary = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        let mine = temporary
            .map(|entry| entry.path())
            .filter(|path| fs::read_to_string(path.join("owner.pid")).is_ok_and(|owner| owner == self.id.to_string()));
        let folders: Vec<String> = mine.map(|path| path.display().to_string()).collect();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mounted = mounts
            .lines()
            .filter(|mount| folders.iter().any(|folder| mount.contains(folder)))
            .map(|mount| format!("mount {mount}"));
        [folders.clone(), mounted.collect()].concat()
    }
}

/// What this machine has of nodes: pods' network namespaces, their ends on the host, the bridge.
fn of_nodes() -> HashSet<PathBuf> {
    let names = |folder: &str, prefixes: &'static [&str]| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        })
    };
    names("/run/netns", &["cni-"])
        .chain(names("/sys/class/net", &["veth", "mapa0"]))
        .collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files
}

/// Number and command of every process below `id`.
fn descendants(id: u32) -> Vec<(u32, String)> {
    let processes: Vec<(u32, u32, String)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name in parentheses may hold spaces; the parent is the second field after it.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((id, parent, command_of(id)?))
        })
        .collect();
    let mut found = vec![(id, String::new())];
    let mut next = 0;
    while let Some((parent, _)) = found.get(next).cloned() {
        let children = processes.iter().filter(|(_, of, _)| *of == parent);
        found.extend(children.map(|(id, _, command)| (*id, command.clone())));
        next += 1;
    }
    found.split_off(1)
}

fn command_of(id: u32) -> Option<String> {
    let command = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&command).replace('\0', " "))
}

/// Whether the process is still the one that it was; a zombie has no command.
fn runs(id: u32, command: &str) -> bool {
    !command.is_empty() && command_of(id).is_some_and(|now| now == command)
}
