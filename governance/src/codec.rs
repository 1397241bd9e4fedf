//! Reading and writing of this crate's records: deterministic CBOR with a cap, signed as COSE_Sign1.

use evidence::{
    cbor::{self, Caps},
    cose::{self, KeySet, Purpose, Signed, SigningKey},
    names::{DomainName, NodeId},
    threshold::Authority,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::denial::GovernanceDenial;

/// Name of a kind of record and its cap.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// As it stands in denials.
    pub(crate) name: &'static str,
    /// Longest payload, in bytes.
    pub(crate) cap_bytes: usize,
}

/// What the outer COSE structure adds to a payload at most.
const COSE_CAP_BYTES: usize = 512;

pub(crate) fn write<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, GovernanceDenial> {
    let bytes = cbor::to_vec(value)
        .map_err(|cause| GovernanceDenial::Malformed { what: kind.name, cause: cause.to_string() })?;
    within(kind.name, bytes.len(), kind.cap_bytes)?;
    Ok(bytes)
}

/// Reads a record and refuses any encoding that its value would not be written in (a set with a repeated member, say).
pub(crate) fn read<T: Serialize + DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, GovernanceDenial> {
    within(kind.name, bytes.len(), kind.cap_bytes)?;
    let malformed = |cause: String| GovernanceDenial::Malformed { what: kind.name, cause };
    let value: T = cbor::from_slice(bytes, Caps::bytes(kind.cap_bytes)).map_err(|e| malformed(e.to_string()))?;
    let again = cbor::to_vec(&value).map_err(|e| malformed(e.to_string()))?;
    if again == bytes { Ok(value) } else { Err(malformed("not the encoding of its own value".into())) }
}

pub(crate) fn sign(
    kind: Kind,
    purpose: Purpose,
    domain: &DomainName,
    payload: &[u8],
    key: &SigningKey,
) -> Result<Vec<u8>, GovernanceDenial> {
    cose::sign1(purpose, domain, payload, key)
        .map_err(|cause| GovernanceDenial::SignatureInvalid { what: kind.name, cause })
}

pub(crate) fn verify(
    kind: Kind,
    purpose: Purpose,
    domain: &DomainName,
    bytes: &[u8],
    keys: &KeySet,
) -> Result<Signed, GovernanceDenial> {
    within(kind.name, bytes.len(), kind.cap_bytes.saturating_add(COSE_CAP_BYTES))?;
    cose::verify1(purpose, domain, bytes, keys)
        .map_err(|cause| GovernanceDenial::SignatureInvalid { what: kind.name, cause })
}

pub(crate) fn verify_threshold<B: AsRef<[u8]>>(
    kind: Kind,
    purpose: Purpose,
    domain: &DomainName,
    statements: &[B],
    authority: &Authority,
) -> Result<Vec<u8>, GovernanceDenial> {
    for statement in statements {
        within(kind.name, statement.as_ref().len(), kind.cap_bytes.saturating_add(COSE_CAP_BYTES))?;
    }
    match authority.verify(purpose, domain, statements) {
        Ok(signed) => Ok(signed.payload().to_vec()),
        Err(cause) => Err(GovernanceDenial::ThresholdNotMet { what: kind.name, cause }),
    }
}

/// Refuses a node's record that was made for another domain than `told`, or by another node.
pub(crate) fn addressed(
    what: &'static str,
    (domain, told): (&DomainName, &DomainName),
    (got, node): (&NodeId, &NodeId),
) -> Result<(), GovernanceDenial> {
    if domain != told {
        return Err(GovernanceDenial::Domain { what, got: domain.clone(), expected: told.clone() });
    }
    if got != node {
        return Err(GovernanceDenial::Node { what, got: got.clone(), expected: node.clone() });
    }
    Ok(())
}

pub(crate) fn version(what: &'static str, got: u8, expected: u8) -> Result<(), GovernanceDenial> {
    if got == expected { Ok(()) } else { Err(GovernanceDenial::Version { what, got, expected }) }
}

fn within(what: &'static str, got_bytes: usize, cap_bytes: usize) -> Result<(), GovernanceDenial> {
    if got_bytes > cap_bytes {
        return Err(GovernanceDenial::TooLarge { what, got_bytes, cap_bytes });
    }
    Ok(())
}
