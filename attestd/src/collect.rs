//! From a challenge to Evidence: node key, binding, quote, certification, logs.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use evidence::binding::Binding;
use evidence::cbor::CborError;
use evidence::challenge::Demands;
use evidence::digest::{Digest, HashAlg, Sha256Digest};
use evidence::tpm::attest::ClockInfo;
use evidence::tpm::evidence::{EVENT_LOG_CAP_BYTES, IMA_LOG_CAP_BYTES, TpmEvidence, TpmParts};
use evidence::tpm::pcr::{PcrSelection, PcrSet, PcrValues};
use tokio::sync::Mutex;
use wire::bounded::FieldDenial;
use wire::bounded::verifier::ChallengeTerms;
use wire::proto;

use crate::config::{LogsConfig, UNBOUND_PCRS};
use crate::state::StateDir;
use crate::tpm::Tpm;
use crate::tpm::error::TpmError;
use crate::tpm::objects::{AttestationKey, KeyFault, NodeKey};

/// What this node asked the verifier to challenge it about, on which connection.
#[derive(Clone, Debug)]
pub struct Asked {
    /// SPIFFE ID of the verifier of the configured domain.
    pub audience: String,
    /// Digest of the intent, or of the live artifacts, or of a capture (`wire::protocol`).
    pub subject: Sha256Digest,
    /// Newest lineage record that the request named.
    pub lineage_head: Sha256Digest,
    /// TLS exporter of the connection.
    pub channel: [u8; 32],
}

/// A verifier's challenge, found to be about what was asked.
#[derive(Clone, Debug)]
pub struct Demand {
    asked: Asked,
    nonce: [u8; 32],
    epoch: u64,
    quoted: PcrSelection,
    node_key_bound_to: PcrSelection,
    event_log: bool,
    ima_log: bool,
}

/// Why a challenge is not answered: it is not about what this node asked, or asks for what must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeDenial {
    /// Not within the protocol's bounds.
    #[error("challenge: {0}")]
    Malformed(#[from] FieldDenial),
    /// Another verifier's challenge: it would be relayed Evidence.
    #[error("challenge is for another audience than {want}")]
    Audience {
        /// The configured verifier.
        want: String,
    },
    /// About something that this node did not ask.
    #[error("challenge is about {got}, this node asked about {want}")]
    Subject {
        /// In the challenge.
        got: Sha256Digest,
        /// Asked.
        want: Sha256Digest,
    },
    /// The node key would be bound to a PCR that can be reset or changes at run time (APPRAISAL T11).
    #[error("node key would be bound to PCR {pcr}, which is resettable or changes at run time")]
    Unbindable {
        /// The PCR.
        pcr: u8,
    },
    /// The node key would be bound to a PCR that is not quoted, so nobody could tell to what.
    #[error("node key would be bound to PCR {pcr}, which is not quoted")]
    BoundButNotQuoted {
        /// The PCR.
        pcr: u8,
    },
}

impl ChallengeDenial {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "evidence.challenge_malformed",
            Self::Audience { .. } => "evidence.challenge_audience",
            Self::Subject { .. } => "evidence.challenge_subject",
            Self::Unbindable { .. } | Self::BoundButNotQuoted { .. } => "evidence.challenge_node_key_pcrs",
        }
    }
}

impl Demand {
    /// Takes a challenge that answers what was asked.
    ///
    /// # Errors
    /// [`ChallengeDenial`].
    pub fn accept(challenge: &proto::Challenge, asked: Asked) -> Result<Self, ChallengeDenial> {
        let terms = ChallengeTerms::try_from(challenge.clone())?;
        if terms.audience != asked.audience {
            return Err(ChallengeDenial::Audience { want: asked.audience });
        }
        if terms.subject != asked.subject {
            return Err(ChallengeDenial::Subject { got: terms.subject, want: asked.subject });
        }
        let kinds = FieldDenial { field: "demand", rule: "not of the kind that this node enrolled as" };
        let Demands::Tpm(demand) = terms.demands else { return Err(kinds.into()) };
        let quoted = pcr_set("pcrs", &demand.pcrs)?;
        let bound = pcr_set("node_key_pcrs", &demand.node_key_pcrs)?;
        if let Some(pcr) = bound.iter().find(|pcr| UNBOUND_PCRS.contains(pcr)) {
            return Err(ChallengeDenial::Unbindable { pcr });
        }
        if let Some(pcr) = bound.iter().find(|pcr| !quoted.contains(*pcr)) {
            return Err(ChallengeDenial::BoundButNotQuoted { pcr });
        }
        Ok(Self {
            asked,
            nonce: terms.nonce,
            epoch: terms.epoch,
            quoted: PcrSelection { bank: demand.pcr_bank, pcrs: quoted },
            node_key_bound_to: PcrSelection { bank: demand.pcr_bank, pcrs: bound },
            event_log: demand.event_log,
            ima_log: demand.ima_log,
        })
    }

