//! Why Evidence could not be collected.

use evidence::EvidenceDenial;
use evidence::cbor::CborError;

use crate::tee::TeeError;
use crate::tee::node_key::XWingKeyError;
use crate::tpm::error::TpmError;
use crate::tpm::objects::KeyFault;

/// Why Evidence could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectFault {
    /// A key, the TPM or the state directory.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The TEE.
    #[error(transparent)]
    Tee(#[from] TeeError),
    /// The node key in memory.
    #[error(transparent)]
    NodeKey(#[from] XWingKeyError),
    /// The verifier needs a log that this node has not configured.
    #[error("the verifier needs the {log}, and {key} is not configured")]
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
    /// A log is none: nothing can be found in it, not even its end.
    #[error("{log} is not one: {why}")]
    LogMalformed {
        /// Which log.
        log: &'static str,
        /// Why.
        why: EvidenceDenial,
    },
    /// The demand is of another kind of machine; a defect here, the challenge was held against the configuration.
    #[error("a demand of another kind of machine reached the collector")]
    OtherKind,
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
            Self::Tee(error) => error.code(),
            Self::NodeKey(error) => error.code(),
            Self::LogNotConfigured { .. } => "fault.log_not_configured",
            Self::LogUnreadable { .. } => "fault.log_unreadable",
            Self::LogTooLarge { .. } => "fault.log_too_large",
            Self::LogMalformed { .. } => "fault.log_malformed",
            Self::OtherKind | Self::Assembly(_) => "fault.bug",
        }
    }
}

impl From<CborError> for CollectFault {
    fn from(error: CborError) -> Self {
        Self::Assembly(error.to_string())
    }
}

impl From<EvidenceDenial> for CollectFault {
    fn from(denial: EvidenceDenial) -> Self {
        Self::Assembly(denial.to_string())
    }
}
