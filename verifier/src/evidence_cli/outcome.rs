//! What came of a case, and how it is said.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use audit::AuditDenial;
use evidence::EvidenceDenial;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    EXIT_DENIED, EXIT_FAULT,
    args::Format,
    case::Case,
    classes,
    inspect::{Table, print_value},
};

/// What authentic evidence says.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Claims by name.
    pub claims: Map<String, Value>,
    /// What appraisal would mind.
    pub notes: Vec<String>,
}

impl Report {
    pub(super) fn claim(&mut self, name: &str, value: impl Into<Value>) {
        self.claims.insert(name.to_owned(), value.into());
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// Why a case could not be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A file could not be read.
    #[error("cannot read {}: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The request does not say what to judge.
    #[error("request not understood: {what}")]
    Request {
        /// Why.
        what: String,
    },
    /// A kind of evidence that this verifier does not judge.
    #[error("kind of evidence not supported: {kind}")]
    Kind {
        /// As asked for, escaped.
        kind: String,
    },
    /// This machine's clock stands before 1970.
    #[error("this machine's clock stands before 1970")]
    Clock,
}

impl Fault {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "fault.file_unreadable",
            Self::Request { .. } => "fault.request_malformed",
            Self::Kind { .. } => "fault.kind_unsupported",
            Self::Clock => "fault.clock",
        }
    }
}

/// Why a case was judged, and refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// By a check of evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceDenial),
    /// By a check of a log.
    #[error(transparent)]
    Log(#[from] AuditDenial),
    /// A test vector that wants another judgement.
    #[error("vector {name} is {}, it wants the opposite", if *.is_refused { "refused" } else { "verified" })]
    Vector {
        /// Which, escaped.
        name: String,
        /// What came of it.
        is_refused: bool,
    },
}

impl Denial {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Evidence(denial) => denial.code(),
            Self::Log(denial) => denial.code(),
            Self::Vector { .. } => "audit.vector_disagrees",
        }
    }

    /// The coarse class that a corpus knows: parse, signature, chain, collateral, tcb, validity, binding, policy, nonce,
    /// replay, event-digest or profile.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Evidence(denial) => classes::of_evidence(denial),
            Self::Log(denial) => classes::of_log(denial),
            Self::Vector { .. } => "binding",
        }
    }
}

/// A denial or a fault on the way to a report.
#[derive(Debug)]
pub(super) enum Refusal {
    Denied(Denial),
    Fault(Fault),
}

impl<D: Into<Denial>> From<D> for Refusal {
    fn from(denial: D) -> Self {
        Self::Denied(denial.into())
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What came of a case.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Genuinely signed and consistent.
    Authentic(Report),
    /// Judged, and refused.
    Denied(Denial),
    /// Not judged.
    Fault(Fault),
}

impl Outcome {
    /// The answer of a batch, JSON.
    pub(super) fn to_batch_answer(&self, id: &Value) -> serde_json::Result<Vec<u8>> {
        let nothing = Map::new();
        let unjudged = |decision, code, text| BatchAnswer {
            id,
            decision,
            class: None,
            code: Some(code),
            claims: &nothing,
            notes: None,
            text: Some(text),
        };
        serde_json::to_vec(&match self {
            Self::Authentic(Report { claims, notes }) => {
                let (class, code, text) = (None, None, None);
                BatchAnswer { id, decision: "authentic", class, code, claims, notes: Some(notes), text }
            }
            Self::Denied(denial) => {
                BatchAnswer { class: Some(denial.class()), ..unjudged("denied", denial.code(), denial.to_string()) }
            }
            Self::Fault(fault) => unjudged("fault", fault.code(), fault.to_string()),
        })
    }

    fn to_json(&self, case: &Case) -> Value {
        let kind = case.kind.name();
        match self {
            Self::Authentic(report) => {
                json!({"decision": "authentic", "kind": kind, "claims": report.claims, "notes": report.notes})
            }
            Self::Denied(denial) => json!({"decision": "denied", "kind": kind, "failures": [{
                "code": denial.code(), "class": denial.class(), "claim": null, "got": denial.to_string(),
                "accepted": [], "reference": null, "hint": null,
            }]}),
            Self::Fault(fault) => {
                json!({"decision": "fault", "kind": kind, "code": fault.code(), "text": fault.to_string()})
            }
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Authentic(_) => ExitCode::SUCCESS,
            Self::Denied(_) => ExitCode::from(EXIT_DENIED),
            Self::Fault(_) => ExitCode::from(EXIT_FAULT),
        }
    }
}

/// One line of a batch's output.
#[derive(Serialize)]
struct BatchAnswer<'a> {
    id: &'a Value,
    decision: &'static str,
    class: Option<&'static str>,
    code: Option<&'static str>,
    claims: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Prints the outcome of one case.
pub(super) fn print(outcome: &Outcome, case: &Case, format: Format) -> std::io::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match (format, outcome) {
        (Format::Json, _) => print_value(&mut out, &outcome.to_json(case))?,
        (Format::Text, Outcome::Authentic(report)) => {
            writeln!(out, "authentic: {}", case.kind.name())?;
            writeln!(out, "{}", Table::of_claims(&report.claims))?;
            for note in &report.notes {
                writeln!(out, "note: {note}")?;
            }
        }
        (Format::Text, Outcome::Denied(denial)) => {
            writeln!(out, "denied: {} ({})\n{denial}", denial.code(), denial.class())?;
        }
        (Format::Text, Outcome::Fault(fault)) => writeln!(out, "fault: {}\n{fault}", fault.code())?,
    }
    out.flush()?;
    Ok(outcome.exit_code())
}