    /// A demand of nobody: for people who want to see what Evidence of this machine looks like. Its binding names no
    /// verifier and no connection, so it answers no verifier's challenge. `None` if no PCR of `quoted` can bind a key.
    #[must_use]
    pub fn for_inspection(nonce: [u8; 32], quoted: PcrSelection, logs: &LogsConfig) -> Option<Self> {
        let bound = quoted.pcrs.without(PcrSet::of(&UNBOUND_PCRS)?);
        let (subject, lineage_head) = (Sha256Digest::ZERO, Sha256Digest::ZERO);
        let asked = Asked { audience: String::new(), subject, lineage_head, channel: [0; 32] };
        let (event_log, ima_log) = (logs.event_log.is_some(), logs.ima_log.is_some());
        let node_key_bound_to = PcrSelection { bank: quoted.bank, pcrs: bound };
        let demand = Self { asked, nonce, epoch: 0, quoted, node_key_bound_to, event_log, ima_log };
        (!bound.is_empty()).then_some(demand)
    }

    /// The verifier's governance epoch.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The PCRs that are quoted.
    #[must_use]
    pub const fn quoted(&self) -> PcrSelection {
        self.quoted
    }
}

fn pcr_set(field: &'static str, indices: &[u8]) -> Result<PcrSet, FieldDenial> {
    PcrSet::of(indices).ok_or(FieldDenial { field, rule: "not PCR indices" })
}

/// Why Evidence could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectFault {
    /// A key, the TPM or the state directory.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The verifier needs a log that this node has not configured.
    #[error("the verifier needs the {log}, and logs.{key} is not configured")]
    LogNotConfigured {
        /// Which log.
        log: &'static str,
        /// Configuration key.
        key: &'static str,
    },
    /// A log could not be read.
    #[error("reading {log} {path}: {source}")]
    LogUnreadable {
        /// Which log.
        log: &'static str,
        /// Its path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A log is longer than a verifier takes.
    #[error("{log} has more than {cap_bytes} bytes")]
    LogTooLarge {
        /// Which log.
        log: &'static str,
        /// The cap.
        cap_bytes: usize,
    },
    /// The parts do not fit together; a defect here.
    #[error("evidence cannot be assembled: {0}")]
    Assembly(String),
}

impl CollectFault {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Key(fault) => fault.code(),
            Self::Tpm(error) => error.code(),
            Self::LogNotConfigured { .. } => "fault.log_not_configured",
            Self::LogUnreadable { .. } => "fault.log_unreadable",
            Self::LogTooLarge { .. } => "fault.log_too_large",
            Self::Assembly(_) => "fault.bug",
        }
    }
}

impl From<CborError> for CollectFault {
    fn from(error: CborError) -> Self {
        Self::Assembly(error.to_string())
    }
}

/// Evidence and what the node needs to know of it.
#[derive(Clone, Debug)]
pub struct Collected {
    /// The CMW collection to send.
    pub evidence: TpmEvidence,
    /// The key that it names: execution keys come wrapped to it.
    pub node_key: Arc<NodeKey>,
    /// The TPM's clock when it was quoted.
    pub clock: ClockInfo,
    /// The quoted values.
    pub values: PcrValues,
    /// Digest over them, as in the quote.
    pub pcr_digest: Digest,
}

