//! `[tdx]`: whose root trust domains and what Intel says of their platforms must lead to.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, value_error};

/// What trust domains are trusted by. Without it, by nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxConfig {
    /// Whether Intel's root (Intel SGX Root CA, its key pinned in this program) is trusted.
    pub intel: bool,
    /// Root certificates of fake Intel platforms (PEM or DER files); only with `lab = true`.
    #[serde(default)]
    pub simulated_roots: Vec<PathBuf>,
}

impl TdxConfig {
    pub(super) fn anchor_paths(&mut self, base: &Path) {
        for path in &mut self.simulated_roots {
            *path = base.join(&*path);
        }
    }

    pub(super) fn refuse_contradictions(&self, lab: bool) -> Result<(), ConfigError> {
        if !lab && !self.simulated_roots.is_empty() {
            return Err(value_error("tdx.simulated_roots", "fake Intel platforms are trusted only in a lab domain"));
        }
        Ok(())
    }

    pub(super) fn in_words(&self) -> String {
        let genuine = if self.intel { "under Intel's root" } else { "on no Intel platforms" };
        let simulated = match self.simulated_roots.len() {
            0 => String::new(),
            count => format!(" and under {count} roots of fake Intel platforms"),
        };
        format!("Trust domains (TDX) are trusted {genuine}{simulated}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intel_is_named_and_fakes_are_for_a_lab() {
        let of = |text: &str| toml::from_str::<TdxConfig>(text).unwrap();
        let genuine = of("intel = true");
        genuine.refuse_contradictions(false).unwrap();
        assert!(genuine.in_words().contains("under Intel's root."));
        assert!(TdxConfig::default().in_words().contains("on no Intel platforms"));
        let fake = of("intel = false\nsimulated_roots = [\"root.pem\"]");
        assert!(fake.refuse_contradictions(false).is_err());
        fake.refuse_contradictions(true).unwrap();
        assert!(toml::from_str::<TdxConfig>("").is_err(), "whether Intel is trusted is for the operator to say");
    }
}
