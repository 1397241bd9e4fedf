//! A policy set: Cedar text with a name and a version, strictly validated when
//! it is read. A set that mentions a field the schema does not have never loads.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{EntityUid, PolicyId, PolicySet as CedarSet, Schema, ValidationMode, ValidationWarning, Validator};
use evidence::{
    cbor::{self, Caps, CborError},
    cose::{CoseDenial, KeyId, Purpose, SigningKey, sign1},
    digest::Sha256Digest,
    names::{DomainName, ItemName},
    threshold::{Authority, ThresholdDenial},
    time::UnixSeconds,
};
use firmware_refs::text::{Moment, Text};
use serde::{Deserialize, Serialize};

use crate::engine::Rule;
use crate::schema::{Action, Names, schema};
use crate::shape::FittingShapes;

/// Largest policy text.
pub const SET_CAP_BYTES: usize = 256 * 1024;

/// Largest signed form: the text and what stands around it.
pub const DOCUMENT_CAP_BYTES: usize = SET_CAP_BYTES + 4096;

/// Most policies in one set: each is evaluated on every request.
pub const POLICIES_CAP: usize = 256;

/// A policy set as signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Name; versions of one name supersede each other.
    pub id: ItemName,
    /// Version, from 1, never reused.
    pub version: u64,
    /// The domain whose policy authority signs the set.
    pub domain: DomainName,
    /// When it was written.
    pub issued_at: Moment,
    /// First moment at which it permits nothing any more.
    pub not_after: Moment,
    /// Why this version exists.
    pub reason: Text,
    /// The policies, in Cedar.
    pub cedar: String,
}

/// Why text or bytes are not a policy set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicySetError {
    /// The schema compiled into this program does not read: a defect of this program.
    #[error("policy schema: {0}")]
    Schema(String),
    /// Longer than the cap.
    #[error("policy set of {got_bytes} bytes, at most {SET_CAP_BYTES} allowed")]
    TooLong {
        /// Length received.
        got_bytes: usize,
    },
    /// The CBOR around it does not read.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// The signatures.
    #[error(transparent)]
    Signatures(#[from] ThresholdDenial),
    /// It is another domain's.
    #[error("the policy set is of domain {got}, not {wanted}")]
    OtherDomain {
        /// Domain in the set.
        got: DomainName,
        /// Domain whose authority signs.
        wanted: DomainName,
    },
    /// It is not usable, for these reasons.
    #[error("policy set is not usable:\n{}", lines(.0))]
    Unusable(Vec<PolicyProblem>),
}

fn lines(problems: &[PolicyProblem]) -> String {
    problems.iter().map(|p| format!("  {p}")).collect::<Vec<_>>().join("\n")
}

/// One thing wrong with a policy set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyProblem {
    /// The policy, by its `@id` or its position.
    pub policy: Option<String>,
    /// Line in the Cedar text, from 1, where one is known.
    pub line: Option<usize>,
    /// What.
    pub what: String,
}

impl std::fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(policy) = &self.policy {
            write!(f, "policy {policy}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// Name of a policy set in denials and results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyName {
    /// Name of the set.
    pub id: ItemName,
    /// Its version.
    pub version: u64,
    /// Who signed it; empty for a set that is only being tried.
    pub signers: Vec<KeyId>,
}

impl std::fmt::Display for PolicyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} version {}", self.id, self.version)
    }
}

/// A policy set, validated and ready to be asked.
#[derive(Clone, Debug)]
pub struct PolicySet {
    pub(crate) document: PolicyDocument,
    digest: Sha256Digest,
    pub(crate) name: Arc<PolicyName>,
    pub(crate) cedar: CedarSet,
    /// Of those, the ones whose scope can concern each action, in the order of [`Action::ALL`]: the rest can
    /// neither be satisfied nor err, and would only cost time on every request.
    concerned: [CedarSet; 5],
    pub(crate) rules: Arc<HashMap<PolicyId, Rule>>,
    pub(crate) schema: Schema,
    pub(crate) fitting: FittingShapes,
    pub(crate) names: Names,
}

