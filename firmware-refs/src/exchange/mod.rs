//! Exchange of reference values with the formats of others: bytes in, a set out, and back.
//!
//! No foreign format says all that a set must say (which platforms, which floors, which policy bits), and leaving
//! such a thing open is not a choice. So an import starts from a base: a set document of the importing domain. What
//! the file speaks of replaces what the base says of it; everything else is the base's. What a file says and a set
//! cannot hold is refused, or listed as a [`Loss`] for people to read: never dropped in silence.
//!
//! An import yields a draft, which can only be staged: nothing is active before the policy authority signed it
//! ([`crate::signed`]), whoever signed the file.

mod cbor;
pub mod corim;
pub mod denial;
pub mod keylime;
pub mod signers;
pub mod snp_measure;

use std::collections::BTreeSet;

use evidence::{
    cose::KeyId,
    digest::{Digest, Sha256Digest},
    time::UnixSeconds,
};

pub use self::denial::ImportDenial;
use crate::document::{Accepted, SET_CAP_BYTES, SetDocument};
use crate::set::ReferenceValueSet;
use crate::text::{Moment, Text};

/// Longest file that is imported, in bytes.
pub const IMPORT_CAP_BYTES: usize = 16 << 20;

/// Something that one format says and the other cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    /// Where it stands in the source.
    pub at: Text,
    /// What becomes of it, in words.
    pub what: Text,
}

/// Who vouches for an imported file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voucher {
    /// This key, of the signers that were allowed for the environment and the kind of hardware.
    Signer(KeyId),
    /// Nobody: the caller asked for an unsigned import by name.
    Nobody,
}

impl std::fmt::Display for Voucher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signer(kid) => write!(f, "signed by {kid}"),
            Self::Nobody => f.write_str("unsigned"),
        }
    }
}

/// What an import made of a file: a draft that can be signed and staged, and nothing else.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The draft.
    pub set: ReferenceValueSet,
    /// SHA-256 of the file.
    pub file: Sha256Digest,
    /// Who vouches for it.
    pub voucher: Voucher,
    /// What the set does not hold of it, ascending, once each.
    pub losses: Vec<Loss>,
}

/// What an export wrote.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The file.
    pub bytes: Vec<u8>,
    /// What it does not hold of the set, ascending, once each.
    pub losses: Vec<Loss>,
}

/// Losses as they are found, each once. At most [`LOSSES_CAP`] are told one by one.
#[derive(Debug, Default)]
struct Losses {
    told: BTreeSet<Loss>,
    untold: usize,
}

/// Most losses told one by one.
pub const LOSSES_CAP: usize = 1000;

impl Losses {
    fn add(&mut self, at: &str, what: &str) {
        let loss = Loss { at: Text::lossy(at), what: Text::lossy(what) };
        if self.told.len() < LOSSES_CAP {
            self.told.insert(loss);
        } else if !self.told.contains(&loss) {
            self.untold = self.untold.saturating_add(1);
        }
    }

    fn into_vec(self) -> Vec<Loss> {
        let rest = (self.untold > 0).then(|| Loss {
            at: Text::lossy("…"),
            what: Text::lossy(&format!("{} further losses of these kinds", self.untold)),
        });
        self.told.into_iter().chain(rest).collect()
    }
}

/// Where a file comes from, said in every value that is taken from it.
#[derive(Clone, Debug)]
struct Origin {
    format: &'static str,
    file: Sha256Digest,
    voucher: Voucher,
}

impl Origin {
    fn of(format: &'static str, bytes: &[u8], voucher: Voucher) -> Self {
        Self { format, file: Sha256Digest::of(bytes), voucher }
    }

    fn source(&self, part: &str) -> Text {
        Text::lossy(&format!("{} sha256:{} {}{part}", self.format, self.file, self.voucher))
    }

    /// The draft: checked as a whole, and short enough to be signed.
    fn draft(&self, mut document: SetDocument, losses: Losses) -> Result<Imported, ImportDenial> {
        let reason = format!("{} (from {} sha256:{}, {})", document.reason, self.format, self.file, self.voucher);
        document.reason = Text::lossy(&reason);
        // Calculations of values that the file replaced.
        let used: BTreeSet<_> = document.accepted().filter_map(|accepted| accepted.from.clone()).collect();
        document.derivation.retain(|derivation| used.contains(&derivation.id));
        let set = ReferenceValueSet::from_document(document)?;
        let signed_bytes = set.to_cbor().map_err(crate::set::SetError::from)?.len();
        if signed_bytes > SET_CAP_BYTES {
            return Err(ImportDenial::TooLarge { got_bytes: signed_bytes, cap_bytes: SET_CAP_BYTES });
        }
        Ok(Imported { set, file: self.file, voucher: self.voucher.clone(), losses: losses.into_vec() })
    }
}

/// Reads our own authored form.
///
/// # Errors
/// [`ImportDenial::SetUnusable`].
pub fn toml(bytes: &[u8]) -> Result<Imported, ImportDenial> {
    cap(bytes, SET_CAP_BYTES)?;
    let text = std::str::from_utf8(bytes).map_err(|e| ImportDenial::malformed(e.valid_up_to(), "text is not UTF-8"))?;
    let set = ReferenceValueSet::from_toml(text)?;
    Ok(Imported { set, file: Sha256Digest::of(bytes), voucher: Voucher::Nobody, losses: Vec::new() })
}

fn cap(bytes: &[u8], cap_bytes: usize) -> Result<(), ImportDenial> {
    let got_bytes = bytes.len();
    if got_bytes > cap_bytes { Err(ImportDenial::TooLarge { got_bytes, cap_bytes }) } else { Ok(()) }
}

/// Narrows the time in which the draft holds to that in which the file does, and refuses a file out of its time.
fn within(
    document: &mut SetDocument,
    not_before: Option<UnixSeconds>,
    not_after: Option<UnixSeconds>,
    now: UnixSeconds,
) -> Result<(), ImportDenial> {
    if let Some(begins) = not_before {
        if now < begins {
            return Err(ImportDenial::NotYetValid { not_before: begins.into(), now: now.into() });
        }
        document.not_before = document.not_before.max(Moment::from(begins));
    }
    if let Some(ends) = not_after {
        if now >= ends {
            return Err(ImportDenial::Expired { not_after: ends.into(), now: now.into() });
        }
        document.not_after = document.not_after.min(Moment::from(ends));
    }
    Ok(())
}

fn accepted(digests: impl IntoIterator<Item = (Digest, Text)>) -> Vec<Accepted> {
    digests.into_iter().map(|(digest, source)| Accepted { digest, source, from: None }).collect()
}
