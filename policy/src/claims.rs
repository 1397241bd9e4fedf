//! The typed claims that policies judge. Also the form of a `policy test` case:
//! what is written there is exactly what a policy sees.

use std::borrow::Cow;

use governance::intent::Intent;
use governance::on_halt::OnHalt;
use serde::{Deserialize, Serialize};

pub use crate::facts::{SnpFacts, TdxFacts, TpmFacts};
use crate::facts::{text, texts};
pub use crate::isolation::IsolationClaims;

use crate::value::Cedar;

/// Claims about a machine, after its evidence matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Node id.
    pub node: String,
    /// The domain that judges.
    pub domain: String,
    /// Kind of evidence.
    pub kind: String,
    /// Environment of the reference value set that matched.
    pub environment: String,
    /// Whether the evidence chains to roots accepted for a lab only.
    pub simulated: bool,
    /// Governance epoch of the challenge.
    pub epoch: i64,
    /// Verifier's time, seconds since 1970.
    pub now: i64,
    /// The reference value set that matched.
    pub reference: ReferenceClaims,
    /// Claims of TPM evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmFacts>,
    /// Claims of an SNP report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snp: Option<SnpFacts>,
    /// Claims of a TDX quote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tdx: Option<TdxFacts>,
}

/// The reference value set that matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceClaims {
    /// Name.
    pub id: String,
    /// Version.
    pub version: i64,
    /// Seconds since it was issued.
    pub age_s: i64,
    /// Superseded, still within its grace window.
    pub grace: bool,
}

/// Label of an intent that names its scope; an intent without it is of [`DEFAULT_SCOPE`].
pub const SCOPE_LABEL: &str = "scope";

/// Scope of an intent that names none.
pub const DEFAULT_SCOPE: &str = "default";

impl IntentClaims {
    /// What `intent` asks for.
    #[must_use]
    pub fn of(intent: &Intent) -> Self {
        let argv = &intent.workload.argv;
        Self {
            requester: intent.requester.to_string(),
            executable: intent.workload.executable.to_string(),
            program: argv.first().cloned().unwrap_or_default(),
            arguments: i64::try_from(argv.len().saturating_sub(1)).unwrap_or(i64::MAX),
            capabilities: intent.scope.capabilities.iter().map(ToString::to_string).collect(),
            keys: intent.scope.keys.iter().map(ToString::to_string).collect(),
            labels: intent.scope.labels.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            child: !intent.parents.is_empty(),
            isolation: IsolationClaims::of(&intent.isolation),
            attached: intent.workload.attach.is_some(),
            image: intent.workload.image.map(|manifest| manifest.to_string()).unwrap_or_default(),
            on_halt: intent.on_halt.name().to_owned(),
            drain_ms: i64::from(intent.on_halt.grace_ms()),
        }
    }

    /// Name of the scope that `intent` is of.
    #[must_use]
    pub fn scope_of(intent: &Intent) -> String {
        let named = intent.scope.labels.iter().find(|(name, _)| name.as_str() == SCOPE_LABEL);
        named.map_or_else(|| DEFAULT_SCOPE.to_owned(), |(_, value)| value.to_string())
    }
}

/// What an execution asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntentClaims {
    /// Who asks.
    pub requester: String,
    /// Digest of the executable, hexadecimal.
    pub executable: String,
    /// argv\[0\].
    pub program: String,
    /// How many arguments follow.
    pub arguments: i64,
    /// Capabilities asked for.
    pub capabilities: Vec<String>,
    /// Keys asked for, by name.
    pub keys: Vec<String>,
    /// Labels, `name=value`.
    pub labels: Vec<String>,
    /// Whether it has a parent artifact.
    pub child: bool,
    /// How it asks to be kept apart.
    #[serde(default)]
    pub isolation: IsolationClaims,
    /// Whether it runs already, started by somebody else.
    #[serde(default)]
    pub attached: bool,
    /// Digest of the manifest of the OCI image that it runs in, hexadecimal; empty for the machine's own files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// What a halt does to it: `kill`, `freeze`, `drain` or `revoke_keys`.
    #[serde(default = "kill")]
    pub on_halt: String,
    /// Grace of a drain; 0 for anything else.
    #[serde(default)]
    pub drain_ms: i64,
}

fn kill() -> String {
    OnHalt::Kill.name().to_owned()
}

