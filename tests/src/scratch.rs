//! Temporary folders that show whether their owner is alive, so that the next run finds and removes what a killed one has left.
//!
//! The owner holds a lock on the folder itself. The kernel releases it however the owner ends, and a number of a process that is given to
//! another cannot deceive anybody.

use std::{
    fs::{self, File},
    ops::AddAssign,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

use crate::{Result, error::Step, images, node, progress};

/// What all names begin with.
const PREFIX: &str = "mapa-";
/// File with the owner's process id; it is written after the lock is held, so that a folder without it is no folder of the dead.
const OWNER: &str = "owner.pid";

/// A folder of this process. It goes, with all that is mounted below it, when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// A new folder; `kind` becomes part of its name.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(kind: &str) -> Result<Self> {
        Self::below(&std::env::temp_dir(), kind)
    }

    /// A new folder in `parent`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn below(parent: &Path, kind: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{kind}-"))
            .tempdir_in(parent)
            .step_at("create a folder in", parent)?;
        let lock = File::open(folder.path()).step_at("open", folder.path())?;
        lock.lock().step_at("lock", folder.path())?;
        let owner = folder.path().join(OWNER);
        fs::write(&owner, std::process::id().to_string()).step_at("write", &owner)?;
        Ok(Self {
            path: folder.keep(),
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// A folder whose owner is dead. Who holds the value is the only one who removes it.
#[derive(Debug)]
pub struct OfTheDead {
    path: PathBuf,
    _lock: File,
}

impl OfTheDead {
    /// Every folder in `parent` whose owner is dead, of the kinds that are wanted.
    #[must_use]
    pub fn find(parent: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<Self> {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        entries
            .filter(|entry| {
                let name = entry.file_name();
                let kind = name
                    .to_str()
                    .and_then(|name| name.strip_prefix(PREFIX)?.rsplit_once('-'));
                kind.is_some_and(|(kind, _)| is_wanted(kind))
            })
            .filter_map(|entry| Self::judge(entry.path()))
            .collect()
    }

    fn judge(path: PathBuf) -> Option<Self> {
        let lock = File::open(&path).ok()?;
        lock.try_lock().ok()?;
        // Asked after the lock is held: the owner may have removed the folder meanwhile.
        path.join(OWNER).exists().then_some(Self { path, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, with all that is mounted below it.
    pub fn remove(self) -> Removed {
        unmount_below(&self.path);
        let bytes = bytes_below(&self.path);
        remove(&self.path);
        Removed { folders: 1, bytes }
    }
}

/// What was removed of the dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many folders.
    pub folders: usize,
    /// How many bytes they had.
    pub bytes: u64,
}

impl AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        self.folders += other.folders;
        self.bytes += other.bytes;
    }
}

/// Removes everything that killed runs have left on this machine, and reports it in one line. A live run's folders stay.
pub fn clean_up_after_the_dead() {
    let mut removed = node::clean_up_after_the_dead();
    // A node's folder goes with what the node has left elsewhere, or not at all.
    for dead in OfTheDead::find(&std::env::temp_dir(), |kind| kind != node::KIND) {
        removed += dead.remove();
    }
    images::clean_up_after_the_dead();
    if removed != Removed::default() {
        progress::say(&format!(
            "removed what a killed run had left: {} folders, {:.1} MB",
            removed.folders,
            removed.bytes as f64 / 1e6
        ));
    }
}

/// Nothing that is mounted may be left when files are deleted: they would be another's.
fn remove(folder: &Path) {
    unmount_below(folder);
    // What cannot be deleted is found by the next run.
    let _ = fs::remove_dir_all(folder);
}

/// Unmounts what is mounted below `folder`, the last first.
pub fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let ours: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|target| Path::new(target).starts_with(folder))
        .collect();
    for target in ours.into_iter().rev() {
        let _ = umount2(target, MntFlags::MNT_DETACH);
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{OWNER, OfTheDead, Scratch};

    #[test]
    fn a_folder_is_found_when_its_owner_is_dead_and_never_while_it_lives() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Scratch::below(parent.path(), "thing").unwrap();
        // A process that is killed releases its lock and nothing else.
        let dead = parent.path().join("mapa-thing-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(OWNER), std::process::id().to_string()).unwrap();
        fs::write(dead.join("audit.log"), [0; 1000]).unwrap();
        // One that is being made has no owner yet; other kinds and other people's folders are not asked for.
        for other in ["mapa-thing-new", "mapa-another-dead", "thing"] {
            fs::create_dir(parent.path().join(other)).unwrap();
        }
        fs::write(parent.path().join("mapa-another-dead").join(OWNER), "1").unwrap();

        let find = || OfTheDead::find(parent.path(), |kind| kind == "thing");
        let found = find();
        assert_eq!(found.iter().map(OfTheDead::path).collect::<Vec<_>>(), [dead.as_path()]);
        assert!(find().is_empty(), "two clean the same folder");
        for dead in found {
            let removed = dead.remove();
            assert!(removed.folders == 1 && removed.bytes >= 1000, "{removed:?}");
        }
        assert!(!dead.exists());
        for left in ["mapa-thing-new", "mapa-another-dead", "thing"] {
            assert!(parent.path().join(left).exists(), "{left}");
        }
        let path = alive.path().to_owned();
        assert!(path.exists());
        drop(alive);
        assert!(!path.exists());
    }
}
