//! Who cosigns our log, and whose logs we watch: partners, as they stand now.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use audit::checkpoint::LogIdentity;
use audit::note::{NoteKey, NoteKeyKind};
use audit::proof::witness_name;
use evidence::time::UnixSeconds;
use governance::partner::Standing;
use governance::trust_bundle::{KeyRecord, Role};
use governance::witness_policy::{PinnedWitness, WitnessPolicy};
use tokio::sync::watch;

use super::client::{WitnessAt, WitnessPeer};
use super::{Fork, WitnessedLog};
use crate::federation::HeldPartner;
use crate::federation::sync::Now;
use crate::governor::Governor;

/// How often it is looked whose keys have come into force or gone out of it.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where what follows from the partners is put.
pub struct Derived {
    /// Who cosigns our log: fresh partners whose cosignatures are granted to count, and that our nodes count.
    pub peers: watch::Sender<Arc<Vec<WitnessPeer>>>,
    /// Whose logs are watched: partners that nothing speaks against for good. One that was not seen for a while is not
    /// left unwatched.
    pub logs: watch::Sender<Arc<Vec<WitnessedLog>>>,
}

/// Keeps both current until `stopped`. `web_roots` are for partners that are known by a certificate of the web's PKI.
pub async fn follow(
    governor: Governor,
    now: Now,
    web_roots: Arc<Vec<Vec<u8>>>,
    derived: Derived,
    stopped: impl Future<Output = ()>,
) {
    let (mut partners, mut rules) = (governor.watch_partners(), governor.watch());
    let mut look = tokio::time::interval(LOOK_EVERY);
    tokio::pin!(stopped);
    loop {
        let all = partners.borrow_and_update().clone();
        match now() {
            Ok(now) => {
                let counted = governor.current().witnesses.clone();
                let counted = counted.as_ref().map(|witnesses| &witnesses.held.policy);
                let peers = all.all().filter_map(|held| peer(held, counted, &web_roots, now)).collect();
                let logs = all.all().filter_map(|held| watched(held, now)).collect();
                put(&derived.peers, peers);
                put(&derived.logs, logs);
            }
            // Without time no key is in force.
            Err(error) => {
                tracing::warn!(%error, "no partner is a witness");
                put(&derived.peers, Vec::new());
                put(&derived.logs, Vec::new());
            }
        }
        tokio::select! {
            () = &mut stopped => return,
            changed = partners.changed() => if changed.is_err() { return },
            changed = rules.changed() => if changed.is_err() { return },
            _ = look.tick() => {}
        }
    }
}

/// Tells the governor of a partner that equivocated: it is forked from then on, and whatever depends on it denied.
pub fn fork_teller(governor: Governor, now: Now) -> Arc<dyn Fn(&Fork) + Send + Sync> {
    Arc::new(move |fork| {
        let (governor, now, fork) = (governor.clone(), now.clone(), fork.clone());
        tokio::spawn(async move {
            let told = match now() {
                Ok(now) => governor.partner_equivocated(&fork, now).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = told {
                tracing::error!(log = %fork.origin, error, "a fork is on record, and its domain is not marked yet");
            }
        });
    })
}

fn put<T: PartialEq>(sender: &watch::Sender<Arc<Vec<T>>>, now: Vec<T>) {
    sender.send_if_modified(|before| {
        let differs = **before != now;
        if differs {
            *before = Arc::new(now);
        }
        differs
    });
}

/// The partner as a witness, by those of its keys that nodes count where a policy says which.
fn peer(
    held: &HeldPartner,
    counted: Option<&WitnessPolicy>,
    web_roots: &Arc<Vec<Vec<u8>>>,
    now: UnixSeconds,
) -> Option<WitnessPeer> {
    let fresh = held.fresh(now).ok()?;
    fresh.grant().admits_witness(fresh.domain()).ok()?;
    let bundle = fresh.bundle().bundle();
    let name = witness_name(fresh.domain());
    let counts = |record: &&KeyRecord| {
        let is = |witness: &PinnedWitness| witness.name.as_str() == name && witness.key == record.key;
        counted.is_none_or(|policy| policy.witnesses.iter().any(is))
    };
    let keys = in_force(bundle.records(Role::Witness), now).filter(counts);
    // A key that cannot sign notes cannot have cosigned.
    let keys: Vec<_> =
        keys.filter_map(|record| NoteKey::new(&name, NoteKeyKind::Cosignature, &record.key).ok()).collect();
    let at = WitnessAt::Partner {
        endpoint: held.partner.endpoint().clone(),
        bundle: Box::new(bundle.clone()),
        web_roots: web_roots.clone(),
    };
    (!keys.is_empty()).then(|| WitnessPeer { domain: fresh.domain().clone(), keys, at })
}

fn watched(held: &HeldPartner, now: UnixSeconds) -> Option<WitnessedLog> {
    match held.partner.standing(now) {
        Standing::Fresh | Standing::Stale | Standing::Inconsistent => {}
        Standing::Forked | Standing::RolledBack | Standing::Untrusted => return None,
    }
    let bundle = held.partner.bundle().bundle();
    let keys = in_force(bundle.records(Role::Log), now).map(|record| &record.key);
    let log = LogIdentity::new(&bundle.log_origin, keys).ok()?;
    Some(WitnessedLog { domain: bundle.domain.clone(), log })
}

fn in_force(records: &[KeyRecord], now: UnixSeconds) -> impl Iterator<Item = &KeyRecord> {
    records.iter().filter(move |record| record.from <= now && now < record.until)
}
