//! The one place that draws randomness: the operating system's, through aws-lc-rs.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

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
}
