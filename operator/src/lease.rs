//! Pure: who holds the lease, as far as one replica can know, and what it does next.
//!
//! The holder counts the lease's duration from the moment at which it *sent* what renewed it, everybody else from the moment at which
//! they first *saw* it renewed. The first is always earlier: who holds it stops writing before another takes over, whatever the wall
//! clocks say. Between two that want it the resource version decides.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};

/// How long the lease is held without being renewed.
pub const DURATION: Duration = Duration::from_secs(15);
/// Upper bound for the duration that a lease claims. No operator claims more; a foreign writer could claim 68 years.
const LONGEST_DURATION: Duration = Duration::from_secs(60);
/// Time between two renewals.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Time between two looks of a follower, and between two tries of what failed: a lease that is handed over is taken within this.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time since boot.
type Moment = Duration;

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing until then.
    Wait(Moment),
    /// Look at the lease.
    Read,
    /// Create the lease, held by us.
    Create(Box<Lease>),
    /// Replace the lease by this one: take or renew it.
    Replace(Box<Lease>),
}

/// One replica's part in the election.
#[derive(Clone, Debug)]
pub struct Candidacy {
    name: String,
    identity: String,
    known: Known,
    held_until: Option<Moment>,
    /// What is known may be out of date: look before anything else.
    in_doubt: bool,
    /// When to look or to renew.
    due: Moment,
}

#[derive(Clone, Debug)]
enum Known {
    /// Nothing yet.
    Nothing,
    /// There is no lease.
    Absent,
    /// The lease, and when its content was first seen.
    Lease { lease: Box<Lease>, since: Moment },
}

impl Candidacy {
    /// A replica called `identity`, which no other replica and no earlier process may be called, wants the lease `name`.
    #[must_use]
    pub fn new(name: &str, identity: &str) -> Self {
        Self {
            name: name.to_owned(),
            identity: identity.to_owned(),
            known: Known::Nothing,
            held_until: None,
            in_doubt: false,
            due: Moment::ZERO,
        }
    }

    /// The lease's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Until when the lease is ours; none when it is not, at `now`.
    #[must_use]
    pub fn held(&self, now: Moment) -> Option<Moment> {
        self.held_until.filter(|until| *until > now)
    }

    /// Who else holds the lease, as it was seen last.
    #[must_use]
    pub fn other_holder(&self) -> Option<&str> {
        self.holder().filter(|holder| *holder != self.identity)
    }

    fn holder(&self) -> Option<&str> {
        let Known::Lease { lease, .. } = &self.known else {
            return None;
        };
        let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
        Some(holder).filter(|holder| !holder.is_empty())
    }

    /// The lease was read; the answer came at `now`.
    pub fn saw(&mut self, lease: Lease, now: Moment) {
        let since = match &self.known {
            // A label that somebody changes renews nothing, and neither does an API server that is slow.
            Known::Lease { lease: known, since } if known.spec == lease.spec => *since,
            _ => now,
        };
        let expires = since + duration(&lease);
        self.known = Known::Lease {
            lease: Box::new(lease),
            since,
        };
        self.in_doubt = false;
        // Ours, by a renewal whose answer was lost, or by one that ran out and nobody took: only another one proves it.
        let is_ours = self.holder() == Some(&self.identity);
        if !is_ours {
            self.held_until = None;
        }
        self.due = if is_ours || self.holder().is_none() {
            now
        } else {
            (now + LOOK_EVERY).min(expires).max(now)
        };
    }

    /// The lease is ours, by a request that was sent at `sent`; the answer came at `now`.
    pub fn took(&mut self, lease: Lease, sent: Moment, now: Moment) {
        self.known = Known::Lease {
            lease: Box::new(lease),
            since: now,
        };
        self.held_until = Some(sent + DURATION);
        self.in_doubt = false;
        self.due = sent + RENEW_EVERY;
    }

    /// There is no lease, at `now`.
    pub fn is_absent(&mut self, now: Moment) {
        self.known = Known::Absent;
        self.in_doubt = false;
        self.due = now;
    }

    /// Somebody else wrote in between: look again at `now`.
    pub fn was_outrun(&mut self, now: Moment) {
        self.in_doubt = true;
        self.due = now;
    }