/// Collects this node's Evidence.
#[derive(Debug)]
pub struct Collector {
    tpm: Tpm,
    ak: AttestationKey,
    state: Arc<StateDir>,
    logs: LogsConfig,
    /// One at a time: two collections at once would make two node keys for the same values.
    turn: Mutex<()>,
}

impl Collector {
    /// A collector with the enrolled attestation key.
    #[must_use]
    pub fn new(tpm: Tpm, ak: AttestationKey, state: Arc<StateDir>, logs: LogsConfig) -> Self {
        Self { tpm, ak, state, logs, turn: Mutex::new(()) }
    }

    /// The attestation key.
    #[must_use]
    pub const fn ak(&self) -> &AttestationKey {
        &self.ak
    }

    /// The TPM.
    #[must_use]
    pub const fn tpm(&self) -> &Tpm {
        &self.tpm
    }

    /// Answers a challenge. The node key exists before the quote that names it (SECURITY.md P5); logs are read after
    /// it, so that they hold at least what was quoted.
    ///
    /// # Errors
    /// [`CollectFault`].
    pub async fn collect(&self, demand: &Demand) -> Result<Collected, CollectFault> {
        let _turn = self.turn.lock().await;
        self.require_logs(demand)?;
        let node_key = NodeKey::for_present_pcrs(&self.tpm, &self.state, &self.ak, demand.node_key_bound_to).await?;
        let ak_name = self.ak.name().to_bytes();
        let qualifying = Binding {
            nonce: &demand.nonce,
            node_key: node_key.cose_key(),
            channel: &demand.asked.channel,
            audience: &demand.asked.audience,
            epoch: demand.epoch,
            subject: &demand.asked.subject,
            lineage_head: &demand.asked.lineage_head,
            ak_name: Some(&ak_name),
        }
        .qualifying_data()?;
        let quote = self.tpm.quote(self.ak.blob().clone(), qualifying, demand.quoted).await?;
        let event_log = self.read_log(demand.event_log, &EVENT_LOG, self.logs.event_log.as_deref()).await?;
        let ima_log = self.read_log(demand.ima_log, &IMA_LOG, self.logs.ima_log.as_deref()).await?;
        let evidence = TpmEvidence::assemble(TpmParts {
            quote: &quote.signed.attest,
            signature: &quote.signed.signature,
            pcrs: &quote.values,
            node_key: node_key.public(),
            certification: node_key.certification(),
            certification_signature: node_key.certification_signature(),
            event_log: event_log.as_deref(),
            ima_log: ima_log.as_deref(),
        })
        .map_err(|denial| CollectFault::Assembly(denial.to_string()))?;
        let pcr_digest = quote.values.digest(demand.quoted.pcrs, HashAlg::Sha256);
        let pcr_digest = pcr_digest.ok_or_else(|| CollectFault::Assembly("a quoted PCR has no value".to_owned()))?;
        Ok(Collected { evidence, node_key: Arc::new(node_key), clock: quote.clock, values: quote.values, pcr_digest })
    }

    fn require_logs(&self, demand: &Demand) -> Result<(), CollectFault> {
        let wanted =
            [(demand.event_log, &self.logs.event_log, &EVENT_LOG), (demand.ima_log, &self.logs.ima_log, &IMA_LOG)];
        match wanted.into_iter().find(|(wanted, path, _)| *wanted && path.is_none()) {
            Some((_, _, log)) => Err(CollectFault::LogNotConfigured { log: log.name, key: log.key }),
            None => Ok(()),
        }
    }

    async fn read_log(
        &self,
        wanted: bool,
        log: &'static Log,
        path: Option<&Path>,
    ) -> Result<Option<Vec<u8>>, CollectFault> {
        let Some(path) = path.filter(|_| wanted) else { return Ok(None) };
        let path = path.to_owned();
        // securityfs files block while they are produced.
        let read = tokio::task::spawn_blocking(move || read_capped(log, &path)).await;
        read.map_err(|error| CollectFault::Assembly(error.to_string()))?.map(Some)
    }
}

struct Log {
    name: &'static str,
    key: &'static str,
    cap_bytes: usize,
}

