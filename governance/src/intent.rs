//! Intent: what somebody wants to run, said and signed before anything is authorized (phase 1).

use std::collections::{BTreeMap, BTreeSet};

use evidence::{
    cose::{KeySet, PublicKey, Purpose, SigningKey},
    digest::Sha256Digest,
    names::{DomainName, NodeId},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, Kind},
    denial::GovernanceDenial,
    isolation::{self, Isolation},
    on_halt::OnHalt,
    scope::Scope,
    text::Text,
};

/// Version of the record.
pub const INTENT_VERSION: u8 = 1;
/// Longest encoded intent, in bytes.
pub const INTENT_CAP_BYTES: usize = 48 * 1024;
/// Most arguments of a workload, its program included.
pub const ARGV_CAP: usize = 128;
/// Longest argument, in bytes.
pub const ARGUMENT_CAP_BYTES: usize = 4096;
/// Most environment names that a workload may see.
pub const ENVIRONMENT_CAP: usize = 64;
/// Longest environment name, in bytes.
pub const ENVIRONMENT_NAME_CAP_BYTES: usize = 128;
/// Most domains in one intent.
pub const DOMAINS_CAP: usize = 16;

const KIND: Kind = Kind { name: "intent", cap_bytes: INTENT_CAP_BYTES };

/// What will run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Program and arguments, given to exec as they are.
    pub argv: Vec<String>,
    /// Names of environment variables that reach the workload. Names that steer the dynamic linker are refused: they
    /// would change what runs after its digest was taken.
    pub environment: BTreeSet<String>,
    /// SHA-256 of the executable file.
    pub executable: Sha256Digest,
    /// A cgroup v2 directory whose processes run already and are governed from now on, for as long as all of them run this
    /// executable when that begins. Nothing is started then; none: the executable is.
    pub attach: Option<Text>,
    /// Manifest of the OCI image that it runs in (OCI Image Format 1.1, "Image Manifest"): its files are the image's, the
    /// executable one of them. None: the machine's files, which are measured with it.
    ///
    /// Left out where there is none, so that who knows of no images reads every other intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Sha256Digest>,
}

/// Which domains must authorize.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Domains {
    /// Each of these.
    All(BTreeSet<DomainName>),
    /// At least `k` of these.
    Quorum {
        /// How many.
        k: u8,
        /// Of which.
        of: BTreeSet<DomainName>,
    },
}

impl Domains {
    /// The domains named.
    #[must_use]
    pub const fn named(&self) -> &BTreeSet<DomainName> {
        match self {
            Self::All(of) | Self::Quorum { of, .. } => of,
        }
    }

    /// How many of them must authorize.
    #[must_use]
    pub fn needed(&self) -> usize {
        match self {
            Self::All(of) => of.len(),
            Self::Quorum { k, .. } => usize::from(*k),
        }
    }

    /// Refuses unless enough of the named domains are among `authorized`. A domain counts once, a stranger not at all.
    ///
    /// # Errors
    /// [`GovernanceDenial::MissingAuthorization`].
    pub fn met_by<'a>(&self, authorized: impl IntoIterator<Item = &'a DomainName>) -> Result<(), GovernanceDenial> {
        let counted: BTreeSet<_> = authorized.into_iter().filter(|domain| self.named().contains(domain)).collect();
        let (got, needed) = (counted.len(), self.needed());
        if needed == 0 || got < needed {
            return Err(GovernanceDenial::MissingAuthorization { got, needed });
        }
        Ok(())
    }
}

/// The record that starts an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// [`INTENT_VERSION`].
    pub version: u8,
    /// Who asks, as the node authenticated them.
    pub requester: Text,
    /// What will run.
    pub workload: Workload,
    /// What it may reach.
    pub scope: Scope,
    /// How it is kept apart from the rest of the machine.
    pub isolation: Isolation,
    /// What a halt does to it.
    pub on_halt: OnHalt,
    /// Who must authorize.
    pub domains: Domains,
    /// Artifacts of the parent execution by the domain that issued each, as digests; none for an execution without parent.
    pub parents: BTreeMap<DomainName, Sha256Digest>,
    /// Where it will run.
    pub node: NodeId,
    /// The node's clock when it was made: attribution only, freshness comes from the challenge.
    pub created_at: UnixSeconds,
    /// P-256 key of the execution's SVIDs, made by its node for it alone.
    pub svid_key: PublicKey,
    /// Random, so that two equal requests are two executions.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 16],
}

impl Intent {
    /// Its deterministic CBOR.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when a field breaks its rule or the whole is too long.
    pub fn encode(&self) -> Result<Vec<u8>, GovernanceDenial> {
        self.bounded()?;
        codec::write(KIND, self)
    }

