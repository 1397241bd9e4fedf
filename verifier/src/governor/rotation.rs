//! Rotation of the domain's own keys, while the service serves: prepare makes a successor, activate lets it sign, and a
//! bundle without the key before retires that one. What may happen when is `governance::rotation`'s.

use std::collections::{BTreeMap, BTreeSet};

use evidence::time::UnixSeconds;
use governance::rotation::{self, OnlineRole, authority_name};
use governance::trust_bundle::TrustBundle;
use serde::Serialize;

use super::refusal::OrderRefusal;
use super::{Governor, Proposal, Rules};
use crate::issuer::CLOCK_LAG_S;
use crate::key_table;
use crate::state::KeyFile;
use crate::store::Transaction;

/// A successor that is ready to be announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PreparedKey {
    /// Whose successor.
    pub role: OnlineRole,
    /// What it is called in bundles.
    pub kid: String,
    /// COSE_Key; of the CA the certificate, DER.
    #[serde(skip)]
    pub public: Vec<u8>,
}

/// A key that signs from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Activated {
    /// For what.
    pub role: OnlineRole,
    /// What it is called in bundles.
    pub kid: String,
    /// The first governance epoch since.
    pub epoch: u64,
}

/// A key of the domain, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedKey {
    /// For what.
    pub role: OnlineRole,
    /// What it is called in bundles.
    pub kid: String,
    /// prepared, announced, active or retiring.
    pub state: &'static str,
    /// Since when; absent for one that only this service knows of.
    pub since: Option<UnixSeconds>,
    /// Earliest activation of one that is announced, earliest removal of one that retires.
    pub next_step_at: Option<UnixSeconds>,
}

/// For how long what keys signed still serves.
pub(super) struct Serving {
    /// When the active key of each role began to sign.
    since: BTreeMap<OnlineRole, UnixSeconds>,
    /// Keys that signed at any time.
    signed: BTreeSet<String>,
    /// Until when nodes have certificates, by CA.
    certified: BTreeMap<String, UnixSeconds>,
    lease_s: u64,
}

impl Serving {
    /// First second in which nothing is needed any more that a key signed which signs no longer.
    pub(super) fn until(&self, role: OnlineRole, kid: &str) -> UnixSeconds {
        if !self.signed.contains(kid) {
            return UnixSeconds(0);
        }
        let since = self.since.get(&role).copied().unwrap_or(UnixSeconds(u64::MAX));
        let leases_end = since.plus(self.lease_s).plus(CLOCK_LAG_S);
        match role {
            OnlineRole::Issuer | OnlineRole::Log | OnlineRole::Witness | OnlineRole::Jwt => leases_end,
            OnlineRole::Ca => leases_end.max(self.certified.get(kid).copied().unwrap_or(UnixSeconds(0))),
        }
    }
}

impl Governor {
    /// Makes the successor of a key, unless it was made before; nothing else changes until a bundle announces it.
    pub async fn prepare_key(&self, role: OnlineRole, now: UnixSeconds) -> Result<PreparedKey, OrderRefusal> {
        let _turn = self.0.turn.lock().await;
        let (files, domain) = (&self.0.parts.files, &self.0.parts.domain);
        let signing = |file| files.prepare_key(file).map(|key| key.public().cose_key().to_vec());
        let public = match role {
            OnlineRole::Issuer => signing(KeyFile::Issuer)?,
            OnlineRole::Log => signing(KeyFile::Log)?,
            OnlineRole::Witness => signing(KeyFile::Witness)?,
            OnlineRole::Ca => files.prepare_authority(domain, now)?,
            OnlineRole::Jwt => files.prepare_jwt_key()?.public().cose_key().to_vec(),
        };
        let kid = self.prepared(role)?.ok_or_else(|| OrderRefusal::Bug("a successor was made and lost".to_owned()))?;
        Ok(PreparedKey { role, kid, public })
    }