    /// A request failed at `now`, or its answer never came: whether it was carried out is not known.
    pub fn failed(&mut self, now: Moment) {
        self.in_doubt = true;
        self.due = now + LOOK_EVERY;
    }

    /// What to do at `now`, when the wall clock shows `wall`.
    #[must_use]
    pub fn next(&self, now: Moment, wall: Timestamp) -> Step {
        if now < self.due {
            return Step::Wait(self.due);
        }
        if self.in_doubt {
            return Step::Read;
        }
        let (lease, since) = match &self.known {
            Known::Nothing => return Step::Read,
            Known::Absent => return Step::Create(Box::new(self.created(wall))),
            Known::Lease { lease, since } => (lease, since),
        };
        match self.holder() {
            Some(holder) if holder == self.identity => match self.held(now) {
                Some(_) => Step::Replace(Box::new(self.renewed(lease, wall))),
                None => Step::Replace(Box::new(self.taken(lease, wall))),
            },
            Some(_) if now < *since + duration(lease) => Step::Read,
            // Nobody's; or whoever has looked that long at what does not change looks at a holder that is gone.
            _ => Step::Replace(Box::new(self.taken(lease, wall))),
        }
    }

    /// The lease given up, to be written when this replica stops; none when it is not known to be ours.
    #[must_use]
    pub fn released(&self, wall: Timestamp) -> Option<Box<Lease>> {
        let Known::Lease { lease, .. } = &self.known else {
            return None;
        };
        if self.holder() != Some(&self.identity) {
            return None;
        }
        let mut lease = lease.clone();
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.renew_time = Some(MicroTime(wall));
        // Whoever reads it before the holder is looked at shall not wait.
        spec.lease_duration_seconds = Some(1);
        Some(lease)
    }

    fn created(&self, wall: Timestamp) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                lease_transitions: Some(0),
                ..self.ours(wall)
            }),
        }
    }

    fn taken(&self, lease: &Lease, wall: Timestamp) -> Lease {
        let before = lease.spec.as_ref();
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0).max(0);
        let is_same = before.and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.identity);
        Lease {
            spec: Some(LeaseSpec {
                lease_transitions: Some(transitions.saturating_add(i32::from(!is_same))),
                ..self.ours(wall)
            }),
            ..without_managers(lease)
        }
    }

    fn renewed(&self, lease: &Lease, wall: Timestamp) -> Lease {
        let mut lease = without_managers(lease);
        lease.spec.get_or_insert_default().renew_time = Some(MicroTime(wall));
        lease
    }

    fn ours(&self, wall: Timestamp) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(MicroTime(wall)),
            renew_time: Some(MicroTime(wall)),
            ..LeaseSpec::default()
        }
    }
}

fn without_managers(lease: &Lease) -> Lease {
    let mut lease = lease.clone();
    lease.metadata.managed_fields = None;
    lease
}

