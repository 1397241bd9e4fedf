//! `verifier keys rotate`: one of the domain's own keys, replaced in three steps. The first and the last sign a trust
//! bundle with the policy authority's keys, which the service never sees.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use evidence::cose::PublicKey;
use governance::rotation::{self, OnlineRole, authority_name};
use governance::trust_bundle::{FEDERATION_LIFETIME_CAP_S, KeyRecord, Role, TrustBundle};
use serde_bytes::ByteBuf;
use serde_json::{Value, json};
use wire::proto::operator_command::Command;
use wire::proto::{KeyRole, KeyStep, KeysList};

use super::CommandError;
use super::domain::BundleSigning;
use super::service::{Service, field};

/// How long a new key counts from when it may first sign, in seconds: rotate within it.
const KEY_LIFETIME_S: u64 = 365 * 24 * 3600;

/// Arguments of `verifier keys rotate`.
#[derive(Args, Debug)]
pub(super) struct RotateArgs {
    /// Which key.
    #[arg(long, value_enum)]
    role: RoleArg,
    #[command(flatten)]
    step: Step,
    /// Key file of the policy authority, which signs the bundle that announces or retires; repeat for as many as the
    /// threshold demands.
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// How long that bundle counts, in seconds; partners take none of more than a day. A successor may sign once two such
    /// times have passed since its announcement.
    #[arg(long, value_name = "SECONDS", default_value_t = FEDERATION_LIFETIME_CAP_S)]
    lifetime_s: u64,
    /// Do not put that bundle into force: begin this file, which must not exist, with these signatures (`verifier sign`).
    #[arg(long, value_name = "FILE", requires = "keys")]
    collect: Option<PathBuf>,
}

/// One of them.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Step {
    /// Make the successor, and announce it by the next trust bundle.
    #[arg(long, requires = "keys")]
    prepare: bool,
    /// Let the successor sign from now on; refused until it was announced for two lives of a bundle.
    #[arg(long, conflicts_with = "keys")]
    activate: bool,
    /// Remove what the active key replaced from the next trust bundle; refused until all that it signed has ended.
    #[arg(long, requires = "keys")]
    retire: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    /// Signs artifacts, results, governance states and records.
    Issuer,
    /// Signs the log's checkpoints.
    Log,
    /// Cosigns partners' checkpoints.
    Witness,
    /// Signs the certificates of this service and of its nodes.
    Ca,
    /// Signs JWT-SVIDs; a domain from before there were any makes its first key so.
    Jwt,
}

impl RotateArgs {
    /// Takes the step.
    pub(super) async fn answer(&self, service: &mut Service) -> Result<Value, CommandError> {
        let step = KeyStep { role: self.role.message().into() };
        if self.step.prepare {
            return self.prepare(service, step).await;
        }
        if self.step.activate {
            return Ok(service.ask(Command::KeysActivate(step)).await?.document);
        }
        self.retire(service).await
    }

    async fn prepare(&self, service: &mut Service, step: KeyStep) -> Result<Value, CommandError> {
        let prepared = service.ask(Command::KeysPrepare(step)).await?;
        let announced = Announced::read(self.role.role(), &prepared.attachment)?;
        let change = |held: &TrustBundle, next: &mut TrustBundle| announced.announce(held, next);
        let bundle = self.signing().next(service, change).await?;
        let keys = self.listed(service).await?;
        Ok(json!({ "step": "prepared", "key": prepared.document, "bundle": bundle, "keys": keys }))
    }

    async fn retire(&self, service: &mut Service) -> Result<Value, CommandError> {
        let role = self.role.role();
        let keys = self.listed(service).await?;
        let retiring: Vec<String> = keys
            .iter()
            .filter(|key| told(key, "state") == Some("retiring"))
            .filter_map(|key| told(key, "kid").map(str::to_owned))
            .collect();
        if retiring.is_empty() {
            return Err(CommandError::Usage(format!("no {role} key is retiring: activate its successor first")));
        }
        let change = |_: &TrustBundle, next: &mut TrustBundle| remove(next, role, &retiring);
        let bundle = self.signing().next(service, change).await?;
        Ok(json!({ "step": "retired", "role": role, "kids": retiring, "bundle": bundle }))
    }

    fn signing(&self) -> BundleSigning {
        BundleSigning { keys: self.keys.clone(), lifetime_s: self.lifetime_s, collect: self.collect.clone() }
    }

    /// The domain's keys of this role.
    async fn listed(&self, service: &mut Service) -> Result<Vec<Value>, CommandError> {
        let listed = service.ask(Command::KeysList(KeysList {})).await?.document;
        let keys = field(&listed, "domain_keys")?.as_array().cloned().unwrap_or_default();
        let name = self.role.role().name();
        Ok(keys.into_iter().filter(|key| told(key, "role") == Some(name)).collect())
    }
}

fn told<'v>(key: &'v Value, name: &str) -> Option<&'v str> {
    key.get(name).and_then(Value::as_str)
}

/// A successor, as the service made it.
enum Announced {
    Signing(Role, PublicKey),
    Authority(Vec<u8>),
}

impl Announced {
    fn read(role: OnlineRole, public: &[u8]) -> Result<Self, CommandError> {
        match role.signing() {
            None => Ok(Self::Authority(public.to_vec())),
            Some(role) => Ok(Self::Signing(role, PublicKey::from_cose_key(public).map_err(CommandError::usage)?)),
        }
    }

    /// One that is announced already stays as it is.
    fn announce(&self, held: &TrustBundle, next: &mut TrustBundle) {
        match self {
            Self::Authority(der) if next.ca.iter().any(|held| held.as_slice() == der.as_slice()) => {}
            Self::Authority(der) => next.ca.push(ByteBuf::from(der.clone())),
            Self::Signing(role, key) => {
                let from = rotation::earliest(held, next);
                let record = KeyRecord { key: key.clone(), from, until: from.plus(KEY_LIFETIME_S) };
                let records = next.records_mut(*role);
                if !records.iter().any(|record| record.key == *key) {
                    records.push(record);
                }
            }
        }
    }
}

fn remove(bundle: &mut TrustBundle, role: OnlineRole, retiring: &[String]) {
    match role.signing() {
        None => bundle.ca.retain(|der| !retiring.contains(&authority_name(der))),
        Some(role) => {
            bundle.records_mut(role).retain(|record| !retiring.contains(&record.key.kid().to_string()));
        }
    }
}

impl RoleArg {
    const fn role(self) -> OnlineRole {
        match self {
            Self::Issuer => OnlineRole::Issuer,
            Self::Log => OnlineRole::Log,
            Self::Witness => OnlineRole::Witness,
            Self::Ca => OnlineRole::Ca,
            Self::Jwt => OnlineRole::Jwt,
        }
    }

    const fn message(self) -> KeyRole {
        match self {
            Self::Issuer => KeyRole::Issuer,
            Self::Log => KeyRole::Log,
            Self::Witness => KeyRole::Witness,
            Self::Ca => KeyRole::Ca,
            Self::Jwt => KeyRole::Jwt,
        }
    }
}
