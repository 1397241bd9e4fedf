//! `verifier domain`: this domain's trust bundle, and the domains that it trusts.

use std::path::PathBuf;
use std::process::ExitCode;

use audit::note::{NoteKey, NoteKeyKind};
use clap::{Args, Subcommand, ValueEnum};
use evidence::cbor::{self, Caps};
use evidence::cose::claimed_payload;
use evidence::digest::Sha256Digest;
use evidence::kind::EvidenceKind;
use evidence::names::DomainName;
use governance::federation_grant::FederationGrant;
use governance::partner_endpoint::{EndpointProfile, PartnerEndpoint};
use governance::statement::{Order, TrustedDomain};
use governance::text::Text;
use governance::trust_bundle::{FEDERATION_LIFETIME_CAP_S, TrustBundle};
use governance::witness_policy::{PinnedWitness, WitnessPolicy};
use serde_bytes::ByteBuf;
use serde_json::json;
use wire::proto::operator_command::Command;
use wire::proto::{BundleImport, DomainBundle, GovernanceStatus};

use super::collected::{Collected, Part, PartKind};
use super::service::{Service, field};
use super::signing::{SigningArgs, begin, now, read_file, write_file};
use super::{CommandError, Common, output};
use crate::issuer::CLOCK_LAG_S;

/// Arguments of `verifier domain`.
#[derive(Args, Debug)]
pub struct DomainArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// The own trust bundle: show it, write it to a file for partners' operators, or sign the next one.
    Bundle(BundleArgs),
    /// Trust another domain, or trust it anew, by its bundle file and the digest that its operators confirmed.
    Trust(Box<TrustArgs>),
    /// The domains that are trusted, or were.
    List,
    /// Have nodes count these witnesses on our log: they run and renew nothing under a checkpoint that fewer cosigned.
    Witnesses(WitnessesArgs),
    /// Take the trust in a domain back: whatever depends on it is denied from then on.
    Untrust {
        /// Its name.
        domain: DomainName,
        #[command(flatten)]
        signing: SigningArgs,
    },
}

#[derive(Args, Debug)]
struct BundleArgs {
    /// Write the signed bundle to this file, which must not exist.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Sign the next bundle, of a higher sequence and with the same keys, and put it into force.
    #[arg(long, requires = "keys")]
    renew: bool,
    /// Key file of the policy authority; repeat for as many as the threshold demands.
    #[arg(long = "key", value_name = "FILE", requires = "renew")]
    keys: Vec<PathBuf>,
    /// How long the next bundle counts, in seconds; partners take none of more than a day.
    #[arg(long, value_name = "SECONDS", default_value_t = FEDERATION_LIFETIME_CAP_S, requires = "renew")]
    lifetime_s: u64,
    /// How often partners shall look for something new, in seconds; as in the bundle before when not given.
    #[arg(long, value_name = "SECONDS", requires = "renew")]
    refresh_hint_s: Option<u64>,
    /// Do not put it into force: begin this file, which must not exist, with these signatures. Others add theirs (`verifier
    /// sign`), and one of them hands it in.
    #[arg(long, value_name = "FILE", requires = "renew")]
    collect: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct WitnessesArgs {
    /// How many distinct witnesses must have cosigned. The service waits for as many, where `log.witness_quorum` asks for
    /// fewer.
    #[arg(long, value_name = "COUNT")]
    quorum: u8,
    /// Verifier key of a witness (C2SP vkey, as `governance status` shows those of partners); repeat.
    #[arg(long = "witness", value_name = "VKEY", required = true, value_parser = vkey)]
    witnesses: Vec<NoteKey>,
    #[command(flatten)]
    signing: SigningArgs,
}

#[derive(Args, Debug)]
struct TrustArgs {
    /// The domain's bundle file, as its operators gave it.
    bundle: PathBuf,
    /// SHA-256 of the bundle, as its operators told it by another way. Without it nothing is trusted and the digest is shown.
    #[arg(long, value_name = "SHA256")]
    pin: Option<Sha256Digest>,
    /// Where its public surface is: https://HOST[:PORT][/PATH].
    #[arg(long, value_name = "URL")]
    url: Text,
    /// By what its server is known.
    #[arg(long, value_enum)]
    profile: Profile,
    /// What the paths of the SPIFFE IDs that it speaks for begin with, /node/ say.
    #[arg(long, value_name = "PATH")]
    path_prefix: Text,
    /// Kind of evidence that it may have appraised: tpm, sev-snp, tdx, tpm-on-sev-snp, tpm-on-tdx; repeat.
    #[arg(long = "kind", value_name = "KIND", required = true, value_parser = kind)]
    kinds: Vec<EvidenceKind>,
    /// Longest lease, in milliseconds.
    #[arg(long, value_name = "MS")]
    lease_ms: u64,
    /// Most statements of it that count in a minute.
    #[arg(long, value_name = "COUNT")]
    rate_per_minute: u32,
    /// Its cosignatures on our log count.
    #[arg(long)]
    witness: bool,
    /// Its Attestation Results count for evidence that we did not appraise.
    #[arg(long)]
    results: bool,
    /// How long its newest state serves after it was last seen, in seconds; at most a day.
    #[arg(long, value_name = "SECONDS")]
    max_staleness_s: u64,
    #[command(flatten)]
    signing: SigningArgs,
}

/// By what a partner's server is known.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    /// A certificate of the partner's own CA with its verifier's SPIFFE ID.
    HttpsSpiffe,
    /// A certificate of the web's PKI, under `federation.web_roots`.
    HttpsWeb,
}