/// How long the holder asked for.
fn duration(lease: &Lease) -> Duration {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DURATION, Duration::from_secs)
        .min(LONGEST_DURATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The API server's one lease, and the true time. Every request takes `latency` each way.
    struct World {
        lease: Option<Lease>,
        version: u64,
        now: Duration,
    }

    const LATENCY: Duration = Duration::from_millis(20);

    impl World {
        fn new() -> Self {
            Self {
                lease: None,
                version: 0,
                now: Duration::from_secs(1_000),
            }
        }

        fn store(&mut self, mut lease: Lease) -> Lease {
            self.version += 1;
            lease.metadata.resource_version = Some(self.version.to_string());
            self.lease = Some(lease.clone());
            lease
        }

        /// Lets `replica` do its next step; false when it waits.
        fn step(&mut self, replica: &mut Candidacy) -> bool {
            let sent = self.now;
            match replica.next(sent, Timestamp::UNIX_EPOCH + sent) {
                Step::Wait(until) => {
                    assert!(until > sent, "a wait that is over is a loop");
                    return false;
                }
                Step::Read => {
                    self.now += LATENCY * 2;
                    match self.lease.clone() {
                        Some(lease) => replica.saw(lease, self.now),
                        None => replica.is_absent(self.now),
                    }
                }
                Step::Create(lease) => {
                    self.now += LATENCY * 2;
                    if self.lease.is_some() {
                        replica.was_outrun(self.now);
                    } else {
                        let lease = self.store(*lease);
                        replica.took(lease, sent, self.now);
                    }
                }
                Step::Replace(lease) => {
                    self.now += LATENCY * 2;
                    let version = self.lease.as_ref().map(|lease| &lease.metadata.resource_version);
                    if version == Some(&lease.metadata.resource_version) {
                        let lease = self.store(*lease);
                        replica.took(lease, sent, self.now);
                    } else {
                        replica.was_outrun(self.now);
                    }
                }
            }
            true
        }

        /// Lets the replicas do what is due until `end`, and asserts after every step that at most one holds the lease.
        fn run(&mut self, end: Duration, replicas: &mut [&mut Candidacy]) {
            while self.now < end {
                for replica in replicas.iter_mut() {
                    while self.step(replica) {}
                }
                let holders = replicas
                    .iter()
                    .filter(|replica| replica.held(self.now).is_some())
                    .count();
                assert!(holders <= 1, "two hold the lease at {:?}", self.now);
                self.now += Duration::from_millis(100);
            }
        }

        fn spec(&self) -> &LeaseSpec {
            self.lease.as_ref().unwrap().spec.as_ref().unwrap()
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_creates_the_lease_and_renews_it_every_five_seconds() {
        let mut world = World::new();
        let mut one = Candidacy::new("lease", "one");
        world.run(seconds(1_060), &mut [&mut one]);
        assert!(one.held(world.now).is_some());
        assert_eq!(world.spec().holder_identity.as_deref(), Some("one"));
        assert_eq!(world.spec().lease_transitions, Some(0));
        // Created once and renewed at most every 5 s, without a look between.
        assert_eq!(world.version, 12);
    }

    #[test]
    fn a_follower_takes_the_lease_of_a_killed_leader_within_20_s_and_not_within_15() {
        let mut world = World::new();
        let (mut one, mut two) = (Candidacy::new("lease", "one"), Candidacy::new("lease", "two"));
        world.run(seconds(1_033), &mut [&mut one, &mut two]);
        assert_eq!(two.other_holder(), Some("one"));
        let renewed = one.held(world.now).unwrap() - DURATION;
        world.run(renewed + DURATION, &mut [&mut two]);
        assert!(two.held(world.now).is_none());
        world.run(renewed + DURATION + seconds(3), &mut [&mut two]);
        assert!(two.held(world.now).is_some());
        assert_eq!(world.spec().lease_transitions, Some(1));
    }

    #[test]
    fn a_lease_that_says_to_be_held_for_sixty_eight_years_is_taken_after_a_minute() {
        for seconds_held in [i32::MAX, 0, -1, i32::MIN] {
            let mut world = World::new();
            world.store(Lease {
                metadata: ObjectMeta::default(),
                spec: Some(LeaseSpec {
                    holder_identity: Some("nobody".to_owned()),
                    lease_duration_seconds: Some(seconds_held),
                    lease_transitions: Some(i32::MAX),
                    ..LeaseSpec::default()
                }),
            });
            let mut one = Candidacy::new("lease", "one");
            world.run(seconds(1_062), &mut [&mut one]);
            assert!(one.held(world.now).is_some(), "{seconds_held}");
            assert_eq!(world.spec().lease_transitions, Some(i32::MAX));
        }
    }

    #[test]
    fn i12_f24_a_leader_that_was_stopped_past_its_lease_does_not_hold_it_when_it_goes_on() {
        let mut world = World::new();
        let (mut one, mut two) = (Candidacy::new("lease", "one"), Candidacy::new("lease", "two"));
        world.run(seconds(1_033), &mut [&mut one, &mut two]);
        world.run(seconds(1_055), &mut [&mut two]);
        assert!(two.held(world.now).is_some());
        assert_eq!(one.held(world.now), None, "before it has heard of anything");
        // Its renewal that comes too late meets another version.
        world.run(seconds(1_100), &mut [&mut one, &mut two]);
        assert_eq!(one.held(world.now), None);
        assert_eq!(one.other_holder(), Some("two"));
        assert_eq!(world.spec().lease_transitions, Some(1));
    }

    #[test]
    fn a_lease_that_is_handed_over_is_taken_within_two_seconds() {
        let mut world = World::new();
        let (mut one, mut two) = (Candidacy::new("lease", "one"), Candidacy::new("lease", "two"));
        world.run(seconds(1_033), &mut [&mut one, &mut two]);
        let released = one.released(Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(released.spec.as_ref().unwrap().holder_identity.as_deref(), Some(""));
        world.store(*released);
        world.run(seconds(1_035), &mut [&mut two]);
        assert!(two.held(world.now).is_some());
        assert_eq!(two.released(Timestamp::UNIX_EPOCH).map(|_| ()), Some(()));
        assert_eq!(
            one.clone().released(Timestamp::UNIX_EPOCH).map(|_| ()),
            Some(()),
            "as it knows it"
        );
    }

    #[test]
    fn a_renewal_whose_answer_was_lost_is_found_and_made_again() {
        let mut world = World::new();
        let mut one = Candidacy::new("lease", "one");
        world.run(seconds(1_004), &mut [&mut one]);
        let until = one.held(world.now).unwrap();
        world.now = seconds(1_006);
        let Step::Replace(renewal) = one.next(world.now, Timestamp::UNIX_EPOCH) else {
            panic!("it is due");
        };
        world.store(*renewal);
        one.failed(world.now);
        assert_eq!(one.held(world.now), Some(until), "what is not confirmed does not count");
        world.run(seconds(1_020), &mut [&mut one]);
        assert!(one.held(world.now).unwrap() > until);
        assert_eq!(world.spec().lease_transitions, Some(0));
    }

    #[test]
    fn a_lease_that_ran_out_and_that_nobody_took_is_taken_back() {
        let mut world = World::new();
        let mut one = Candidacy::new("lease", "one");
        world.run(seconds(1_004), &mut [&mut one]);
        world.now = seconds(1_100);
        assert_eq!(one.held(world.now), None);
        world.run(seconds(1_101), &mut [&mut one]);
        assert!(one.held(world.now).is_some());
        assert_eq!(world.spec().lease_transitions, Some(0), "the holder is the same");
    }

    #[test]
    fn an_api_server_that_does_not_answer_prolongs_no_ones_lease() {
        let mut world = World::new();
        let (mut one, mut two) = (Candidacy::new("lease", "one"), Candidacy::new("lease", "two"));
        world.run(seconds(1_033), &mut [&mut one, &mut two]);
        let until = one.held(world.now).unwrap();
        while world.now < until + seconds(2) {
            world.now += seconds(1);
            one.failed(world.now);
            two.failed(world.now);
        }
        assert_eq!(one.held(world.now), None);
        world.run(until + seconds(5), &mut [&mut two]);
        assert!(two.held(world.now).is_some(), "it has been looked at for long enough");
    }

    #[test]
    fn who_finds_the_lease_in_other_hands_holds_it_no_more() {
        let mut world = World::new();
        let mut one = Candidacy::new("lease", "one");
        world.run(seconds(1_004), &mut [&mut one]);
        let mut edited = world.lease.clone().unwrap();
        edited.spec.as_mut().unwrap().holder_identity = Some("somebody".to_owned());
        world.store(edited);
        world.run(seconds(1_006), &mut [&mut one]);
        assert_eq!(one.held(world.now), None);
        assert_eq!(
            one.released(Timestamp::UNIX_EPOCH),
            None,
            "what is not ours is not given up"
        );
    }

    #[test]
    fn labels_of_somebody_else_stay_and_renew_nothing() {
        let mut world = World::new();
        let (mut one, mut two) = (Candidacy::new("lease", "one"), Candidacy::new("lease", "two"));
        world.run(seconds(1_013), &mut [&mut one, &mut two]);
        for second in 0..17 {
            let mut labelled = world.lease.clone().unwrap();
            let labels = labelled.metadata.labels.get_or_insert_default();
            labels.insert("touched".to_owned(), second.to_string());
            world.store(labelled);
            world.run(seconds(1_014 + second), &mut [&mut two]);
        }
        assert!(two.held(world.now).is_some());
        let labels = world.lease.as_ref().unwrap().metadata.labels.as_ref().unwrap();
        assert!(labels.contains_key("touched"));
    }
}
