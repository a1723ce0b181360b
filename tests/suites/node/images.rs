//! The images as they are shipped.

use mapa_refresh_tests::{images, oci_archive::OciArchive, progress};

use crate::world::{Test, World};

pub const TESTS: &[Test] = &[(
    "images::operator_and_runners_say_what_they_are_and_are_made_of_and_all_but_oracles_are_below_20_mb",
    shipped,
)];

/// Bytes on a node, and so in a registry as well.
const LIMIT: u64 = 20_000_000;
/// Section in which a binary tells its crates.
const CRATES: &[u8] = b".dep-v0";

fn shipped(_: &World) {
    // They are in the cache: the world has built them.
    for (archive, binary, limit) in [
        (images::operator().unwrap(), "mapa-refresh-operator", Some(LIMIT)),
        (images::job_runner().unwrap(), "job-runner", Some(LIMIT)),
        // The most of it is the client's, and not ours.
        (images::job_runner_oracle().unwrap(), "job-runner", None),
    ] {
        let image = OciArchive::read(&archive).unwrap();
        let label = |name: &str| {
            let key = format!("org.opencontainers.image.{name}");
            image.labels.get(&key).cloned().unwrap_or_default()
        };
        progress::say(&format!(
            "image {}: {:.1} MB to pull, {:.1} MB on the node",
            label("title"),
            image.packed_bytes as f64 / 1e6,
            image.unpacked_bytes as f64 / 1e6
        ));
        assert!(limit.is_none_or(|limit| image.unpacked_bytes < limit && image.packed_bytes < limit));
        assert_eq!(image.user, "65532:65532");
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
