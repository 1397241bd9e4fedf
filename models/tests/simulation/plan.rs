//! What will go wrong in a run, drawn from its seed before it begins.

use super::{DOMAINS, END_MS, Place, random::Random};

/// Something that goes wrong at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The verifier dies and is back after so many milliseconds.
    Crash { domain: usize, for_ms: u64 },
    /// As a crash, and it is started on the database that it had so many milliseconds before.
    Restore { domain: usize },
    /// From now on it serves another history to one of its followers, and shows it to that one's witness.
    Equivocate { domain: usize, to: usize },
    /// The machine under a node stands still.
    Pause { node: usize, for_ms: u64 },
    /// A node's daemon is started anew.
    RestartNode { node: usize },
    /// A node no longer measures what it should.
    Tamper { node: usize },
    /// An operator ends a node.
    Halt { node: usize },
    /// A domain revokes what it granted to a node.
    Revoke { domain: usize, node: usize },
}

/// One direction of one link, closed for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) begin_ms: u64,
    pub(crate) end_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) faults: Vec<(u64, Fault)>,
    pub(crate) cuts: Vec<Cut>,
    /// Error of each verifier's clock, in seconds.
    pub(crate) skew_s: [i64; DOMAINS],
    pub(crate) lost_percent: u64,
    pub(crate) twice_percent: u64,
    pub(crate) delay_ms: u64,
}

const MONTH_S: u64 = 30 * 24 * 3600;

impl Plan {
    pub(crate) fn drawn(random: &mut Random) -> Self {
        let mut faults = Vec::new();
        for _ in 0..random.within(1, 6) {
            let (domain, node) = (random.index(DOMAINS), random.index(DOMAINS));
            let fault = match random.index(8) {
                0 => Fault::Crash { domain, for_ms: random.within(500, 60_000) },
                1 => Fault::Restore { domain },
                2 => Fault::Equivocate { domain, to: (domain + 1 + random.index(DOMAINS - 1)) % DOMAINS },
                3 => Fault::Pause { node, for_ms: random.within(500, 90_000) },
                4 => Fault::RestartNode { node },
                5 => Fault::Tamper { node },
                6 => Fault::Halt { node },
                _ => Fault::Revoke { domain, node },
            };
            faults.push((random.within(5_000, END_MS), fault));
        }
        let mut skew_s = [0; DOMAINS];
        if random.percent(30) {
            let by = i64::try_from(random.within(0, MONTH_S)).expect("small");
            skew_s[random.index(DOMAINS)] = if random.percent(50) { by } else { -by };
        }
        let cuts = (0..random.index(6)).map(|_| Self::cut(random)).collect();
        let (lost_percent, twice_percent) = (random.within(0, 30), random.within(0, 20));
        Self { faults, cuts, skew_s, lost_percent, twice_percent, delay_ms: random.within(1, 3_000) }
    }

    fn cut(random: &mut Random) -> Cut {
        let places: Vec<Place> = (0..DOMAINS).flat_map(|i| [Place::Node(i), Place::Verifier(i)]).collect();
        let begin_ms = random.within(0, END_MS);
        // Some are longer than a lease and than a partner's staleness.
        let end_ms = begin_ms + random.within(1_000, 150_000);
        Cut { from: places[random.index(places.len())], to: places[random.index(places.len())], begin_ms, end_ms }
    }

    pub(crate) fn open(&self, from: Place, to: Place, now_ms: u64) -> bool {
        let closes = |cut: &Cut| cut.from == from && cut.to == to && (cut.begin_ms..cut.end_ms).contains(&now_ms);
        !self.cuts.iter().any(closes)
    }
}
