//! What is in an image's OCI archive, by its own manifest.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Error, Result, error::Step, process, scratch::Scratch};

/// An image that was unpacked.
#[derive(Debug)]
pub struct OciArchive {
    /// Digest of its manifest: `sha256:…`.
    pub digest: String,
    /// Bytes that a registry keeps and a node pulls: manifest, configuration and layers.
    pub packed_bytes: u64,
    /// Bytes of its files on a node.
    pub unpacked_bytes: u64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// User and group that it runs as.
    pub user: String,
    folder: Scratch,
}

impl OciArchive {
    /// Unpacks the archive of one image.
    ///
    /// # Errors
    /// It is no such archive.
    pub fn read(archive: &Path) -> Result<Self> {
        let folder = Scratch::new("archive")?;
        let (layout, root) = (folder.path().join("layout"), folder.path().join("root"));
        unpack(archive, &layout)?;
        let index = json(&layout.join("index.json"))?;
        let digest = text(&index, "/manifests/0/digest")?;
        let manifest_path = blob(&layout, &digest);
        let manifest = json(&manifest_path)?;
        let config_path = blob(&layout, &text(&manifest, "/config/digest")?);
        let config = json(&config_path)?;
        let mut packed_bytes = size(&manifest_path)? + size(&config_path)?;
        for layer in manifest.get("layers").and_then(Value::as_array).into_iter().flatten() {
            let layer = blob(&layout, &text(layer, "/digest")?);
            packed_bytes += size(&layer)?;
            unpack(&layer, &root)?;
        }
        let labels = config.pointer("/config/Labels").cloned().unwrap_or_default();
        Ok(Self {
            digest,
            packed_bytes,
            unpacked_bytes: bytes_below(&root)?,
            labels: serde_json::from_value(labels).step("read the labels")?,
            user: text(&config, "/config/User")?,
            folder,
        })
    }

    /// Where a file of it was unpacked.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    /// SHA-256 of a file of it, in hexadecimal.
    ///
    /// # Errors
    /// It has no such file.
    pub fn sha256(&self, path: &str) -> Result<String> {
        let file = self.file(path);
        let content = fs::read(&file).step_at("read", &file)?;
        Ok(Sha256::digest(&content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).step_at("create", folder)?;
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(archive).arg("-C").arg(folder);
    process::output(&format!("unpack {}", archive.display()), &mut tar).map(drop)
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn json(path: &Path) -> Result<Value> {
    let content = fs::read(path).step_at("read", path)?;
    serde_json::from_slice(&content).step_at("read", path)
}

fn text(value: &Value, pointer: &str) -> Result<String> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Error::new("read the image", format!("{pointer} is no text")))
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::symlink_metadata(path).step_at("look at", path)?.len())
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).step_at("read", folder)? {
        let path = entry.step_at("read", folder)?.path();
        bytes += if path.is_dir() && !path.is_symlink() {
            bytes_below(&path)?
        } else {
            size(&path)?
        };
    }
    Ok(bytes)
}
