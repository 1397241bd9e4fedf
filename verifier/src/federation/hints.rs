//! "I have something new": told to every partner at each new governance state of our own. What a partner then holds of us
//! comes back, and is the acknowledgement that `governance status` and `revoke` show.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use evidence::cbor;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use serde::Serialize;

use super::client::{ExchangeFailure, PartnerClient};
use super::messages::{HINT_CAP_BYTES, HINT_PATH, Held, Hint, read};

/// What partners said that they hold of us.
#[derive(Clone, Debug, Default)]
pub(super) struct Acknowledgements(Arc<Mutex<BTreeMap<DomainName, Acknowledged>>>);

/// One partner's newest answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledged {
    /// Epoch of our newest state that it took.
    pub epoch: u64,
    /// How we stand with it.
    pub standing: &'static str,
    /// When it said so.
    pub at: UnixSeconds,
}

impl Acknowledgements {
    pub(super) fn of(&self, partner: &DomainName) -> Option<Acknowledged> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(partner).cloned()
    }

    pub(super) fn note(&self, partner: &DomainName, held: &Held, at: UnixSeconds) {
        let acknowledged = Acknowledged { epoch: held.epoch, standing: held.standing.name(), at };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(partner.clone(), acknowledged);
    }
}

/// Tells a partner, and waits until it has looked.
pub(super) async fn tell(client: &PartnerClient, domain: &DomainName, epoch: u64) -> Result<Held, ExchangeFailure> {
    let hint = cbor::to_vec(&Hint { domain: domain.clone(), epoch }).map_err(ExchangeFailure::wrong)?;
    let answer = client.post(HINT_PATH, hint, HINT_CAP_BYTES).await?;
    read(&answer, HINT_CAP_BYTES).map_err(ExchangeFailure::wrong)
}