const EVENT_LOG: Log = Log { name: "event log", key: "event_log", cap_bytes: EVENT_LOG_CAP_BYTES };
const IMA_LOG: Log = Log { name: "IMA log", key: "ima_log", cap_bytes: IMA_LOG_CAP_BYTES };

/// Reads to the end and not by size: securityfs says 0.
fn read_capped(log: &Log, path: &Path) -> Result<Vec<u8>, CollectFault> {
    let unreadable = |source| CollectFault::LogUnreadable { log: log.name, path: path.display().to_string(), source };
    let limit = u64::try_from(log.cap_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > log.cap_bytes {
        return Err(CollectFault::LogTooLarge { log: log.name, cap_bytes: log.cap_bytes });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked {
            audience: "spiffe://a.example/verifier".to_owned(),
            subject: Sha256Digest::of(b"intent"),
            lineage_head: Sha256Digest::ZERO,
            channel: [7; 32],
        }
    }

    fn genuine() -> proto::Challenge {
        proto::Challenge {
            nonce: vec![1; 32],
            expires_after_ms: 10_000,
            audience: asked().audience,
            epoch: 3,
            subject: asked().subject.as_bytes().to_vec(),
            demand: Some(proto::challenge::Demand::Tpm(proto::TpmDemand {
                pcr_bank: "sha256".to_owned(),
                pcrs: vec![0, 1, 2, 3, 4, 7, 10],
                node_key_pcrs: vec![0, 2, 4, 7],
                event_log: true,
                ima_log: false,
            })),
        }
    }

    fn tpm(challenge: &mut proto::Challenge) -> &mut proto::TpmDemand {
        let Some(proto::challenge::Demand::Tpm(demand)) = &mut challenge.demand else { panic!("not a TPM's") };
        demand
    }

    #[test]
    fn one_defect_each_is_refused() {
        type Defect = (fn(&mut proto::Challenge), &'static str);
        let snp = proto::challenge::Demand::SevSnp(proto::SevSnpDemand {});
        assert_eq!(
            Demand::accept(&proto::Challenge { demand: Some(snp), ..genuine() }, asked()).unwrap_err().code(),
            "evidence.challenge_malformed"
        );
        let defects: [Defect; 12] = [
            (|c| c.nonce.truncate(31), "evidence.challenge_malformed"),
            (|c| c.nonce.clear(), "evidence.challenge_malformed"),
            (|c| c.audience = "spiffe://b.example/verifier".to_owned(), "evidence.challenge_audience"),
            (|c| c.subject[0] ^= 1, "evidence.challenge_subject"),
            (|c| c.subject.clear(), "evidence.challenge_malformed"),
            (|c| tpm(c).pcr_bank = "sha1".to_owned(), "evidence.challenge_malformed"),
            (|c| tpm(c).pcrs.clear(), "evidence.challenge_malformed"),
            (|c| tpm(c).pcrs = vec![4, 0], "evidence.challenge_malformed"),
            (|c| tpm(c).pcrs = vec![0, 24], "evidence.challenge_malformed"),
            (|c| tpm(c).node_key_pcrs.clear(), "evidence.challenge_malformed"),
            (|c| tpm(c).node_key_pcrs = vec![0, 10], "evidence.challenge_node_key_pcrs"),
            (|c| tpm(c).node_key_pcrs = vec![0, 5], "evidence.challenge_node_key_pcrs"),
        ];
        Demand::accept(&genuine(), asked()).unwrap();
        for (n, (defect, code)) in defects.into_iter().enumerate() {
            let mut challenge = genuine();
            defect(&mut challenge);
            assert_eq!(Demand::accept(&challenge, asked()).unwrap_err().code(), code, "defect {n}");
        }
    }

    #[test]
    fn a_log_above_its_cap_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        File::create(&path).unwrap().set_len(u64::try_from(EVENT_LOG_CAP_BYTES).unwrap() + 1).unwrap();
        assert!(matches!(read_capped(&EVENT_LOG, &path), Err(CollectFault::LogTooLarge { .. })));
        assert!(matches!(read_capped(&EVENT_LOG, &dir.path().join("no")), Err(CollectFault::LogUnreadable { .. })));
    }
}
