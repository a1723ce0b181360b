//! Pure: compact identities, so that the caches hold records of some hundred bytes and never whole objects.

use std::{fmt, time::Duration};

use k8s_openapi::api::{
    batch::v1::CronJobSpec,
    core::v1::{Container, PodSpec},
};
use mapa_refresh_crds::{report::clean, runner_env};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Name of the container that runs the job-runner.
pub const RUNNER_CONTAINER: &str = "job-runner";

/// The UID of an object in 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(u128);

impl Uid {
    /// From the text of `metadata.uid`. Kubernetes' UIDs are UUIDs; any other text is hashed.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        match u128::from_str_radix(&digits, 16) {
            Ok(uid) if digits.len() == 32 => Self(uid),
            _ => Self(Fingerprint::of_bytes(text.as_bytes()).0),
        }
    }

    /// A part of `whole` that is this object's own: those of many are spread evenly over it.
    #[must_use]
    pub fn share_of(self, whole: Duration) -> Duration {
        // A UUID's last digits are random.
        let [low, high, ..] = self.0.to_le_bytes();
        whole / (1 << 16) * u32::from(u16::from_le_bytes([low, high]))
    }

    /// The first eight hexadecimal digits.
    #[must_use]
    pub fn short(self) -> String {
        format!("{:08x}", self.0 >> 96)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// First 128 bits of a SHA-256 over an object's canonical JSON. Nobody can construct two objects with one fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl Fingerprint {
    fn of_bytes(bytes: &[u8]) -> Self {
        Self(
            Sha256::digest(bytes)
                .iter()
                .take(16)
                .fold(0, |hash, byte| hash << 8 | u128::from(*byte)),
        )
    }

    /// Of anything that serializes with a fixed order of fields; `None` for what cannot be serialized.
    fn of(value: &impl Serialize) -> Option<Self> {
        serde_json::to_vec(value).ok().map(|json| Self::of_bytes(&json))
    }

    /// Of a CronJob's whole spec, as k8s-openapi knows it: a hand-added container, volume or `hostNetwork` changes it, fields
    /// that newer API servers add do not.
    #[must_use]
    pub fn of_cron_job(spec: &CronJobSpec) -> Option<Self> {
        Self::of(spec)
    }
}

/// The parts of a pod that decide whether its report is evidence: image, command and arguments, environment and volumes, service account, other
/// containers. Placement, resources and user ids do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFingerprint {
    /// Over all parts; `None` of a pod with another container beside the runner's, whose report is never evidence.
    pub whole: Option<Fingerprint>,
    /// One hash for each of [`PARTS`], to name the differences.
    parts: [u32; PARTS.len()],
    /// Names of foreign additions; empty for a pod of ours.
    added: Box<str>,
}

/// The parts of a pod that decide whether its report is evidence, in the words of its spec.
const PARTS: [&str; 9] = [
    "spec.containers[0].image",
    "spec.containers[0].command or args",
    "spec.containers[0].env",
    "spec.containers[0].volumeMounts",
    "spec.containers[0].lifecycle",
    "spec.containers[0].terminationMessagePath or terminationMessagePolicy",
    "spec.volumes",
    "spec.serviceAccountName",
    "spec.hostPID",
];

/// Longest list of what was added, in bytes.
const MAX_ADDED: usize = 200;

impl PodFingerprint {
    /// Of a pod, or of the template of one.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Self {
        let runner = spec
            .containers
            .iter()
            .find(|container| container.name == RUNNER_CONTAINER);
        // Admission fills in the default on a pod, not in a template.
        let service_account = spec.service_account_name.as_deref().unwrap_or("default");
        let is_alone = spec.containers.len() == 1 && spec.init_containers.as_ref().is_none_or(Vec::is_empty);
        let whole = runner.filter(|_| is_alone).and_then(|runner| {
            Fingerprint::of(&(
                (
                    &runner.image,
                    &runner.command,
                    &runner.args,
                    &runner.env,
                    &runner.env_from,
                ),
                (&runner.volume_mounts, &runner.volume_devices, &runner.lifecycle),
                (&runner.termination_message_path, &runner.termination_message_policy),
                (
                    &spec.volumes,
                    service_account,
                    &spec.host_pid,
                    &spec.ephemeral_containers,
                ),
            ))
        });
        let of = |part: &dyn Fn(&Container) -> u32| runner.map_or(0, part);
        Self {
            whole,
            parts: [
                of(&|runner| short(&runner.image)),
                of(&|runner| short(&(&runner.command, &runner.args))),
                of(&|runner| short(&(&runner.env, &runner.env_from))),
                of(&|runner| short(&(&runner.volume_mounts, &runner.volume_devices))),
                of(&|runner| short(&runner.lifecycle)),
                of(&|runner| short(&(&runner.termination_message_path, &runner.termination_message_policy))),
                short(&spec.volumes),
                short(&service_account),
                short(&spec.host_pid),
            ],
            added: added(spec, runner),
        }
    }

    /// The fields in which this pod differs from `template`; empty without a difference.
    #[must_use]
    pub fn differences(&self, template: &Self) -> String {
        let changed = PARTS
            .iter()
            .zip(self.parts.iter().zip(&template.parts))
            .filter(|(_, (ours, theirs))| ours != theirs)
            .map(|(part, _)| *part);
        let mut all: Vec<&str> = changed.collect();
        let added = format!("added: {}", self.added);
        if !self.added.is_empty() {
            all.push(&added);
        }
        all.join(", ")
    }
}

fn short(value: &impl Serialize) -> u32 {
    // 32 of the 128 bits suffice: the whole fingerprint decides, the parts only name the difference.
    Fingerprint::of(value).map_or(0, |Fingerprint(bits)| {
        u32::try_from(bits & u128::from(u32::MAX)).unwrap_or(0)
    })
}

/// Names of containers beside the runner's, and of variables that the operator does not set.
fn added(spec: &PodSpec, runner: Option<&Container>) -> Box<str> {
    let names = |what: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("{what} {}", names.join(" ")));
    let beside = spec
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .filter(|name| *name != RUNNER_CONTAINER);
    let before = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| container.name.as_str());
    let ephemeral = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|container| container.name.as_str());
    let variables = runner
        .and_then(|runner| runner.env.as_ref())
        .into_iter()
        .flatten()
        .map(|variable| variable.name.as_str())
        .filter(|name| !name.starts_with(runner_env::PREFIX));
    let mut added = [
        names("containers", beside.collect()),
        names("initContainers", before.collect()),
        names("ephemeralContainers", ephemeral.collect()),
        names("env", variables.collect()),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join("; ");
    clean(&mut added, MAX_ADDED);
    added.into()
}

impl fmt::Display for Fingerprint {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_keeps_its_first_digits_and_other_text_is_told_apart() {
        assert_eq!(Uid::parse("6f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a10").short(), "6f6f0d5e");
        assert_ne!(Uid::parse("not-a-uuid"), Uid::parse("not-a-uuid-either"));
        assert_ne!(Uid::parse(""), Uid::parse("0"));
    }

    #[test]
    fn the_shares_of_many_objects_are_spread_over_the_whole() {
        let whole = Duration::from_secs(20);
        let mut in_each_second = [0; 20];
        for number in 0..10_000 {
            let share = Uid::parse(&format!("policy {number}")).share_of(whole);
            in_each_second[usize::try_from(share.as_secs()).unwrap()] += 1;
        }
        assert!(
            in_each_second.iter().all(|count| (400..600).contains(count)),
            "{in_each_second:?}"
        );
    }
}