    /// Lets the successor of a key sign from now on, if it was announced for long enough.
    pub async fn activate_key(&self, role: OnlineRole, now: UnixSeconds) -> Result<Activated, OrderRefusal> {
        let mut rules = self.0.turn.lock().await;
        let unprepared = || OrderRefusal::Unknown { what: "prepared key", name: role.name().to_owned() };
        let kid = self.prepared(role)?.ok_or_else(unprepared)?;
        rotation::may_sign(&history(&rules), role, &kid, CLOCK_LAG_S, now)?;
        // Before it signs anything: how long its predecessor is needed is counted from here.
        let noted = kid.clone();
        let noting = self.0.store.write(move |transaction: &mut Transaction<'_>| {
            Box::pin(
                async move { Ok::<_, OrderRefusal>(key_table::note_activation(transaction, role, &noted, now).await?) },
            )
        });
        noting.await?;
        self.put_in_place(role)?;
        tracing::warn!(%role, %kid, "another key of this domain signs from now on");
        let kind = match role {
            OnlineRole::Issuer => "issuer key activated",
            OnlineRole::Log => "log key activated",
            OnlineRole::Witness => "witness key activated",
            OnlineRole::Ca => "ca key activated",
            OnlineRole::Jwt => "jwt key activated",
        };
        let proposal = Proposal::of(rules.clone(), kind);
        let epoch = self.enact(&mut rules, proposal, now).await?.value.epoch;
        Ok(Activated { role, kid, epoch })
    }

    /// Every key of ours that is prepared, announced, active or still needed.
    pub async fn list_keys(&self) -> Result<Vec<ListedKey>, OrderRefusal> {
        let rules = self.0.turn.lock().await;
        let (serving, history) = (self.serving(&rules).await?, history(&rules));
        let held = rules.bundle()?.verified.bundle();
        let mut listed = Vec::new();
        for role in OnlineRole::ALL {
            let (active, names) = (self.keys().active(role), rotation::names(held, role));
            let prepared = self.prepared(role)?;
            for kid in names.iter().cloned().chain(prepared.filter(|kid| !names.contains(kid))) {
                let announced = rotation::announced(&history, role, &kid).ok();
                let (state, since, next_step_at) = match announced {
                    _ if active.as_ref() == Some(&kid) => ("active", serving.since.get(&role).copied(), None),
                    None => ("prepared", None, None),
                    Some((at, due)) if !serving.signed.contains(&kid) => {
                        ("announced", Some(at), Some(due.plus(CLOCK_LAG_S)))
                    }
                    Some(_) => ("retiring", serving.since.get(&role).copied(), Some(serving.until(role, &kid))),
                };
                listed.push(ListedKey { role, kid, state, since, next_step_at });
            }
        }
        Ok(listed)
    }

    /// For how long what our keys signed still serves.
    pub(super) async fn serving(&self, rules: &Rules) -> Result<Serving, OrderRefusal> {
        let reads = self.0.store.reads();
        let (activated, certified) = (key_table::activations(reads).await?, key_table::certified_until(reads).await?);
        let founding = rules.bundles.first().map(|bundle| bundle.verified.bundle());
        let mut signed: BTreeSet<String> = activated.keys().cloned().collect();
        let mut since = BTreeMap::new();
        for role in OnlineRole::ALL {
            let founded = founding.map(|bundle| rotation::names(bundle, role)).unwrap_or_default();
            let active = self.keys().active(role);
            let of_founding = active.as_ref().is_some_and(|active| founded.contains(active));
            let founded_at = founding.filter(|_| of_founding).map(|bundle| bundle.issued_at);
            if let Some(at) = active.and_then(|active| activated.get(&active).copied()).or(founded_at) {
                since.insert(role, at);
            }
            signed.extend(founded);
        }
        Ok(Serving { since, signed, certified, lease_s: self.0.parts.lease_s })
    }

    /// What the successor of a key is called, once it was made.
    fn prepared(&self, role: OnlineRole) -> Result<Option<String>, OrderRefusal> {
        let files = &self.0.parts.files;
        let signing = |file| files.next_key(file).map(|key| key.map(|key| key.public().kid().to_string()));
        Ok(match role {
            OnlineRole::Issuer => signing(KeyFile::Issuer)?,
            OnlineRole::Log => signing(KeyFile::Log)?,
            OnlineRole::Witness => signing(KeyFile::Witness)?,
            OnlineRole::Ca => files.next_authority()?.map(|der| authority_name(&der)),
            OnlineRole::Jwt => files.next_jwt_key()?.map(|key| key.public().kid().to_string()),
        })
    }

    /// On disk first: after a crash the same key signs.
    fn put_in_place(&self, role: OnlineRole) -> Result<(), OrderRefusal> {
        let (files, keys) = (&self.0.parts.files, self.keys());
        match role {
            OnlineRole::Issuer => keys.issuer.activate(files.activate_key(KeyFile::Issuer)?),
            OnlineRole::Log => keys.log.activate(files.activate_key(KeyFile::Log)?),
            OnlineRole::Witness => keys.witness.activate(files.activate_key(KeyFile::Witness)?),
            OnlineRole::Ca => keys.ca.activate(files.activate_authority(&self.0.parts.domain)?),
            OnlineRole::Jwt => keys.jwt.activate(files.activate_jwt_key()?),
        }
        Ok(())
    }
}

fn history(rules: &Rules) -> Vec<TrustBundle> {
    rules.bundles.iter().map(|bundle| bundle.verified.bundle().clone()).collect()
}
