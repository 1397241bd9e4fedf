//! Calculated values as a set to be read, signed and staged: what an artifact says, on the base of what only an author
//! can say (which platforms, which floors, which policy).

use std::collections::{BTreeMap, BTreeSet};

use evidence::{digest::Digest, names::ItemName, register::Register, time::UnixSeconds};

use crate::document::{
    Accepted, EventReference, ImaBuffer, ImaFile, ImaReferences, PcrReference, SetDocument, TpmDocument,
    derivation::{Artifact, Derivation},
    snp::IdBlock,
    tdx::{RtmrEventReference, RtmrReference, TdxDocument},
};
use crate::fields::Hex;
use crate::set::{IMA_PCR, ReferenceValueSet, SetError};
use crate::text::{Moment, Text};

/// Values calculated from artifacts.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Name of the set.
    pub id: ItemName,
    /// Why this version exists.
    pub reason: Text,
    /// When it is written.
    pub now: UnixSeconds,
    /// What becomes of the base's values for the same registers.
    pub earlier: Earlier,
    /// What calculated the values.
    pub method: Text,
    /// With which parameters, each as `name value`.
    pub parameters: Vec<Text>,
    /// From which artifacts.
    pub artifacts: Vec<Artifact>,
    /// The values.
    pub values: Vec<ComputedValue>,
    /// Files that IMA measures into PCR 10; empty where the base's are not touched.
    pub files: Vec<MeasuredFile>,
    /// What is measured beside them. Only beside files.
    pub buffers: Vec<MeasuredBuffer>,
    /// Paths that are not judged: exact, or a folder that ends in `/`. Only beside files.
    pub exclude: Vec<String>,
    /// The ID block that the guest is launched with, and its signers.
    pub id_block: Option<(super::snp::IdBlock, super::snp::IdAuth)>,
}

/// What becomes of values that the base has for the same registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// They are no longer accepted.
    Replaced,
    /// They are accepted too.
    Kept,
}

/// The value of one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputedValue {
    /// The register.
    pub register: ComputedRegister,
    /// Its value.
    pub value: Digest,
    /// How it was found.
    pub origin: Origin,
    /// Everything that is measured into it and stands in the firmware's log, in order; empty where no log tells.
    pub events: Vec<PredictedEvent>,
}

/// A file as IMA measures it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredFile {
    /// Absolute path on the machine.
    pub path: String,
    /// Hash of its contents.
    pub digest: Digest,
}

/// A buffer as IMA measures it: a key loaded onto a keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredBuffer {
    /// Name under which it is recorded: the keyring's.
    pub name: String,
    /// Hash of its contents.
    pub digest: Digest,
}

/// How a value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It follows from the artifacts.
    Derived,
    /// A machine's event log leads to it: look at what it measured.
    Replayed,
}

/// Registers whose values follow from artifacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ComputedRegister {
    /// MEASUREMENT of SNP reports.
    Measurement,
    /// MRTD of TDX quotes.
    MrTd,
    /// RTMR of TDX quotes.
    Rtmr(u8),
    /// PCR of a TPM.
    Pcr(u8),
}

/// An event that a log will hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredictedEvent {
    /// Its type, as TCG names it.
    pub kind: &'static str,
    /// What it is, in words.
    pub description: String,
    /// What is extended.
    pub digest: Digest,
}

/// Why no set can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// The base is for another kind of machine.
    #[error("the base has no section that {register} belongs to: start from a set for that kind of machine")]
    OtherMachine {
        /// The register.
        register: Register,
    },
    /// The base's bank is another than the values'.
    #[error("the base quotes the bank {base}, the values are {values}")]
    OtherBank {
        /// Bank of the base.
        base: evidence::digest::HashAlg,
        /// Bank of the values.
        values: evidence::digest::HashAlg,
    },
    /// A register that is judged by events cannot accept a second value beside the first.
    #[error("the base judges {register} by its events: replace them, or write a set of its own")]
    JudgedByEvents {
        /// The register.
        register: Register,
    },
    /// What came of it is no usable set.
    #[error(transparent)]
    Set(#[from] SetError),
}

impl From<ComputedRegister> for Register {
    fn from(register: ComputedRegister) -> Self {
        match register {
            ComputedRegister::Measurement => Self::Measurement,
            ComputedRegister::MrTd => Self::MrTd,
            ComputedRegister::Rtmr(index) => Self::Rtmr(index),
            ComputedRegister::Pcr(index) => Self::Pcr(index),
        }
    }
}

