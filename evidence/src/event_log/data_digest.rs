//! E5: which bytes of an event's data its digest covers (PFP §10.4.1, column "digest").

use super::{
    EventLog,
    event::{DigestOf, Event, EventType},
    uefi::Variable,
};
use crate::{
    denial::EvidenceDenial,
    digest::{Digest, HashAlg},
};

/// What a digest covers of the event data beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataBinding {
    /// All of it.
    Whole,
    /// The variable's value, not its name (EV_EFI_VARIABLE_BOOT of firmware that follows EDK II).
    VariableData,
    /// All but the last byte: a terminating NUL, or the byte too many that shim before 15.3 logs.
    AllButLastByte,
    /// What follows the boot loader's own prefix (GRUB commands and kernel command lines in EV_IPL).
    AfterPrefix,
    /// Nothing: the digest is of something else, the data is for display alone.
    Nothing,
}

impl DataBinding {
    /// In words, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::VariableData => "variable-data",
            Self::AllButLastByte => "all-but-last-byte",
            Self::AfterPrefix => "after-prefix",
            Self::Nothing => "display-only",
        }
    }
}

/// The coverings that are right for a type; none when its digest is not of the data.
const fn demanded(kind: EventType) -> &'static [DataBinding] {
    use DataBinding::{AllButLastByte, VariableData, Whole};
    match kind.digest_of() {
        DigestOf::Data => &[Whole],
        DigestOf::DataOrVariable => &[Whole, VariableData],
        DigestOf::Text => &[Whole, AllButLastByte],
        DigestOf::Opaque => &[],
    }
}

/// Prefixes that boot loaders log but do not measure: GRUB's tpm module, and Red Hat's form of it.
const LOADER_PREFIXES: [&[u8]; 6] = [
    b"grub_cmd: ",
    b"grub_cmd ",
    b"kernel_cmdline: ",
    b"grub_kernel_cmdline ",
    b"module_cmdline: ",
    b"grub_module_cmdline ",
];

impl<'a> Event<'a> {
    /// Whether the data of this type of event must hash to its digest.
    #[must_use]
    pub fn is_digest_of_data(&self) -> bool {
        !demanded(self.kind()).is_empty()
    }

    /// What of the data the digest in the bank of `alg` covers: found by hashing, not by the event's type.
    #[must_use]
    pub fn data_binding(&self, alg: HashAlg) -> DataBinding {
        let Some(digest) = self.digest(alg).filter(|_| self.is_extended()) else { return DataBinding::Nothing };
        [DataBinding::Whole, DataBinding::AllButLastByte, DataBinding::VariableData, DataBinding::AfterPrefix]
            .into_iter()
            .find(|binding| self.is_bound(*binding, &digest))
            .unwrap_or(DataBinding::Nothing)
    }

    fn is_bound(&self, binding: DataBinding, digest: &Digest) -> bool {
        let is = |bytes: &[u8]| digest.alg().hash(&[bytes]) == *digest;
        match binding {
            DataBinding::Whole => is(self.data()),
            DataBinding::AllButLastByte => self.data().split_last().is_some_and(|(_, bytes)| is(bytes)),
            DataBinding::VariableData => self.variable().is_some_and(|variable| is(variable.data)),
            DataBinding::AfterPrefix => self
                .after_prefix()
                .is_some_and(|text| is(text) || text.split_last().is_some_and(|(last, bytes)| *last == 0 && is(bytes))),
            DataBinding::Nothing => false,
        }
    }

    pub(super) fn variable(&self) -> Option<Variable<'a>> {
        let holds_variable = matches!(
            self.kind(),
            EventType::EfiVariableBoot
                | EventType::EfiVariableBoot2
                | EventType::EfiVariableDriverConfig
                | EventType::EfiVariableAuthority
        );
        Variable::parse(self).ok().filter(|_| holds_variable)
    }

    fn after_prefix(&self) -> Option<&'a [u8]> {
        LOADER_PREFIXES
            .iter()
            .find_map(|prefix| self.data().strip_prefix(*prefix))
            .filter(|_| self.kind() == EventType::Ipl)
    }
}

pub(super) fn verify(log: &EventLog<'_>, alg: HashAlg) -> Result<(), EvidenceDenial> {
    for event in log.events() {
        let Some(recorded) = event.digest(alg).filter(|_| event.is_digest_of_data()) else { continue };
        if !demanded(event.kind()).iter().any(|binding| event.is_bound(*binding, &recorded)) {
            return Err(EvidenceDenial::EventDataMismatch {
                event: event.index(),
                pcr: event.pcr(),
                kind: event.kind().name(),
                got: Box::new(alg.hash(&[event.data()])),
                recorded: Box::new(recorded),
            });
        }
    }
    Ok(())
}
