//! The second half of `init`: under the signed trust bundle the first governance state is logged, the first
//! checkpoint published, and a first policy set activated.

use evidence::cbor;
use evidence::cose::SigningKey;
use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;
use firmware_refs::text::{Moment, Text};
use governance::statement::{Order, STATEMENT_VERSION, Statement};
use policy::set::{PolicyDocument, PolicySet};
use serde_bytes::ByteBuf;

use super::InitError;
use crate::config::Config;
use crate::governor::Governor;
use crate::open::{OpenVerifier, open_store, parts};
use crate::state::{StateFolder, write_new};

/// Brings a domain to life under a signed trust bundle.
pub(super) async fn finish(
    state: &StateFolder,
    config: &Config,
    bundle: Vec<Vec<u8>>,
    authority_keys: &[SigningKey],
    now: UnixSeconds,
) -> Result<(), InitError> {
    let signed: Vec<_> = bundle.iter().cloned().map(ByteBuf::from).collect();
    write_new(&state.join("bundle.cose"), &cbor::to_vec(&signed)?, 0o644)?;
    let OpenVerifier { lock, opened } = open_store(state, config).await?;
    let parts = parts(state, config, crate::live::Live::default())?;
    Governor::found(parts, &opened.store, &opened.log, now).await?;
    let parts = self::parts(state, config, crate::live::Live::default())?;
    let governor = Governor::open(parts, &opened.store, &opened.log, now).await?;
    first_policy(&governor, config, authority_keys, now).await?;
    // Closing waits until nobody holds the store.
    drop(governor);
    opened.close().await;
    drop(lock);
    Ok(())
}

async fn first_policy(
    governor: &Governor,
    config: &Config,
    keys: &[SigningKey],
    now: UnixSeconds,
) -> Result<(), InitError> {
    let (id, cedar) = if config.lab { ("lab", LAB_POLICY) } else { ("default", DEFAULT_POLICY) };
    let set = PolicySet::from_document(PolicyDocument {
        id: evidence::names::ItemName::new(id).map_err(|error| InitError::Usage(error.to_string()))?,
        version: 1,
        domain: config.domain.clone(),
        issued_at: Moment::from(now),
        not_after: Moment::from(now.plus(POLICY_LIFETIME_S)),
        reason: Text::lossy("policy that a new domain starts with"),
        cedar: cedar.to_owned(),
    })?;
    for key in keys {
        governor.import_policy(&set.sign(key)?, now).await?;
    }
    let statement = activation(config, set.digest(), now)?;
    let signatures = keys.iter().map(|key| statement.sign(key)).collect::<Result<Vec<_>, _>>()?;
    governor.obey(&signatures, now).await?;
    Ok(())
}

fn activation(config: &Config, set: Sha256Digest, now: UnixSeconds) -> Result<Statement, InitError> {
    Ok(Statement {
        version: STATEMENT_VERSION,
        domain: config.domain.clone(),
        sequence: 1,
        order: Order::ActivatePolicy { version: 1, set },
        reason: governance::text::Text::new("policy that a new domain starts with")
            .map_err(|error| InitError::Usage(error.to_string()))?,
        issued_at: now,
        expires_at: now.plus(3600),
    })
}

const LAB_POLICY: &str = include_str!("../../../policy/lab.cedar");
const DEFAULT_POLICY: &str = include_str!("../../../policy/default.cedar");

/// A policy set is written anew at least once a year.
const POLICY_LIFETIME_S: u64 = 365 * 24 * 3600;
