//! A token bucket per peer: what one node or address can make us do is bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use evidence::names::NodeId;

/// Full buckets are forgotten above this many.
const SWEEP_ABOVE: usize = 4096;

/// By node.
pub type PerNode = PerPeer<NodeId>;

/// Admits a burst, then a steady rate, for each peer by itself.
#[derive(Debug)]
pub struct PerPeer<K> {
    burst: u32,
    refill: Duration,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    used: u32,
    since: Instant,
}

impl<K: Clone + Eq + Hash> PerPeer<K> {
    /// `burst` at once, and one more every `refill`.
    pub fn new(burst: u32, refill: Duration) -> Self {
        Self { burst, refill, buckets: Mutex::default() }
    }

    /// Whether this peer may once more.
    pub fn admits(&self, peer: &K) -> bool {
        self.at(peer, Instant::now())
    }

    fn at(&self, peer: &K, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > SWEEP_ABOVE {
            buckets.retain(|_, bucket| self.refilled(*bucket, now).used > 0);
        }
        let bucket = buckets.entry(peer.clone()).or_insert(Bucket { used: 0, since: now });
        *bucket = self.refilled(*bucket, now);
        let admitted = bucket.used < self.burst;
        if admitted {
            bucket.used = bucket.used.saturating_add(1);
        }
        admitted
    }

    fn refilled(&self, bucket: Bucket, now: Instant) -> Bucket {
        let elapsed = now.saturating_duration_since(bucket.since);
        let tokens = elapsed.as_millis().checked_div(self.refill.as_millis()).unwrap_or(u128::MAX);
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        if tokens == 0 {
            return bucket;
        }
        let since = bucket.since.checked_add(self.refill.saturating_mul(tokens)).unwrap_or(now);
        Bucket { used: bucket.used.saturating_sub(tokens), since }
    }
}

/// Counts within the running minute, for each peer by itself.
#[derive(Debug)]
pub(crate) struct PerMinute<K>(Mutex<HashMap<K, (Instant, u32)>>);

impl<K> Default for PerMinute<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> PerMinute<K> {
    /// Counts one more of this peer's: the how many-th in its minute it is.
    pub(crate) fn count(&self, peer: &K) -> u32 {
        self.at(peer, Instant::now())
    }

    fn at(&self, peer: &K, now: Instant) -> u32 {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = counts.entry(peer.clone()).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= MINUTE {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_rate_for_each_node_by_itself() {
        let rate = PerNode::new(3, Duration::from_secs(2));
        let (one, two) = (NodeId::new("one").unwrap(), NodeId::new("two").unwrap());
        let start = Instant::now();
        assert_eq!((0..5).filter(|_| rate.at(&one, start)).count(), 3);
        assert!(rate.at(&two, start));
        assert!(!rate.at(&one, start + Duration::from_secs(1)));
        assert!(rate.at(&one, start + Duration::from_secs(2)));
        assert!(!rate.at(&one, start + Duration::from_secs(3)));
        assert_eq!((0..9).filter(|_| rate.at(&one, start + Duration::from_secs(600))).count(), 3);
    }

    #[test]
    fn a_count_begins_anew_after_a_minute_for_each_peer_by_itself() {
        let (counts, start) = (PerMinute::default(), Instant::now());
        assert_eq!([0, 1, 59].map(|s| counts.at(&"a", start + Duration::from_secs(s))), [1, 2, 3]);
        assert_eq!(counts.at(&"b", start), 1);
        assert_eq!(counts.at(&"a", start + MINUTE), 1);
    }
}
