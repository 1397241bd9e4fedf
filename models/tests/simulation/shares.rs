//! The execution key, split among the domains with the real scheme; every set of shares was tried once.

use std::{collections::BTreeSet, convert::Infallible};

use evidence::names::ItemName;
use governance::key_share::{KeyShare, join, split};
use rand_core::{TryCryptoRng, TryRng};

use super::{DOMAINS, NEEDED, random::Random};

pub(crate) struct Shares {
    joining: BTreeSet<BTreeSet<usize>>,
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::try_from(self.within(0, u64::from(u32::MAX))).expect("32 bits"))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.within(0, u64::MAX - 1))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.iter_mut().for_each(|byte| *byte = u8::try_from(self.within(0, 255)).expect("a byte"));
        Ok(())
    }
}

impl TryCryptoRng for Random {}

impl Shares {
    pub(crate) fn joined() -> Self {
        let (name, key) = (ItemName::new("db").expect("name"), [7; 32]);
        let of = u8::try_from(DOMAINS).expect("small");
        let shares = split(&name, &key, NEEDED, of, &[1; 32], Random::seeded(0)).expect("split");
        let files: Vec<_> = shares.iter().map(|share| share.encode().expect("encoded")).collect();
        let joining = (0..1_usize << DOMAINS).filter_map(|set| {
            let holders: BTreeSet<usize> = (0..DOMAINS).filter(|domain| set >> domain & 1 == 1).collect();
            let held: Vec<_> =
                holders.iter().map(|domain| KeyShare::decode(&files[*domain]).expect("decoded")).collect();
            join(&name, &held).is_ok_and(|joined| *joined == key).then_some(holders)
        });
        Self { joining: joining.collect() }
    }

    /// Whether the shares of these domains give the key.
    pub(crate) fn join(&self, domains: &BTreeSet<usize>) -> bool {
        self.joining.contains(domains)
    }
}