impl Proposal {
    /// The set: the base with these values, in its next version where it keeps its name, for as long as the base held.
    ///
    /// # Errors
    /// [`ProposalError`].
    pub fn on(self, base: SetDocument) -> Result<ReferenceValueSet, ProposalError> {
        let version = if self.id == base.id { base.version.saturating_add(1) } else { 1 };
        let lifetime_s = base.not_after.at().0.saturating_sub(base.not_before.at().0);
        let mut set = SetDocument {
            id: self.id.clone(),
            version,
            reason: self.reason.clone(),
            issued_at: self.now.into(),
            not_before: self.now.into(),
            not_after: Moment::from(self.now.plus(lifetime_s)),
            ..base
        };
        let id = free_id(&set);
        let new = |origin| {
            let how = match origin {
                Origin::Derived => "computed by",
                Origin::Replayed => "replayed from a machine's event log by",
            };
            let source = Text::lossy(&format!("{how} {}", self.method));
            New { earlier: self.earlier, source, from: id.clone() }
        };
        for value in &self.values {
            new(value.origin).put(&mut set, value)?;
        }
        let new = new(Origin::Derived);
        if !self.files.is_empty() {
            let other = ProposalError::OtherMachine { register: Register::Pcr(IMA_PCR) };
            new.files(set.tpm.as_mut().ok_or(other)?, &self);
        }
        if let Some((block, auth)) = &self.id_block {
            let register = Register::IdKeyDigest;
            let snp = set.snp.as_mut().ok_or(ProposalError::OtherMachine { register })?;
            (snp.family_id, snp.image_id) = (vec![Hex(block.family_id)], vec![Hex(block.image_id)]);
            snp.guest_svn = block.guest_svn;
            let author_key = auth.author_key.map(|key| new.accepted(key)).into_iter().collect();
            snp.id_block = IdBlock::Signed { id_key: vec![new.accepted(auth.id_key)], author_key };
        }
        let Self { method, parameters, artifacts: artifact, .. } = self;
        set.derivation.push(Derivation { id, method, parameters, artifact });
        let used: BTreeSet<ItemName> = set.accepted().filter_map(|accepted| accepted.from.clone()).collect();
        set.derivation.retain(|derivation| used.contains(&derivation.id));
        Ok(ReferenceValueSet::from_document(set)?)
    }
}

/// What the new values have in common.
struct New {
    earlier: Earlier,
    source: Text,
    from: ItemName,
}

impl New {
    fn accepted(&self, digest: Digest) -> Accepted {
        Accepted { digest, source: self.source.clone(), from: Some(self.from.clone()) }
    }

    fn put(&self, set: &mut SetDocument, value: &ComputedValue) -> Result<(), ProposalError> {
        let other = ProposalError::OtherMachine { register: value.register.into() };
        match value.register {
            ComputedRegister::Pcr(index) => self.pcr(set.tpm.as_mut().ok_or(other)?, index, value),
            ComputedRegister::Rtmr(index) => self.rtmr(set.tdx.as_mut().ok_or(other)?, index, value),
            ComputedRegister::MrTd => {
                self.add(&mut set.tdx.as_mut().ok_or(other)?.mrtd, value.value);
                Ok(())
            }
            ComputedRegister::Measurement => {
                self.add(&mut set.snp.as_mut().ok_or(other)?.measurement, value.value);
                Ok(())
            }
        }
    }

    fn add(&self, values: &mut Vec<Accepted>, digest: Digest) {
        match self.earlier {
            Earlier::Replaced => values.clear(),
            Earlier::Kept => values.retain(|value| value.digest != digest),
        }
        values.push(self.accepted(digest));
    }

    /// The whole value, because order matters; and its events, so that a denial can name the one that differs.
    fn pcr(&self, tpm: &mut TpmDocument, index: u8, value: &ComputedValue) -> Result<(), ProposalError> {
        let (base, values) = (tpm.bank, value.value.alg());
        if base != values {
            return Err(ProposalError::OtherBank { base, values });
        }
        self.refuse_second(tpm.event.iter().any(|event| event.pcr == index), value)?;
        if !tpm.pcrs.contains(&index) {
            tpm.pcrs.push(index);
            tpm.pcrs.sort_unstable();
        }
        match tpm.pcr.iter_mut().find(|pcr| pcr.index == index) {
            Some(pcr) => self.add(&mut pcr.accept, value.value),
            None => tpm.pcr.push(PcrReference { index, accept: vec![self.accepted(value.value)] }),
        }
        tpm.event.retain(|event| event.pcr != index);
        if self.earlier == Earlier::Replaced && tpm.require_event_log {
            tpm.event.extend(distinct(value).map(|event| EventReference {
                pcr: index,
                kind: Text::lossy(event.kind),
                description: Text::lossy(&event.description),
                accept: vec![self.accepted(event.digest)],
                optional: false,
            }));
        }
        Ok(())
    }

