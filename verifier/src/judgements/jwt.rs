//! The Attestation Result of a logged decision as JWT: the claims of the CWT that the log names, signed once more.

use audit::record::RecordBody;
use evidence::cbor::{self, Caps};
use evidence::cose::{Purpose, verify1};
use policy::ear::Ear;
use policy::result::RESULT_CAP_BYTES;
use serde_json::{Value, json};

use super::{kept, unreadable};
use crate::desk::Desk;
use crate::governor::OrderRefusal;

impl Desk {
    /// The result of a logged decision as JWT, with its claims and the name of its key. Nothing is issued that was not:
    /// only an affirmed decision has a result, and it counts no longer than it did.
    pub async fn result_jwt(&self, index: u64) -> Result<Value, OrderRefusal> {
        let (_, verified) = kept::record(self, index).await?;
        let (RecordBody::Authorization { result, .. } | RecordBody::Renewal { result, .. }) = &verified.record().body
        else {
            let what = format!("entry {index} affirmed nothing: it has no Attestation Result");
            return Err(OrderRefusal::Malformed(what));
        };
        if !verified.record().elsewhere.is_empty() {
            let what = format!("entry {index} rests on a partner's Attestation Result: ask the partner for it as JWT");
            return Err(OrderRefusal::Malformed(what));
        }
        let cwt = kept::blob(self, "attestation result", result).await?;
        let keys = self.parts.issuer.known();
        let signed = verify1(Purpose::AttestationResult, self.domain(), &cwt, &keys).map_err(unreadable)?;
        let ear: Ear = cbor::from_slice(signed.payload(), Caps::bytes(RESULT_CAP_BYTES)).map_err(unreadable)?;
        let bug = |error: &dyn std::fmt::Display| OrderRefusal::Bug(error.to_string());
        let claims = ear.to_json().map_err(|error| bug(&error))?;
        let token = self.parts.ear.sign(&claims).map_err(|error| bug(&error))?;
        let claims: Value = serde_json::from_slice(&claims).map_err(|error| bug(&error))?;
        Ok(json!({ "entry": index, "kid": self.parts.ear.kid(), "jwt": token, "claims": claims }))
    }
}