fn vkey(text: &str) -> Result<NoteKey, String> {
    let key = NoteKey::from_vkey(text).map_err(|denial| denial.to_string())?;
    match key.kind() {
        NoteKeyKind::Cosignature => Ok(key),
        NoteKeyKind::Ed25519 => Err("is a log's key, not a witness's".to_owned()),
    }
}

fn kind(name: &str) -> Result<EvidenceKind, String> {
    EvidenceKind::from_name(name).ok_or_else(|| "tpm, sev-snp, tdx, tpm-on-sev-snp or tpm-on-tdx".to_owned())
}

impl DomainArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let mut service = Service::connect(&self.common.state).await?;
        let document = match &self.verb {
            Verb::Bundle(args) => args.answer(&mut service).await?,
            Verb::Trust(args) => args.answer(&mut service).await?,
            Verb::Witnesses(args) => args.answer(&mut service).await?,
            Verb::List => {
                let status = service.ask(Command::GovernanceStatus(GovernanceStatus {})).await?.document;
                field(&status, "partners")?.clone()
            }
            Verb::Untrust { domain, signing } => {
                signing.order(&mut service, Order::UntrustDomain { domain: domain.clone() }).await?.document
            }
        };
        output::document(&document, self.common.format);
        Ok(())
    }
}

impl BundleArgs {
    async fn answer(&self, service: &mut Service) -> Result<serde_json::Value, CommandError> {
        let mut document = None;
        if self.renew {
            document = Some(self.renewed(service).await?);
        }
        let held = service.ask(Command::DomainBundle(DomainBundle {})).await?;
        if let Some(file) = &self.out {
            write_file(file, &held.attachment)?;
        }
        Ok(document.unwrap_or(held.document))
    }

    async fn renewed(&self, service: &mut Service) -> Result<serde_json::Value, CommandError> {
        let (keys, collect) = (self.keys.clone(), self.collect.clone());
        let signing = BundleSigning { keys, lifetime_s: self.lifetime_s, collect };
        let hint_s = self.refresh_hint_s;
        signing.next(service, |_, next| next.refresh_hint_s = hint_s.unwrap_or(next.refresh_hint_s)).await
    }
}

/// By which keys the next bundle is signed, and how long it counts.
pub(super) struct BundleSigning {
    /// Key files of the policy authority.
    pub(super) keys: Vec<PathBuf>,
    /// In seconds.
    pub(super) lifetime_s: u64,
    /// Where signatures are collected, if one person has too few keys.
    pub(super) collect: Option<PathBuf>,
}