impl Claims {
    fn to_cedar(&self) -> Cedar {
        let fields = [
            ("node", text(&self.node)),
            ("domain", text(&self.domain)),
            ("kind", text(&self.kind)),
            ("environment", text(&self.environment)),
            ("simulated", Cedar::new_bool(self.simulated)),
            ("epoch", Cedar::new_long(self.epoch)),
            ("now", Cedar::new_long(self.now)),
            ("reference", self.reference.to_cedar()),
        ];
        let tpm = self.tpm.as_ref().map(|tpm| ("tpm", tpm.to_cedar()));
        let snp = self.snp.as_ref().map(|snp| ("snp", snp.to_cedar()));
        let tdx = self.tdx.as_ref().map(|tdx| ("tdx", tdx.to_cedar()));
        Cedar::new_record(fields.into_iter().chain(tpm).chain(snp).chain(tdx))
    }
}

impl ReferenceClaims {
    fn to_cedar(&self) -> Cedar {
        Cedar::new_record([
            ("id", text(&self.id)),
            ("version", Cedar::new_long(self.version)),
            ("age_s", Cedar::new_long(self.age_s)),
            ("grace", Cedar::new_bool(self.grace)),
        ])
    }
}

impl IntentClaims {
    fn to_cedar(&self) -> Cedar {
        Cedar::new_record([
            ("requester", text(&self.requester)),
            ("executable", text(&self.executable)),
            ("program", text(&self.program)),
            ("arguments", Cedar::new_long(self.arguments)),
            ("capabilities", texts(&self.capabilities)),
            ("keys", texts(&self.keys)),
            ("labels", texts(&self.labels)),
            ("child", Cedar::new_bool(self.child)),
            ("isolation", self.isolation.to_cedar()),
            ("attached", Cedar::new_bool(self.attached)),
            ("image", text(&self.image)),
            ("on_halt", text(&self.on_halt)),
            ("drain_ms", Cedar::new_long(self.drain_ms)),
        ])
    }
}

/// What is asked, with its typed context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
pub enum Question<'a> {
    /// May this machine be trusted?
    Attest {
        /// The machine.
        claims: Cow<'a, Claims>,
    },
    /// May it run this?
    Execute {
        /// The machine.
        claims: Cow<'a, Claims>,
        /// What it would run.
        intent: Cow<'a, IntentClaims>,
        /// Name of the intent's scope.
        scope: String,
        /// Whether a lease is being renewed, for what runs already.
        renewal: bool,
    },
    /// May that execution have this key?
    Release {
        /// The machine.
        claims: Cow<'a, Claims>,
        /// What it runs.
        intent: Cow<'a, IntentClaims>,
        /// Name of the key.
        key: String,
        /// Labels of the key, `name=value`.
        labels: Vec<String>,
    },
    /// May this partner's witness cosign this log?
    Witness {
        /// The partner domain.
        partner: String,
        /// The domain that asks.
        domain: String,
        /// Governance epoch.
        epoch: i64,
        /// Seconds since 1970.
        now: i64,
        /// Origin line of the log.
        origin: String,
    },
    /// May this partner assert this?
    Federate {
        /// The partner domain.
        partner: String,
        /// The domain that asks.
        domain: String,
        /// Governance epoch.
        epoch: i64,
        /// Seconds since 1970.
        now: i64,
        /// Kind of evidence that the partner appraised.
        kind: String,
        /// SPIFFE ID that it asserts.
        subject: String,
        /// Age of its result.
        result_age_s: i64,
        /// Age of its governance state.
        state_age_s: i64,
    },
}

impl Question<'_> {
    pub(crate) fn context(&self) -> Cedar {
        let long = Cedar::new_long;
        match self {
            Self::Attest { claims } => Cedar::new_record([("claims", claims.to_cedar())]),
            Self::Execute { claims, intent, scope: _, renewal } => Cedar::new_record([
                ("claims", claims.to_cedar()),
                ("intent", intent.to_cedar()),
                ("renewal", Cedar::new_bool(*renewal)),
            ]),
            Self::Release { claims, intent, key: _, labels } => Cedar::new_record([
                ("claims", claims.to_cedar()),
                ("intent", intent.to_cedar()),
                ("labels", texts(labels)),
            ]),
            Self::Witness { partner: _, domain: _, epoch, now, origin } => {
                Cedar::new_record([("epoch", long(*epoch)), ("now", long(*now)), ("origin", text(origin))])
            }
            Self::Federate { partner: _, domain: _, epoch, now, kind, subject, result_age_s, state_age_s } => {
                Cedar::new_record([
                    ("epoch", long(*epoch)),
                    ("now", long(*now)),
                    ("kind", text(kind)),
                    ("subject", text(subject)),
                    ("result_age_s", long(*result_age_s)),
                    ("state_age_s", long(*state_age_s)),
                ])
            }
        }
    }
}