    /// PCR 10 is judged by its files from now on: its whole value depends on the order in which they are used.
    fn files(&self, tpm: &mut TpmDocument, proposal: &Proposal) {
        if !tpm.pcrs.contains(&IMA_PCR) {
            tpm.pcrs.push(IMA_PCR);
            tpm.pcrs.sort_unstable();
        }
        tpm.require_ima_log = true;
        tpm.pcr.retain(|pcr| pcr.index != IMA_PCR);
        let earlier = tpm.ima.take().filter(|_| self.earlier == Earlier::Kept);
        let mut ima = earlier.unwrap_or(ImaReferences { exclude: Vec::new(), file: Vec::new(), buffer: Vec::new() });
        let new: Vec<_> = proposal.exclude.iter().filter(|path| !ima.exclude.contains(path)).cloned().collect();
        ima.exclude.extend(new);
        let files = self.beside(
            ima.file.into_iter().map(|file| (file.path, file.accept)),
            proposal.files.iter().map(|file| (&file.path, file.digest)),
        );
        let buffers = self.beside(
            ima.buffer.into_iter().map(|buffer| (buffer.name, buffer.accept)),
            proposal.buffers.iter().map(|buffer| (&buffer.name, buffer.digest)),
        );
        ima.file = files.into_iter().map(|(path, accept)| ImaFile { path, accept }).collect();
        ima.buffer = buffers.into_iter().map(|(name, accept)| ImaBuffer { name, accept }).collect();
        tpm.ima = Some(ima);
    }

    /// What is known under each name, and the new digests, each once.
    fn beside<'n>(
        &self,
        known: impl Iterator<Item = (String, Vec<Accepted>)>,
        new: impl Iterator<Item = (&'n String, Digest)>,
    ) -> BTreeMap<String, Vec<Accepted>> {
        let mut all: BTreeMap<String, Vec<Accepted>> = known.collect();
        for (name, digest) in new {
            let accept = all.entry(name.clone()).or_default();
            accept.retain(|accepted| accepted.digest != digest);
            accept.push(self.accepted(digest));
        }
        all
    }

    fn rtmr(&self, tdx: &mut TdxDocument, index: u8, value: &ComputedValue) -> Result<(), ProposalError> {
        self.refuse_second(tdx.event.iter().any(|event| event.rtmr == index), value)?;
        match tdx.rtmr.iter_mut().find(|rtmr| rtmr.index == index) {
            Some(rtmr) => self.add(&mut rtmr.accept, value.value),
            None => tdx.rtmr.push(RtmrReference { index, accept: vec![self.accepted(value.value)] }),
        }
        tdx.event.retain(|event| event.rtmr != index);
        if self.earlier == Earlier::Replaced && tdx.require_event_log {
            tdx.event.extend(distinct(value).map(|event| RtmrEventReference {
                rtmr: index,
                kind: Text::lossy(event.kind),
                description: Text::lossy(&event.description),
                accept: vec![self.accepted(event.digest)],
                optional: false,
            }));
        }
        Ok(())
    }

    fn refuse_second(&self, has_events: bool, value: &ComputedValue) -> Result<(), ProposalError> {
        if self.earlier == Earlier::Kept && has_events {
            return Err(ProposalError::JudgedByEvents { register: value.register.into() });
        }
        Ok(())
    }
}

/// Each digest once: a set says what may be measured, the whole value says in which order and how often.
fn distinct(value: &ComputedValue) -> impl Iterator<Item = &PredictedEvent> {
    let events = value.events.iter().enumerate();
    let is_first = |(at, event): &(usize, &PredictedEvent)| {
        !value.events.iter().take(*at).any(|earlier| earlier.digest == event.digest)
    };
    events.filter(move |found| is_first(found)).map(|(_, event)| event)
}

/// `computed-1`, or the next number that no calculation of the set has.
fn free_id(set: &SetDocument) -> ItemName {
    let is_free = |name: &ItemName| !set.derivation.iter().any(|derivation| derivation.id == *name);
    (1u64..)
        .find_map(|number| ItemName::new(format!("computed-{number}")).ok().filter(is_free))
        .unwrap_or_else(|| set.id.clone())
}