impl BundleSigning {
    /// Signs the next bundle, changed, and puts it into force, or begins to collect signatures. `change` sees the one in force as well.
    pub(super) async fn next(
        &self,
        service: &mut Service,
        change: impl FnOnce(&TrustBundle, &mut TrustBundle),
    ) -> Result<serde_json::Value, CommandError> {
        let held = service.ask(Command::DomainBundle(DomainBundle {})).await?;
        let (_, held) = read_bundle(&held.attachment)?;
        // A clock that is a little behind ours takes it at once.
        let issued_at = now()?.minus(CLOCK_LAG_S).max(held.issued_at);
        let mut next = TrustBundle {
            sequence: held.sequence.saturating_add(1),
            issued_at,
            expires_at: issued_at.plus(self.lifetime_s),
            ..held.clone()
        };
        change(&held, &mut next);
        let mut cose = Vec::new();
        for path in &self.keys {
            let key = crate::state::read_signing_key(path).map_err(CommandError::usage)?;
            cose.push(next.sign(&key).map_err(CommandError::usage)?);
        }
        if let Some(file) = &self.collect {
            let part = Part::new(PartKind::TrustBundle, cose);
            return Ok(begin(file, &Collected::of(next.domain, vec![part], Vec::new()))?.document);
        }
        Ok(service.ask(Command::BundleImport(BundleImport { cose })).await?.document)
    }
}

impl WitnessesArgs {
    async fn answer(&self, service: &mut Service) -> Result<serde_json::Value, CommandError> {
        let pinned = |key: &NoteKey| {
            let name = Text::new(key.name()).map_err(CommandError::usage)?;
            Ok(PinnedWitness { name, key: key.key().clone() })
        };
        let witnesses = self.witnesses.iter().map(pinned).collect::<Result<_, CommandError>>()?;
        let order = Order::CountWitnesses(Box::new(WitnessPolicy { quorum: self.quorum, witnesses }));
        Ok(self.signing.order(service, order).await?.document)
    }
}

impl TrustArgs {
    async fn answer(&self, service: &mut Service) -> Result<serde_json::Value, CommandError> {
        let (bundle, first) = read_bundle(&read_file(&self.bundle)?)?;
        let digest = bundle.first().map_or(Sha256Digest::ZERO, |(_, digest)| *digest);
        let Some(pin) = self.pin else {
            let shown = json!({
                "domain": first.domain,
                "bundle": digest,
                "sequence": first.sequence,
                "expires_at": first.expires_at,
                "next": "ask the domain's operators whether this is their bundle's digest, then give it as --pin",
            });
            return Err(CommandError::Denied { code: "order.unpinned".to_owned(), detail: shown });
        };
        if pin != digest {
            return Err(CommandError::Usage(format!("the file holds bundle {digest}, --pin says {pin}")));
        }
        let order = Order::TrustDomain(Box::new(TrustedDomain {
            domain: first.domain,
            bundle: digest,
            endpoint: PartnerEndpoint { url: self.url.clone(), profile: self.profile.into() },
            grant: FederationGrant {
                path_prefix: self.path_prefix.clone(),
                kinds: self.kinds.iter().copied().collect(),
                lease_ms: self.lease_ms,
                rate_per_minute: self.rate_per_minute,
                witness: self.witness,
                results: self.results,
                max_staleness_s: self.max_staleness_s,
            },
        }));
        let bundle: Vec<_> = bundle.into_iter().map(|(cose, _)| cose).collect();
        Ok(self.signing.order_with(service, order, &bundle).await?.document)
    }
}

impl From<Profile> for EndpointProfile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::HttpsSpiffe => Self::HttpsSpiffe,
            Profile::HttpsWeb => Self::HttpsWeb,
        }
    }
}

/// A signed bundle with the digest of its payload.
type Signatures = Vec<(Vec<u8>, Sha256Digest)>;

/// A bundle file: CBOR array of COSE_Sign1 over one payload. Nothing is verified here.
fn read_bundle(bytes: &[u8]) -> Result<(Signatures, TrustBundle), CommandError> {
    let signatures: Vec<ByteBuf> = cbor::from_slice(bytes, Caps::bytes(bytes.len())).map_err(CommandError::usage)?;
    let mut read = Vec::new();
    let mut bundle = None;
    for cose in signatures {
        let payload = claimed_payload(&cose).map_err(CommandError::usage)?;
        if bundle.is_none() {
            bundle = Some(TrustBundle::decode(&payload).map_err(CommandError::usage)?);
        }
        read.push((cose.into_vec(), Sha256Digest::of(&payload)));
    }
    let bundle = bundle.ok_or_else(|| CommandError::Usage("the bundle file is empty".to_owned()))?;
    Ok((read, bundle))
}
