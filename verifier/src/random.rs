//! The one place that draws randomness: the operating system's, through aws-lc-rs.

use std::convert::Infallible;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use hpke::rand_core::{TryCryptoRng, TryRng};
use thiserror::Error;
use zeroize::Zeroizing;

/// The operating system gave no randomness: nothing that needs some can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the operating system gives no randomness")]
pub struct NoRandomness;

/// `N` fresh random bytes.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).map_err(|_| NoRandomness)?;
    Ok(out)
}

/// Randomness that was drawn before: the system may have none, and whoever takes it from a generator cannot say so.
pub(crate) struct Drawn {
    left: Zeroizing<Vec<u8>>,
    short: bool,
}

impl Drawn {
    /// So many bytes.
    pub(crate) fn of(count: usize) -> Result<Self, NoRandomness> {
        let mut left = Zeroizing::new(vec![0; count]);
        SystemRandom::new().fill(&mut left).map_err(|_| NoRandomness)?;
        Ok(Self { left, short: false })
    }

    /// More was taken than was drawn: what was made of it is not to be used.
    pub(crate) fn is_short(&self) -> bool {
        self.short
    }

    fn take(&mut self, out: &mut [u8]) {
        for byte in out {
            match self.left.pop() {
                Some(random) => *byte = random,
                None => self.short = true,
            }
        }
    }
}

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.take(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.take(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.take(out);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// A verifier whose nonces became a constant accepted yesterday's quotes (CVE-2026-6420; APPRAISAL.md §3 row 5).
    #[test]
    fn row_5_a_hundred_thousand_nonces_do_not_repeat_and_every_bit_moves() {
        let mut seen = HashSet::new();
        let mut ones = [0u32; 256];
        for _ in 0..100_000 {
            let nonce: [u8; 32] = bytes().unwrap();
            for (bit, count) in ones.iter_mut().enumerate() {
                *count += u32::from(nonce[bit / 8] >> (bit % 8) & 1);
            }
            assert!(seen.insert(nonce), "a nonce came twice");
        }
        // Mean 50,000, standard deviation 158: eight deviations leave no honest failure.
        assert!(ones.iter().all(|count| (48_735..=51_265).contains(count)), "a bit is stuck or biased: {ones:?}");
    }

    #[test]
    fn randomness_is_never_made_up() {
        let mut drawn = Drawn::of(64).unwrap();
        drawn.take(&mut [0; 64]);
        assert!(!drawn.is_short());
        drawn.take(&mut [0; 1]);
        assert!(drawn.is_short());
    }
}