impl PolicySet {
    /// Reads and strictly validates a set that nobody signed: for `policy check`, `policy test` and backtests.
    ///
    /// # Errors
    /// [`PolicySetError::Unusable`] with every problem found.
    pub fn from_document(document: PolicyDocument) -> Result<Self, PolicySetError> {
        Self::build(document, Vec::new())
    }

    /// Verifies that `authority` of `domain` signed, then reads and validates the set.
    ///
    /// # Errors
    /// [`PolicySetError`].
    pub fn open<B: AsRef<[u8]>>(
        signatures: &[B],
        domain: &DomainName,
        authority: &Authority,
    ) -> Result<Self, PolicySetError> {
        let signed = authority.verify(Purpose::PolicySet, domain, signatures)?;
        let document: PolicyDocument = cbor::from_slice(signed.payload(), Caps::bytes(DOCUMENT_CAP_BYTES))?;
        if &document.domain != domain {
            return Err(PolicySetError::OtherDomain { got: document.domain, wanted: domain.clone() });
        }
        Self::build(document, signed.signers().to_vec())
    }

    fn build(document: PolicyDocument, signers: Vec<KeyId>) -> Result<Self, PolicySetError> {
        if document.cedar.len() > SET_CAP_BYTES {
            return Err(PolicySetError::TooLong { got_bytes: document.cedar.len() });
        }
        let schema = schema()?;
        let cedar = named(&document.cedar).map_err(PolicySetError::Unusable)?;
        let problems = validate(&cedar, &schema, &document);
        if !problems.is_empty() {
            return Err(PolicySetError::Unusable(problems));
        }
        let digest = Sha256Digest::of(&cbor::to_vec(&document)?);
        let name = Arc::new(PolicyName { id: document.id.clone(), version: document.version, signers });
        let names = Names::new()?;
        let concerned = Action::ALL.map(|action| concerning(&cedar, &names.action(action), &schema));
        let rules = Arc::new(cedar.policies().map(|policy| (policy.id().clone(), Rule::of(policy))).collect());
        let fitting = FittingShapes::default();
        Ok(Self { document, digest, name, cedar, concerned, rules, schema, fitting, names })
    }

    /// One signature over the set.
    ///
    /// # Errors
    /// [`CoseDenial`] when it cannot be written.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, CoseDenial> {
        sign1(Purpose::PolicySet, &self.document.domain, &cbor::to_vec(&self.document)?, key)
    }

    /// The policies whose scope can concern `action`.
    pub(crate) fn concerned(&self, action: Action) -> &CedarSet {
        action.of(&self.concerned)
    }

    /// As written.
    #[must_use]
    pub fn document(&self) -> &PolicyDocument {
        &self.document
    }

    /// Its name, version and signers.
    #[must_use]
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// SHA-256 of its signed form.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// First moment at which it permits nothing any more.
    #[must_use]
    pub fn not_after(&self) -> UnixSeconds {
        self.document.not_after.at()
    }
}

/// The policies of `cedar` with a request to `action` that their scope fits. One that cannot be added stays out of
/// no set: the whole of `cedar` is asked then.
fn concerning(cedar: &CedarSet, action: &EntityUid, schema: &Schema) -> CedarSet {
    let concerned = cedar.policies().filter(|p| p.get_valid_request_envs(schema).any(|env| env.action() == action));
    CedarSet::from_policies(concerned.cloned()).unwrap_or_else(|_| cedar.clone())
}

