//! Where two verifiers part, reviewed: which rule, by which clause, who is stricter.

use crate::Verdict;

/// Kinds of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SEV-SNP, against `sev` 8.
    Snp,
    /// TDX, against `dcap-qvl` 0.7.
    Tdx,
}

/// Who refuses what the other accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stricter {
    /// This project.
    Ours,
    /// The other.
    Theirs,
    /// Neither: both accept and read something else.
    Neither,
}

impl Stricter {
    /// Its word in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
            Self::Neither => "neither",
        }
    }
}

/// One reviewed difference.
#[derive(Clone, Copy, Debug)]
pub struct Divergence {
    /// Which evidence.
    pub kind: Kind,
    /// The rule in a few words; also its name.
    pub rule: &'static str,
    /// Fields whose change may lead to it: exact names, or beginnings that end in a dot.
    pub fields: &'static [&'static str],
    /// Who is stricter.
    pub stricter: Stricter,
    /// What the stricter side's words contain, one of them; where neither is, the words begin with ours.
    pub words: &'static [&'static str],
    /// Specification and clause.
    pub clause: &'static str,
    /// Why it may stay as it is.
    pub review: &'static str,
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Divergence> {
    crate::snp::divergences::SNP.iter().chain(crate::tdx::divergences::TDX)
}

/// Two verdicts that are not the same: who is stricter, and its words. `None` where they agree.
pub fn between(ours: &Verdict, theirs: &Verdict) -> Option<(Stricter, String)> {
    match (ours, theirs) {
        (Verdict::Refused(_), Verdict::Refused(_)) => None,
        (Verdict::Refused(why), Verdict::Accepted(_)) => Some((Stricter::Ours, why.clone())),
        (Verdict::Accepted(_), Verdict::Refused(why)) => Some((Stricter::Theirs, why.clone())),
        (Verdict::Accepted(ours), Verdict::Accepted(theirs)) if ours == theirs => None,
        (Verdict::Accepted(ours), Verdict::Accepted(theirs)) => {
            Some((Stricter::Neither, format!("ours {ours} theirs {theirs}")))
        }
    }
}

impl Divergence {
    /// Whether it explains that a change of `field` made the two part so.
    pub fn explains(&self, kind: Kind, field: &str, stricter: Stricter, words: &str) -> bool {
        let is_of = |of: &&str| field == *of || (of.ends_with('.') && field.starts_with(*of));
        self.kind == kind
            && self.stricter == stricter
            && self.words.iter().any(|of| words.contains(of))
            && self.fields.iter().any(is_of)
    }
}

/// The table as DIVERGENCES.md has it.
pub fn table() -> String {
    let mut text = String::from(HEAD);
    for (kind, title) in [(Kind::Snp, "SEV-SNP: ours and `sev` 8"), (Kind::Tdx, "TDX: ours and `dcap-qvl` 0.7")] {
        text.push_str(&format!(
            "\n## {title}\n\n| rule | changed | stricter | clause | review |\n|---|---|---|---|---|\n"
        ));
        for of in all().filter(|of| of.kind == kind) {
            let fields = of.fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
            let Divergence { rule, clause, review, .. } = of;
            text.push_str(&format!("| {rule} | {fields} | {} | {clause} | {review} |\n", of.stricter.name()));
        }
    }
    text
}

const HEAD: &str = "# Where verifiers part

Mutants of simulated evidence are judged by this project and by another implementation of the same specification
(`oracle/tests/differential.rs`). Each difference is one row here, with the clause that settles it; a difference without
a row fails the test, and so does a row that no mutant reaches. A field that ends in a dot stands for all below it.

`ours` stricter is what we want. `theirs` stricter is a rule that another stage of ours decides, or one that the
specification does not have. `neither` means that both accept and report something else.
";
