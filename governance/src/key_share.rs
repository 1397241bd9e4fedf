//! A key split among domains, k of n: fewer than k shares say nothing about it, and k of them are known to be the right
//! ones before and after they are joined.
//!
//! What is shared is a random salt and the key. The group that every share carries holds a digest of each share and a
//! digest of salt and key; since the salt is as secret as the key, neither helps to guess a key that has little entropy.
//! The sharing itself is Shamir's over GF(256), byte by byte.

use evidence::{digest::Sha256Digest, names::ItemName};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use crate::{
    codec::{self, Kind},
    denial::GovernanceDenial,
};

#[cfg(test)]
#[path = "key_share_tests.rs"]
mod tests;

/// Version of groups and share files.
pub const SHARE_VERSION: u8 = 1;
/// Most shares of one key: as many as an intent can name domains.
pub const SHARES_CAP: u8 = 16;
/// Fewest shares that join: with one, each holder could release the key alone.
pub const NEED_MIN: u8 = 2;
/// Longest key that is split, in bytes.
pub const SPLIT_KEY_CAP_BYTES: usize = 4_000;
/// Longest encoded header, in bytes.
pub const SHARE_HEADER_CAP_BYTES: usize = 1_024;
/// Longest share file, in bytes.
pub const SHARE_FILE_CAP_BYTES: usize = SHARE_HEADER_CAP_BYTES + SALT_BYTES + SPLIT_KEY_CAP_BYTES + 64;
/// Length of the salt that is shared with the key.
pub const SALT_BYTES: usize = 32;

const HEADER: Kind = Kind { name: "share header", cap_bytes: SHARE_HEADER_CAP_BYTES };
const FILE: Kind = Kind { name: "key share", cap_bytes: SHARE_FILE_CAP_BYTES };

/// What all shares of one splitting agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareGroup {
    /// [`SHARE_VERSION`].
    pub version: u8,
    /// The key's name.
    pub name: ItemName,
    /// How many shares join.
    pub need: u8,
    /// Digest of salt and key.
    pub commitment: Sha256Digest,
    /// Digest of each share, by its index from 1.
    pub shares: Vec<Sha256Digest>,
}

/// What goes with a share wherever it goes. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareHeader {
    /// Its group.
    pub group: ShareGroup,
    /// Which share it is, from 1.
    pub index: u8,
}

/// A share: its header, and bytes that are wiped when it is dropped.
pub struct KeyShare {
    header: ShareHeader,
    secret: Zeroizing<Vec<u8>>,
}

/// The form of a share in its file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    header: ShareHeader,
    #[serde(with = "serde_bytes")]
    share: Vec<u8>,
}

impl ShareGroup {
    /// How many shares there are.
    #[must_use]
    pub fn of(&self) -> u8 {
        u8::try_from(self.shares.len()).unwrap_or(u8::MAX)
    }

    /// Names the group: SHA-256 over everything in it.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule that it breaks.
    pub fn id(&self) -> Result<Sha256Digest, GovernanceDenial> {
        self.bounded()?;
        Ok(Sha256Digest::of(&codec::write(HEADER, self)?))
    }

    fn bounded(&self) -> Result<(), GovernanceDenial> {
        codec::version(HEADER.name, self.version, SHARE_VERSION)?;
        let of = self.shares.len();
        if of > usize::from(SHARES_CAP) || self.need < NEED_MIN || usize::from(self.need) > of {
            let rule = "2 to 16 shares, and no more needed than there are";
            return Err(GovernanceDenial::FieldInvalid { what: HEADER.name, field: "need", rule });
        }
        Ok(())
    }
}

impl ShareHeader {
    /// Its deterministic CBOR.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule that it breaks.
    pub fn encode(&self) -> Result<Vec<u8>, GovernanceDenial> {
        self.bounded()?;
        codec::write(HEADER, self)
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule that it breaks.
    pub fn decode(bytes: &[u8]) -> Result<Self, GovernanceDenial> {
        let header: Self = codec::read(HEADER, bytes)?;
        header.bounded()?;
        Ok(header)
    }

    /// The digest that the group names for this share.
    fn expected(&self) -> Option<&Sha256Digest> {
        self.group.shares.get(usize::from(self.index).checked_sub(1)?)
    }

    fn bounded(&self) -> Result<(), GovernanceDenial> {
        self.group.bounded()?;
        match self.expected() {
            Some(_) => Ok(()),
            None => {
                let rule = "one of the group's, from 1";
                Err(GovernanceDenial::FieldInvalid { what: HEADER.name, field: "index", rule })
            }
        }
    }
}

impl KeyShare {
    /// A share that came with its header: it must be the one that its group names.
    ///
    /// # Errors
    /// [`GovernanceDenial::KeyShareInvalid`].
    pub fn new(header: ShareHeader, secret: Zeroizing<Vec<u8>>) -> Result<Self, GovernanceDenial> {
        header.bounded()?;
        if header.expected() != Some(&share_digest(header.index, &secret)) {
            let (name, index) = (header.group.name, header.index);
            return Err(GovernanceDenial::KeyShareInvalid { name, index });
        }
        Ok(Self { header, secret })
    }

