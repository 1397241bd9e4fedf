//! TPM 2.0: the structures a TPM makes, read without any TPM library, and what they prove.

mod ak_certificate;
pub mod appraisal;
pub mod attest;
pub mod certify;
pub mod clock;
pub mod credential;
pub mod ek;
pub mod enrolment;
pub mod evidence;
pub mod logs;
pub mod on_tee;
pub mod pcr;
pub mod public;
pub mod quote;
pub mod signature;
pub mod template;
mod wire;

pub use ak_certificate::AkCertificate;
pub use appraisal::{TpmClaims, TpmEndorsement};
pub use certify::CertifiedNodeKey;
pub use clock::ClockState;
pub use credential::{Credential, make_credential};
pub use enrolment::{Candidate, EnrolledTpm, Enrolment, Identity, PendingActivation};
pub use evidence::{TpmEvidence, TpmParts};
pub use logs::{EventLogClaims, ImaClaims};
pub use on_tee::{TpmOnSnpEvidence, TpmOnSnpParts, TpmOnTdxEvidence, TpmOnTdxParts};
pub use pcr::{PcrSelection, PcrSet, PcrValues, policy_pcr_digest};
pub use public::{Name, Public};
pub use quote::Quoted;
pub use signature::VerifyingKey;
