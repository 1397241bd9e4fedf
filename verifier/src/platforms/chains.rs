//! What was verified of vendors' chains, kept by the digests of what it was verified from.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Verified chains by what they were verified from. Whether one still holds is asked of it each time.
#[derive(Debug)]
pub(crate) struct Verified<K, V> {
    cap: usize,
    kept: Mutex<HashMap<K, Arc<V>>>,
}

impl<K: Eq + Hash + Clone, V> Verified<K, V> {
    /// Keeps at most `cap` chains at once; beyond it one is forgotten for each that comes.
    pub(crate) fn keeping(cap: usize) -> Self {
        Self { cap, kept: Mutex::default() }
    }

    /// The chain kept under `key` if it `holds`, else what `verify` makes, kept from now on.
    pub(crate) fn get<E>(
        &self,
        key: K,
        holds: impl FnOnce(&V) -> bool,
        verify: impl FnOnce() -> Result<V, E>,
    ) -> Result<Arc<V>, E> {
        let kept = self.lock().get(&key).cloned();
        if let Some(kept) = kept.filter(|kept| holds(kept)) {
            return Ok(kept);
        }
        let verified = Arc::new(verify()?);
        let mut all = self.lock();
        if all.len() >= self.cap && !all.contains_key(&key) {
            let any = all.keys().next().cloned();
            any.and_then(|any| all.remove(&any));
        }
        all.insert(key, verified.clone());
        Ok(verified)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<V>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_verified_once_until_it_no_longer_holds_and_never_kept_when_refused() {
        let cap = 64;
        let chains = Verified::<u32, u32>::keeping(cap);
        let got = |key, holds: bool, made: Result<u32, ()>| chains.get(key, |_| holds, || made).map(|chain| *chain);
        assert_eq!(got(1, true, Err(())), Err(()));
        assert_eq!(got(1, true, Ok(10)), Ok(10));
        assert_eq!(got(1, true, Err(())), Ok(10));
        assert_eq!(got(1, false, Err(())), Err(()));
        assert_eq!(got(1, false, Ok(11)), Ok(11));
        for key in 0..2 * u32::try_from(cap).unwrap() {
            got(key, true, Ok(key)).unwrap();
        }
        assert_eq!(chains.lock().len(), cap);
    }
}
