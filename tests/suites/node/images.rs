//! The images as they are shipped.

use mapa_refresh_tests::{images, oci_archive::OciArchive, progress};

use crate::world::{Test, World};

pub const TESTS: &[Test] = &[(
    "images::operator_and_postgresql_runner_are_below_20_mb_and_say_what_they_are_and_are_made_of",
    shipped,
)];

/// Bytes on a node, and so in a registry as well.
const LIMIT: u64 = 20_000_000;
/// Section in which a binary tells its crates.
const CRATES: &[u8] = b".dep-v0";

fn shipped(_: &World) {
    // They are in the cache: the world has built them.
    for (archive, binary) in [
        (images::operator().unwrap(), "mapa-refresh-operator"),
        (images::job_runner().unwrap(), "job-runner"),
    ] {
        let image = OciArchive::read(&archive).unwrap();
        progress::say(&format!(
            "image of {binary}: {:.1} MB to pull, {:.1} MB on the node",
            image.packed_bytes as f64 / 1e6,
            image.unpacked_bytes as f64 / 1e6
        ));
        assert!(image.unpacked_bytes < LIMIT && image.packed_bytes < LIMIT);
        assert_eq!(image.user, "65532:65532");
        let label = |name: &str| {
            let key = format!("org.opencontainers.image.{name}");
            image.labels.get(&key).cloned().unwrap_or_default()
        };
        for name in ["title", "description", "source", "licenses"] {
            assert!(!label(name).is_empty(), "{name}: {:?}", image.labels);
        }
        assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
        let revision = label("revision");
        assert!(
            revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{revision}"
        );
        label("created").parse::<k8s_openapi::jiff::Timestamp>().unwrap();
        let content = std::fs::read(image.file(binary)).unwrap();
        assert!(content.windows(CRATES.len()).any(|window| window == CRATES), "{binary}");
    }
}