    /// Reads an intent; every rule is checked.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn decode(bytes: &[u8]) -> Result<Self, GovernanceDenial> {
        let intent: Self = codec::read(KIND, bytes)?;
        intent.bounded()?;
        Ok(intent)
    }

    /// SHA-256 of its deterministic CBOR: its name in challenges, artifacts and records.
    ///
    /// # Errors
    /// As for [`Intent::encode`].
    pub fn digest(&self) -> Result<Sha256Digest, GovernanceDenial> {
        Ok(Sha256Digest::of(&self.encode()?))
    }

    /// Signs it with the node's record key, for one of the domains that are asked: its digest is the same for all of them,
    /// and no signature counts at another.
    ///
    /// # Errors
    /// As for [`Intent::encode`].
    pub fn sign(&self, domain: &DomainName, record_key: &SigningKey) -> Result<Vec<u8>, GovernanceDenial> {
        codec::sign(KIND, Purpose::Intent, domain, &self.encode()?, record_key)
    }

    /// Reads an intent of `node` that was signed for `domain`: by that node's record key, and about that node.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn verify(
        bytes: &[u8],
        domain: &DomainName,
        node: &NodeId,
        record_keys: &KeySet,
    ) -> Result<VerifiedIntent, GovernanceDenial> {
        let signed = codec::verify(KIND, Purpose::Intent, domain, bytes, record_keys)?;
        let intent = Self::decode(signed.payload())?;
        if intent.node != *node {
            return Err(GovernanceDenial::Node { what: KIND.name, got: intent.node, expected: node.clone() });
        }
        Ok(VerifiedIntent { digest: Sha256Digest::of(signed.payload()), intent })
    }

    /// What an intent to govern what runs already must not ask for, because it cannot be given: the first of it.
    fn attached(&self) -> Option<(&'static str, &'static str)> {
        let Workload { argv, environment, attach, image, .. } = &self.workload;
        let asks = |name: &str| self.scope.capabilities.iter().any(|capability| capability.as_str() == name);
        let rules = [
            (attach.as_ref().is_none_or(isolation::plain_path), "workload.attach", "an absolute path without . and .."),
            (argv.len() == 1, "workload.argv", "only the program of what runs already"),
            (environment.is_empty(), "workload.environment", "none for what runs already"),
            (image.is_none(), "workload.image", "none for what runs already: only its runtime says which one that is"),
            (
                self.scope.keys.is_empty(),
                "scope.keys",
                "none for what runs already: it has no descriptor to read one from",
            ),
            (self.isolation == Isolation::default(), "isolation", "none for what runs already"),
            (self.on_halt != OnHalt::RevokeKeys, "on_halt", "kill, freeze or drain for what runs already"),
            (asks(ATTACH_CAPABILITY), "scope.capabilities", "`attach` for what runs already"),
        ];
        rules.into_iter().find_map(|(kept, field, rule)| (!kept).then_some((field, rule)))
    }

    fn bounded(&self) -> Result<(), GovernanceDenial> {
        codec::version(KIND.name, self.version, INTENT_VERSION)?;
        let refuse = |field, rule| Err(GovernanceDenial::FieldInvalid { what: KIND.name, field, rule });
        let argv = &self.workload.argv;
        if argv.is_empty() || argv.len() > ARGV_CAP {
            return refuse("workload.argv", "1 to 128 arguments");
        }
        if argv.iter().any(|a| a.len() > ARGUMENT_CAP_BYTES || a.contains('\0')) {
            return refuse("workload.argv", "arguments of at most 4096 bytes, none with a zero byte");
        }
        if argv.first().is_none_or(String::is_empty) {
            return refuse("workload.argv", "the program is named");
        }
        if self.workload.environment.len() > ENVIRONMENT_CAP {
            return refuse("workload.environment", "at most 64 names");
        }
        if !self.workload.environment.iter().all(|name| environment_name(name)) {
            return refuse("workload.environment", "names of A-Z a-z 0-9 _, not steering the dynamic linker");
        }
        if self.workload.attach.is_some() {
            self.attached().map_or(Ok(()), |(field, rule)| refuse(field, rule))?;
        }
        let (named, needed) = (self.domains.named().len(), self.domains.needed());
        if named == 0 || named > DOMAINS_CAP || needed == 0 || needed > named {
            return refuse("domains", "1 to 16 domains, and no more needed than named");
        }
        self.isolation.bounded(KIND.name)?;
        if self.workload.image.is_some() && !self.isolation.privileges.is_empty() {
            return refuse("isolation.privileges", "none in an image: it runs in a user namespace of its own");
        }
        if self.parents.len() > DOMAINS_CAP {
            return refuse("parents", "artifacts of at most 16 domains");
        }
        if let Some((field, rule)) = self.svid_fault() {
            return refuse(field, rule);
        }
        self.on_halt.bounded(KIND.name)?;
        self.scope.bounded(KIND.name)
    }
}

/// Capability that an intent must ask for to govern what runs already.
pub const ATTACH_CAPABILITY: &str = "attach";

fn environment_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        && bytes.len() <= ENVIRONMENT_NAME_CAP_BYTES
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
        && !name.starts_with("LD_")
        && !matches!(name, "GLIBC_TUNABLES" | "GCONV_PATH")
}

/// An intent that its node signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedIntent {
    intent: Intent,
    digest: Sha256Digest,
}

impl VerifiedIntent {
    /// What it says.
    #[must_use]
    pub const fn intent(&self) -> &Intent {
        &self.intent
    }

    /// SHA-256 of its deterministic CBOR.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }
}
