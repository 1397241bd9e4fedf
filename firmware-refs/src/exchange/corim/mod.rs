//! CoRIM (draft-ietf-rats-corim-11): reference values in CBOR, bare or in a COSE_Sign1.
//!
//! Reference triples of CoMID tags are read; every other kind of tag and triple is listed as a loss. Which values they
//! are is said by the profile: AMD's for SEV-SNP, Intel's for TDX, Parsec's for TPM PCRs.

mod envelope;
mod export;
mod model;
mod profile;
mod snp;
mod tdx;
mod tpm;

use std::collections::BTreeMap;

use evidence::{digest::Digest, time::UnixSeconds};

pub use self::export::{export, export_signed};
use self::{
    model::{Comid, Corim},
    profile::Profile,
};
use super::{
    IMPORT_CAP_BYTES, ImportDenial, Imported, Losses, Origin, Voucher, cap,
    cbor::{self, Budget},
    signers::AllowedSigner,
    within,
};
use crate::document::SetDocument;
use crate::text::Text;

/// Tags of CoRIM (draft-ietf-rats-corim-11 §4 and §5): an unsigned CoRIM map, the older wrappers of either kind, a
/// CoMID.
const TAG_UNSIGNED: u64 = 501;
const TAG_ANY: u64 = 500;
const TAG_SIGNED: u64 = 502;
const TAG_COSE_SIGN1: u64 = 18;
const TAG_COMID: u64 = 506;

/// Reads a signed CoRIM by one of the allowed signers into a draft.
///
/// # Errors
/// [`ImportDenial`]; [`ImportDenial::Unsigned`] for one without signature.
pub fn import(
    bytes: &[u8],
    base: SetDocument,
    signers: &[AllowedSigner],
    now: UnixSeconds,
) -> Result<Imported, ImportDenial> {
    cap(bytes, IMPORT_CAP_BYTES)?;
    let mut budget = Budget::default();
    let message = envelope::open(bytes, &mut budget, signers, &base.environment)?;
    let origin = Origin::of("corim", bytes, Voucher::Signer(message.by.kid()));
    let mut base = base;
    within(&mut base, message.not_before, message.not_after, now)?;
    let corim = Corim::read(&cbor::read(message.payload, &mut budget)?, &mut budget)?;
    let profile = Profile::of(&corim)?;
    message.by.may_speak_of(profile.hardware())?;
    draft(&corim, profile, base, &origin, now)
}

/// Reads a CoRIM that nobody signed. Whoever could write the file chose the values: the draft says so in every source,
/// and can only be staged.
///
/// # Errors
/// [`ImportDenial`].
pub fn import_unsigned(bytes: &[u8], base: SetDocument, now: UnixSeconds) -> Result<Imported, ImportDenial> {
    cap(bytes, IMPORT_CAP_BYTES)?;
    let mut budget = Budget::default();
    let item = cbor::read(bytes, &mut budget)?;
    let inner = item.tagged(TAG_ANY).unwrap_or(&item);
    if inner.tagged(TAG_COSE_SIGN1).or(inner.tagged(TAG_SIGNED)).is_some() {
        return Err(ImportDenial::malformed(item.offset, "a signed CoRIM: give its signers"));
    }
    let corim = Corim::read(inner, &mut budget)?;
    let origin = Origin::of("corim", bytes, Voucher::Nobody);
    draft(&corim, Profile::of(&corim)?, base, &origin, now)
}

fn draft(
    corim: &Corim<'_>,
    profile: Profile,
    mut base: SetDocument,
    origin: &Origin,
    now: UnixSeconds,
) -> Result<Imported, ImportDenial> {
    within(&mut base, corim.not_before, corim.not_after, now)?;
    let mut losses = Losses::default();
    corim.losses(&mut losses);
    let comids = corim.in_force(&mut losses)?;
    if comids.iter().all(|comid| comid.triples.is_empty()) {
        return Err(ImportDenial::Empty);
    }
    let values = Values { comids: &comids, origin, losses: &mut losses };
    match profile {
        Profile::Snp => values.snp(&mut base)?,
        Profile::Tdx => values.tdx(&mut base)?,
        Profile::Tpm => values.tpm(&mut base)?,
    }
    tags(&comids, &mut base)?;
    origin.draft(base, losses)
}

/// Names the tags that the set's values come from from now on.
fn tags(comids: &[&Comid<'_>], base: &mut SetDocument) -> Result<(), ImportDenial> {
    for comid in comids {
        let tag = comid.tag();
        if base.tag.iter().any(|known| known.collides(&tag)) {
            return Err(ImportDenial::TagCollision { tag: tag.id });
        }
        base.tag.retain(|known| known.id != tag.id);
        base.tag.push(tag);
    }
    base.tag.sort();
    Ok(())
}

/// The tags in force, on their way into a document.
struct Values<'c> {
    comids: &'c [&'c Comid<'c>],
    origin: &'c Origin,
    losses: &'c mut Losses,
}

/// Adds what the file accepts, each digest once: the first source that gives it is told.
fn add(all: &mut BTreeMap<Digest, Text>, digest: Digest, source: &Text) {
    all.entry(digest).or_insert_with(|| source.clone());
}
