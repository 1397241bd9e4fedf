//! `policy test`: cases in a file, each a question and the answer it must get.

use serde::{Deserialize, Serialize};

use crate::claims::Question;
use crate::set::PolicySet;

/// Largest case file.
pub const CASES_CAP_BYTES: usize = 1 << 20;

/// A file of cases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// The cases.
    pub case: Vec<Case>,
}

/// One question, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// `affirmed`, or the code of the denial (`policy.forbidden`).
    pub expect: String,
    /// The policies that must have determined it, by `@id`; left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
    /// The question.
    pub ask: Question<'static>,
}

/// How one case went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseResult {
    /// The case.
    pub name: String,
    /// What was expected.
    pub expected: String,
    /// What was answered.
    pub got: String,
    /// The policies that determined it.
    pub by: Vec<String>,
    /// Whether both agree.
    pub passed: bool,
}

/// How all went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseReport {
    /// Each case, in the order of the file.
    pub cases: Vec<CaseResult>,
    /// Policies that determined no case: nothing here tests them.
    pub untested: Vec<String>,
}

impl CaseReport {
    /// Whether every case agrees. A file without cases shows nothing, and so does not pass.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(|case| case.passed)
    }
}

/// Why a case file does not read; the message holds line and column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CaseError(String);

impl CaseFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`CaseError`] with line and column.
    pub fn from_toml(text: &str) -> Result<Self, CaseError> {
        if text.len() > CASES_CAP_BYTES {
            return Err(CaseError(format!("{} bytes of cases, at most {CASES_CAP_BYTES}", text.len())));
        }
        toml::from_str(text).map_err(|e| CaseError(e.to_string()))
    }

    /// Asks `set` every question.
    #[must_use]
    pub fn run(&self, set: &PolicySet) -> CaseReport {
        let cases: Vec<_> = self.case.iter().map(|case| run(case, set)).collect();
        let determined = |id: &str| cases.iter().any(|case| case.by.iter().any(|by| by == id));
        let mut untested: Vec<_> =
            set.cedar.policies().map(|p| p.id().to_string()).filter(|id| !determined(id)).collect();
        untested.sort_unstable();
        CaseReport { cases, untested }
    }
}

fn run(case: &Case, set: &PolicySet) -> CaseResult {
    let (got, by) = match set.judge(&case.ask) {
        Ok(permitted) => ("affirmed", permitted.rules().iter().map(|rule| rule.id.clone()).collect()),
        Err(denials) => {
            let code = denials.first().map_or("policy.not_permitted", |denial| denial.code());
            (code, denials.iter().filter_map(|denial| denial.rule().map(|rule| rule.id.clone())).collect())
        }
    };
    let by: Vec<String> = by;
    let passed = case.expect == got && case.by.as_ref().is_none_or(|wanted| *wanted == by);
    CaseResult { name: case.name.clone(), expected: case.expect.clone(), got: got.to_owned(), by, passed }
}
