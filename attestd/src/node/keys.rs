//! Execution keys as a workload gets them: opened one by one, and joined where they were split among domains.

use std::collections::{BTreeMap, BTreeSet};

use evidence::names::ItemName;
use governance::GovernanceDenial;
use governance::key_share::{KeyShare, ShareHeader, join};
use zeroize::Zeroizing;

use super::refused::Refused;
use crate::gateway::ExecutionKey;
use crate::locked::Locked;

/// What one domain gave of a key, opened: wiped when it is dropped.
pub(crate) struct Opened {
    pub(crate) name: ItemName,
    /// Which share it is; none for a whole key.
    pub(crate) share: Option<ShareHeader>,
    pub(crate) material: Locked,
}

/// What came of one name.
#[derive(Default)]
struct Pieces {
    whole: Vec<Locked>,
    shares: Vec<KeyShare>,
}

/// Each key that the intent names, whole: from one domain that owns it, or from enough shares of different domains.
pub(crate) fn complete(names: &BTreeSet<ItemName>, opened: Vec<Opened>) -> Result<Vec<ExecutionKey>, Refused> {
    let mut pieces: BTreeMap<ItemName, Pieces> = BTreeMap::new();
    for Opened { name, share, material } in opened {
        let of = pieces.entry(name).or_default();
        match share {
            None => of.whole.push(material),
            Some(header) => {
                of.shares.push(KeyShare::new(header, Zeroizing::new(material.as_slice().to_vec()))?);
            }
        }
    }
    names.iter().map(|name| key(name, pieces.remove(name).unwrap_or_default())).collect()
}

fn key(name: &ItemName, Pieces { mut whole, shares }: Pieces) -> Result<ExecutionKey, Refused> {
    let material = match (whole.pop(), shares.first()) {
        (Some(_), _) if !whole.is_empty() => return Err(GovernanceDenial::KeyRepeated { name: name.clone() }.into()),
        (Some(_), Some(share)) => {
            let (got, expected) = (share.header().group.id()?.to_string(), "a whole key".to_owned());
            return Err(GovernanceDenial::KeyMixed { name: name.clone(), got, expected }.into());
        }
        (Some(whole), None) => whole,
        (None, Some(_)) => Locked::copy_of(&join(name, &shares)?)?,
        (None, None) => {
            return Err(GovernanceDenial::KeyIncomplete { name: name.clone(), got: 0, needed: 1 }.into());
        }
    };
    Ok(ExecutionKey::new(name.to_string(), material))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ItemName {
        ItemName::new(text).unwrap()
    }

    fn whole(name_of: &str) -> Opened {
        Opened { name: name(name_of), share: None, material: Locked::copy_of(&[7; 32]).unwrap() }
    }

    #[test]
    fn a_key_comes_whole_from_one_domain_and_every_name_is_needed() {
        let names = BTreeSet::from([name("a"), name("b")]);
        let keys = complete(&names, vec![whole("a"), whole("b")]).unwrap();
        assert_eq!(keys.iter().map(ExecutionKey::name).collect::<Vec<_>>(), ["a", "b"]);
        let code = |opened| complete(&names, opened).err().unwrap().code;
        assert_eq!(code(vec![whole("a")]), "governance.key_incomplete");
        assert_eq!(code(vec![whole("a"), whole("b"), whole("a")]), "governance.key_repeated");
    }
}
