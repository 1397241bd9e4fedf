//! How much of a local socket one crowd of clients can take: connections, requests at once, requests a second.
//!
//! A workload runs as the daemon's own user, so that no count by user tells it from the operator. Clients are counted by the
//! execution that they belong to, and those of none by their process. Nobody can take all that is left (a dynamic threshold:
//! no crowd gets more than half of what is free), so whoever comes later finds a place, and operators have places of their
//! own that no workload takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tonic::Status;

/// Who is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Crowd {
    /// Everything below this supervisor: one execution.
    Below(i32),
    /// A process that belongs to no execution.
    Process(i32),
    /// Every process of a user, where the kernel does not tell processes apart safely.
    User(u32),
}

impl Crowd {
    const fn is_workload(self) -> bool {
        matches!(self, Self::Below(_))
    }
}

/// What there is of one socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    /// Connections of workloads at once.
    pub(super) workloads: usize,
    /// Connections of everybody else at once.
    pub(super) others: usize,
    /// How long a connection may be open before its first request, and a request unanswered.
    pub(super) patience: Patience,
}

/// How long a client is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From the connection to its first request.
    pub(super) first_request: Duration,
    /// From a request's header to its answer.
    pub(super) answer: Duration,
}

/// All clients of one socket.
#[derive(Debug)]
pub(super) struct Crowds {
    caps: Caps,
    counted: Mutex<BTreeMap<Crowd, Counted>>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    connections: usize,
    unanswered: usize,
    /// Of [`BURST`] at most; one comes back every [`REFILL`].
    spent: u32,
    since: Instant,
}