/// Reads Cedar text and names every policy by its `@id`: an unnamed one could not be told in a denial.
pub(crate) fn named(text: &str) -> Result<CedarSet, Vec<PolicyProblem>> {
    let parsed = CedarSet::from_str(text).map_err(|errors| syntax(&errors, text))?;
    let mut problems = Vec::new();
    let mut ids: BTreeMap<String, PolicyId> = BTreeMap::new();
    let mut problem = |policy: &PolicyId, what: &str| {
        problems.push(PolicyProblem { policy: Some(policy.to_string()), line: None, what: what.to_owned() });
    };
    if parsed.templates().next().is_some() {
        return Err(vec![whole("templates are not used: write the policy out")]);
    }
    let mut renamed = Vec::new();
    for policy in parsed.policies() {
        match policy.annotation("id") {
            None | Some("") => problem(policy.id(), "has no @id(\"...\")"),
            Some(id) if !is_policy_id(id) => problem(policy.id(), "@id is 1 to 64 of a-z, 0-9, '.', '_' and '-'"),
            Some(id) => match ids.insert(id.to_owned(), policy.id().clone()) {
                None => renamed.push(policy.new_id(PolicyId::new(id))),
                Some(_) => problem(policy.id(), &format!("@id(\"{id}\") stands twice")),
            },
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    CedarSet::from_policies(renamed).map_err(|e| vec![whole(&e.to_string())])
}

fn is_policy_id(id: &str) -> bool {
    ItemName::new(id).is_ok()
}

fn whole(what: &str) -> PolicyProblem {
    PolicyProblem { policy: None, line: None, what: what.to_owned() }
}

fn syntax(errors: &cedar_policy::ParseErrors, text: &str) -> Vec<PolicyProblem> {
    errors
        .iter()
        .map(|error| PolicyProblem { policy: None, line: line_of(error, text), what: error.to_string() })
        .collect()
}

/// Line of the first label of an error, from 1.
pub(crate) fn line_of(error: &dyn miette::Diagnostic, text: &str) -> Option<usize> {
    let offset = error.labels()?.next()?.offset();
    let before = text.as_bytes().get(..offset)?;
    Some(before.iter().filter(|b| **b == b'\n').count().saturating_add(1))
}

/// What makes a set unusable: errors of strict validation, and text that is made to deceive its reader.
fn validate(cedar: &CedarSet, schema: &Schema, document: &PolicyDocument) -> Vec<PolicyProblem> {
    let mut problems = Vec::new();
    if document.version == 0 {
        problems.push(whole("versions start at 1"));
    }
    if document.issued_at >= document.not_after {
        problems.push(whole("the set was over when it was written"));
    }
    let count = cedar.num_of_policies();
    if count == 0 {
        problems.push(whole("the set has no policy: it would deny everything"));
    }
    if count > POLICIES_CAP {
        problems.push(whole(&format!("{count} policies, at most {POLICIES_CAP} are evaluated")));
    }
    let result = Validator::new(schema.clone()).validate(cedar, ValidationMode::Strict);
    problems.extend(result.validation_errors().map(|error| PolicyProblem {
        policy: Some(error.policy_id().to_string()),
        line: line_of(error, &document.cedar),
        what: error.to_string(),
    }));
    problems.extend(result.validation_warnings().filter(|warning| is_fatal(warning)).map(|warning| PolicyProblem {
        policy: Some(warning.policy_id().to_string()),
        line: line_of(warning, &document.cedar),
        what: warning.to_string(),
    }));
    problems
}

/// Warnings of Cedar that we do not load over: a policy that can apply to no question (a `forbid` would be no
/// more than decoration), and characters that show a reader something else than they mean.
fn is_fatal(warning: &ValidationWarning) -> bool {
    matches!(
        warning,
        ValidationWarning::InvalidActionApplication(_)
            | ValidationWarning::BidiCharsInString(_)
            | ValidationWarning::BidiCharsInIdentifier(_)
            | ValidationWarning::MixedScriptString(_)
            | ValidationWarning::MixedScriptIdentifier(_)
            | ValidationWarning::ConfusableIdentifier(_)
    )
}
