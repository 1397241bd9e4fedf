use std::convert::Infallible;

use super::*;
use rand_core::{TryCryptoRng, TryRng};

/// Enough of a generator for tests: SHA-256 of a counter.
struct Counted(u64);

impl TryRng for Counted {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for byte in out {
            self.0 += 1;
            *byte = Sha256Digest::of(&self.0.to_be_bytes()).0[0];
        }
        Ok(())
    }
}

impl TryCryptoRng for Counted {}

fn name(text: &str) -> ItemName {
    ItemName::new(text).unwrap()
}

fn shares(seed: u64, key: &[u8], need: u8, of: u8) -> Vec<KeyShare> {
    split(&name("db"), key, need, of, &[7; SALT_BYTES], Counted(seed << 32)).unwrap()
}

fn some(of: &[KeyShare], which: &[usize]) -> Vec<KeyShare> {
    which.iter().map(|at| KeyShare::new(of[*at].header.clone(), of[*at].secret.clone()).unwrap()).collect()
}

fn code(shares: &[KeyShare]) -> &'static str {
    join(&name("db"), shares).unwrap_err().code()
}

#[test]
fn any_enough_shares_join_to_the_key_in_any_order_and_fewer_do_not() {
    for (need, of) in [(2, 2), (2, 3), (3, 5), (16, 16)] {
        let all = shares(1, b"a key of some length", need, of);
        assert_eq!(all.len(), usize::from(of));
        let last: Vec<usize> = (0..all.len()).rev().take(usize::from(need)).collect();
        assert_eq!(**join(&name("db"), &some(&all, &last)).unwrap(), *b"a key of some length");
        assert_eq!(**join(&name("db"), &all).unwrap(), *b"a key of some length");
        assert_eq!(code(&some(&all, &last[1..])), "governance.key_incomplete");
    }
    assert_eq!(code(&[]), "governance.key_incomplete");
}

#[test]
fn one_share_of_two_is_as_likely_under_every_key() {
    // The first share of a byte is key + coefficient * 1: over all coefficients each value comes once, whatever the key.
    for key in [0_u8, 1, 255] {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..8_000 {
            seen.insert(shares(seed, &[key], 2, 2)[0].secret[SALT_BYTES]);
        }
        assert_eq!(seen.len(), 256, "key {key}");
    }
}

#[test]
fn a_share_that_was_altered_is_refused_wherever_it_is_read() {
    let all = shares(1, b"key", 2, 3);
    let file = all[0].encode().unwrap();
    assert_eq!(KeyShare::decode(&file).unwrap().header(), all[0].header());
    for bit in 0..file.len() * 8 {
        let mut bent = file.to_vec();
        bent[bit / 8] ^= 1 << (bit % 8);
        let joined = KeyShare::decode(&bent).and_then(|bent| {
            let mut two = some(&all, &[1]);
            two.push(bent);
            join(&name("db"), &two)
        });
        assert!(joined.is_err(), "bit {bit}");
    }
    let other = KeyShare::new(all[0].header.clone(), all[1].secret.clone()).unwrap_err();
    assert_eq!(other.code(), "governance.key_share_invalid");
}

#[test]
fn shares_of_two_splittings_of_another_key_and_twice_the_same_do_not_join() {
    let (all, again) = (shares(1, b"key", 2, 3), shares(2, b"key", 2, 3));
    let mut mixed = some(&all, &[0]);
    mixed.extend(some(&again, &[1]));
    assert_eq!(code(&mixed), "governance.key_mixed");
    assert_eq!(code(&some(&all, &[0, 0])), "governance.key_repeated");
    assert_eq!(join(&name("other"), &all).unwrap_err().code(), "governance.key_share_foreign");
}

#[test]
fn a_group_whose_shares_give_another_key_than_it_commits_to_is_refused() {
    let all = shares(1, b"key", 2, 3);
    let group = ShareGroup { commitment: commitment(&[7; SALT_BYTES], b"yek"), ..all[0].header.group.clone() };
    let of = |share: &KeyShare| {
        let header = ShareHeader { group: group.clone(), index: share.header.index };
        KeyShare::new(header, share.secret.clone()).unwrap()
    };
    assert_eq!(code(&[of(&all[0]), of(&all[1])]), "governance.key_unjoined");
}

#[test]
fn numbers_out_of_bounds_split_nothing() {
    let split = |key: &[u8], need, of| split(&name("db"), key, need, of, &[7; SALT_BYTES], Counted(0));
    for (need, of) in [(0, 2), (1, 1), (1, 3), (3, 2), (2, 17)] {
        assert_eq!(split(b"key", need, of).unwrap_err().code(), "governance.field_invalid", "{need} of {of}");
    }
    assert!(split(b"", 2, 3).is_err());
    assert!(split(&[0; SPLIT_KEY_CAP_BYTES + 1], 2, 3).is_err());
    assert!(split(&[0; SPLIT_KEY_CAP_BYTES], 16, 16).unwrap()[15].encode().is_ok());
}

#[test]
fn nobody_sees_a_share_by_printing_it() {
    let all = shares(1, b"key", 2, 3);
    assert!(!format!("{:?}", all[0]).contains("secret"));
}
