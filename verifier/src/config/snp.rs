//! `[snp]`: which of AMD's product lines SNP guests may run on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use evidence::sev_snp::ProductLine;
use serde::{Deserialize, Serialize};

use super::{ConfigError, value_error};

/// What SNP guests are trusted by. Without it, by nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpConfig {
    /// AMD's product lines whose roots are trusted: `Milan`, `Genoa` (Bergamo and Siena with it), `Turin`.
    pub product_lines: BTreeSet<String>,
    /// Root certificates of fake AMD chips (PEM or DER files), by product line; only with `lab = true`.
    #[serde(default)]
    pub simulated_roots: BTreeMap<String, Vec<PathBuf>>,
}

impl SnpConfig {
    pub(super) fn anchor_paths(&mut self, base: &Path) {
        for path in self.simulated_roots.values_mut().flatten() {
            *path = base.join(&*path);
        }
    }

    pub(super) fn refuse_contradictions(&self, lab: bool) -> Result<(), ConfigError> {
        let unknown = |line: &&String| ProductLine::from_name(line).is_none();
        if let Some(line) = self.product_lines.iter().chain(self.simulated_roots.keys()).find(unknown) {
            return Err(value_error("snp.product_lines", format!("{line:?} is no product line of AMD's")));
        }
        if !lab && !self.simulated_roots.is_empty() {
            return Err(value_error("snp.simulated_roots", "fake AMD chips are trusted only in a lab domain"));
        }
        Ok(())
    }

    pub(super) fn in_words(&self) -> String {
        let lines: Vec<_> = self.product_lines.iter().map(String::as_str).collect();
        let genuine =
            if lines.is_empty() { "no AMD processors".to_owned() } else { format!("AMD {}", lines.join(", ")) };
        let simulated = match self.simulated_roots.values().flatten().count() {
            0 => String::new(),
            count => format!(" and under {count} roots of fake AMD chips"),
        };
        format!("SNP guests are trusted on {genuine}{simulated}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_amds_and_fakes_are_for_a_lab() {
        let of = |text: &str| toml::from_str::<SnpConfig>(text).unwrap();
        let genuine = of("product_lines = [\"Genoa\", \"Turin\"]");
        genuine.refuse_contradictions(false).unwrap();
        assert!(genuine.in_words().contains("AMD Genoa, Turin."));
        assert!(of("product_lines = [\"Naples\"]").refuse_contradictions(true).is_err());
        let fake = of("product_lines = []\nsimulated_roots = { Milan = [\"ark.pem\"] }");
        assert!(fake.refuse_contradictions(false).is_err());
        fake.refuse_contradictions(true).unwrap();
        assert!(
            of("product_lines = []\nsimulated_roots = { milan = [\"ark.pem\"] }").refuse_contradictions(true).is_err()
        );
        assert!(toml::from_str::<SnpConfig>("").is_err(), "which lines is for the operator to say");
    }
}