    /// What it is.
    #[must_use]
    pub const fn header(&self) -> &ShareHeader {
        &self.header
    }

    /// Its bytes.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// As it stands in its file.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule that it breaks.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, GovernanceDenial> {
        let mut written = Written { header: self.header.clone(), share: self.secret.to_vec() };
        let bytes = codec::write(FILE, &written).map(Zeroizing::new);
        zeroize::Zeroize::zeroize(&mut written.share);
        bytes
    }

    /// Reads a share file.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule that it breaks, [`GovernanceDenial::KeyShareInvalid`] for altered bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, GovernanceDenial> {
        let Written { header, share } = codec::read(FILE, bytes)?;
        Self::new(header, Zeroizing::new(share))
    }
}

impl std::fmt::Debug for KeyShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyShare").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Splits a key: any `need` of the `of` shares join to it. `salt` is random, and `random` the source of everything else.
///
/// # Errors
/// [`GovernanceDenial::FieldInvalid`] for numbers or lengths that are out of bounds.
pub fn split(
    name: &ItemName,
    key: &[u8],
    need: u8,
    of: u8,
    salt: &[u8; SALT_BYTES],
    random: impl CryptoRng,
) -> Result<Vec<KeyShare>, GovernanceDenial> {
    let refuse = |field, rule| GovernanceDenial::FieldInvalid { what: FILE.name, field, rule };
    if !(NEED_MIN..=SHARES_CAP).contains(&of) || !(NEED_MIN..=of).contains(&need) {
        return Err(refuse("need", "2 to 16 shares, and no more needed than there are"));
    }
    if key.is_empty() || key.len() > SPLIT_KEY_CAP_BYTES {
        return Err(refuse("key", "1 to 4000 bytes"));
    }
    let whole = Zeroizing::new([salt.as_slice(), key].concat());
    let shares = Gf256::split_bytes(usize::from(need), usize::from(of), whole.as_slice(), random)
        .map_err(|_| refuse("need", "2 to 16 shares, and no more needed than there are"))?;
    // The library puts the index, counted from 1, before the share.
    let shares: Vec<(u8, Zeroizing<Vec<u8>>)> = shares
        .into_iter()
        .map(Zeroizing::new)
        .filter_map(|share| share.split_first().map(|(index, rest)| (*index, Zeroizing::new(rest.to_vec()))))
        .collect();
    let group = ShareGroup {
        version: SHARE_VERSION,
        name: name.clone(),
        need,
        commitment: commitment(salt, key),
        shares: shares.iter().map(|(index, share)| share_digest(*index, share)).collect(),
    };
    let header = |index| ShareHeader { group: group.clone(), index };
    shares.into_iter().map(|(index, share)| KeyShare::new(header(index), share)).collect()
}

/// Joins the shares of the key of this name.
///
/// # Errors
/// [`GovernanceDenial`]: shares of another key, of several groups, one twice, too few, or what they give is not the key
/// that was split.
pub fn join(name: &ItemName, shares: &[KeyShare]) -> Result<Zeroizing<Vec<u8>>, GovernanceDenial> {
    let incomplete = |needed| GovernanceDenial::KeyIncomplete { name: name.clone(), got: shares.len(), needed };
    let first = shares.first().ok_or_else(|| incomplete(usize::from(NEED_MIN)))?;
    let group = &first.header.group;
    if group.name != *name {
        return Err(GovernanceDenial::KeyShareForeign { name: name.clone(), got: group.name.clone() });
    }
    let mut taken: Vec<u8> = Vec::with_capacity(shares.len());
    for share in shares {
        if share.header.group != *group {
            let (got, expected) = (share.header.group.id()?.to_string(), group.id()?.to_string());
            return Err(GovernanceDenial::KeyMixed { name: name.clone(), got, expected });
        }
        if taken.contains(&share.header.index) {
            return Err(GovernanceDenial::KeyRepeated { name: name.clone() });
        }
        taken.push(share.header.index);
    }
    let need = usize::from(group.need);
    let enough = shares.get(..need).ok_or_else(|| incomplete(need))?;
    let points: Zeroizing<Vec<Vec<u8>>> =
        Zeroizing::new(enough.iter().map(|share| [&[share.header.index], share.secret.as_slice()].concat()).collect());
    let unjoined = || GovernanceDenial::KeyUnjoined { name: name.clone() };
    let whole = Gf256::combine_bytes(points.as_slice()).map(Zeroizing::new).map_err(|_| unjoined())?;
    let (salt, key) = whole.split_first_chunk::<SALT_BYTES>().ok_or_else(unjoined)?;
    if commitment(salt, key) != group.commitment {
        return Err(unjoined());
    }
    Ok(Zeroizing::new(key.to_vec()))
}

fn commitment(salt: &[u8; SALT_BYTES], key: &[u8]) -> Sha256Digest {
    Sha256Digest::labelled("attestd/split-key/1", &[salt, key])
}

fn share_digest(index: u8, share: &[u8]) -> Sha256Digest {
    Sha256Digest::labelled("attestd/key-share/1", &[&[index], share])
}