impl Crowds {
    pub(super) fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self { caps, counted: Mutex::default() })
    }

    pub(super) const fn patience(&self) -> Patience {
        self.caps.patience
    }

    /// Takes a place for a connection; none if this crowd has its share, or connects too often.
    pub(super) fn enter(self: &Arc<Self>, crowd: Crowd, now: Instant) -> Option<Arc<Seat>> {
        let mut counted = self.lock();
        // What is as good as new need not be remembered.
        counted.retain(|_, one| one.connections > 0 || one.refilled(now) > 0);
        let total = if crowd.is_workload() { self.caps.workloads } else { self.caps.others };
        let taken: usize = counted
            .iter()
            .filter(|(other, _)| other.is_workload() == crowd.is_workload())
            .map(|(_, one)| one.connections)
            .sum();
        let share = CONNECTIONS_CAP.min(total.saturating_sub(taken) / 2);
        let one = counted.entry(crowd).or_insert(Counted { connections: 0, unanswered: 0, spent: 0, since: now });
        if one.connections >= share || !one.spend(now) {
            return None;
        }
        one.connections = one.connections.saturating_add(1);
        let (crowds, asked, refused) = (Arc::clone(self), AtomicBool::new(false), AtomicU32::new(0));
        Some(Arc::new(Seat { crowds, crowd, asked, refused }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Crowd, Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn refilled(&mut self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.since);
        let back = elapsed.as_millis().checked_div(REFILL.as_millis()).unwrap_or_default();
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        self.since = self.since.checked_add(REFILL.saturating_mul(back)).filter(|since| *since <= now).unwrap_or(now);
        self.spent = self.spent.saturating_sub(back);
        self.spent
    }

    fn spend(&mut self, now: Instant) -> bool {
        let admitted = self.refilled(now) < BURST;
        self.spent = self.spent.saturating_add(u32::from(admitted));
        admitted
    }
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowds: Arc<Crowds>,
    crowd: Crowd,
    asked: AtomicBool,
    refused: AtomicU32,
}

impl Seat {
    /// Whether a request came over it.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether whoever is behind it goes on asking though it is told not to.
    pub(super) fn is_shut(&self) -> bool {
        self.refused.load(Ordering::Relaxed) > REFUSED_CAP
    }

    /// Admits a request, until it is answered.
    ///
    /// # Errors
    /// `ResourceExhausted`: this crowd has too many under way, or asks too often.
    pub(super) fn ask(self: &Arc<Self>, now: Instant) -> Result<Asking, Status> {
        self.asked.store(true, Ordering::Relaxed);
        let mut counted = self.crowds.lock();
        let admitted = counted.get_mut(&self.crowd).filter(|one| one.unanswered < UNANSWERED_CAP);
        match admitted.is_some_and(|one| {
            let admitted = one.spend(now);
            one.unanswered = one.unanswered.saturating_add(usize::from(admitted));
            admitted
        }) {
            true => Ok(Asking(Arc::clone(self))),
            false => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Status::resource_exhausted("fault.overloaded: too many requests of this client at once"))
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(one) = self.crowds.lock().get_mut(&self.crowd) {
            one.connections = one.connections.saturating_sub(1);
        }
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Asking(Arc<Seat>);

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(one) = self.0.crowds.lock().get_mut(&self.0.crowd) {
            one.unanswered = one.unanswered.saturating_sub(1);
        }
    }
}

/// Connections of one crowd: more processes than most workloads have.
const CONNECTIONS_CAP: usize = 32;
/// Requests of one crowd that are being read or answered. What streams has been answered.
const UNANSWERED_CAP: usize = 16;
/// Connections and requests of one crowd at once, and how soon there may be one more.
const BURST: u32 = 256;
const REFILL: Duration = Duration::from_millis(5);
/// Requests over one connection that are refused before it is closed.
const REFUSED_CAP: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { first_request: Duration::from_secs(1), answer: Duration::from_secs(1) };
    const CAPS: Caps = Caps { workloads: 100, others: 10, patience: PATIENCE };

    fn fill(crowds: &Arc<Crowds>, crowd: Crowd, now: Instant) -> Vec<Arc<Seat>> {
        std::iter::from_fn(|| crowds.enter(crowd, now)).collect()
    }

    #[test]
    fn no_crowd_takes_all_and_whoever_comes_later_finds_a_place() {
        let (crowds, now) = (Crowds::new(CAPS), Instant::now());
        let greedy: Vec<_> = (0..8).map(|pid| fill(&crowds, Crowd::Below(pid), now)).collect();
        assert_eq!(greedy[0].len(), CONNECTIONS_CAP);
        let taken: usize = greedy.iter().map(Vec::len).sum();
        assert!(taken < CAPS.workloads, "{taken}");
        let late = fill(&crowds, Crowd::Below(8), now);
        assert!(!late.is_empty());
        // Those of no execution have places of their own.
        assert_eq!(fill(&crowds, Crowd::Process(9), now).len(), 3, "half of what is left, each time");
        drop(greedy);
        drop(late);
        assert_eq!(fill(&crowds, Crowd::Below(10), now).len(), CONNECTIONS_CAP);
    }

    #[test]
    fn a_crowd_asks_so_much_at_once_and_so_often_and_another_s_share_is_its_own() {
        let (crowds, mut now) = (Crowds::new(CAPS), Instant::now());
        let (loud, other) = (Crowd::Below(1), Crowd::Below(2));
        let (loud, other) = (crowds.enter(loud, now).unwrap(), crowds.enter(other, now).unwrap());
        assert!(!loud.has_asked());
        let under_way: Vec<_> = std::iter::from_fn(|| loud.ask(now).ok()).collect();
        assert_eq!((under_way.len(), loud.has_asked()), (UNANSWERED_CAP, true));
        drop(under_way);
        let admitted = std::iter::from_fn(|| loud.ask(now).ok().map(drop)).count();
        assert_eq!(admitted, usize::try_from(BURST).unwrap() - 1 - UNANSWERED_CAP);
        assert!(crowds.enter(Crowd::Below(1), now).is_none(), "a connection is no way around it");
        other.ask(now).unwrap();
        now += REFILL;
        loud.ask(now).unwrap();
        assert!(loud.ask(now).is_err() && !loud.is_shut());
        while loud.ask(now).is_err() && !loud.is_shut() {}
        assert!(loud.is_shut());
    }

    #[test]
    fn nobody_is_remembered_for_longer_than_it_matters() {
        let (crowds, now) = (Crowds::new(CAPS), Instant::now());
        (0..1_000).for_each(|pid| drop(crowds.enter(Crowd::Process(pid), now)));
        assert_eq!(crowds.lock().len(), 1_000);
        drop(crowds.enter(Crowd::Process(0), now + REFILL * 2));
        assert_eq!(crowds.lock().len(), 1);
    }
}
