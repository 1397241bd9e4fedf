//! The environment of a workload: what the node's configuration allows by name, and nothing it inherited.

use std::collections::{BTreeMap, BTreeSet};

/// A workload's environment, already judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    requested: BTreeSet<String>,
}

impl Environment {
    /// Takes `NAME=VALUE` pairs whose names are on the allow-list; anything else is refused, not dropped in silence.
    ///
    /// Names that make the dynamic linker or libc load code or data from elsewhere are never allowed, listed or not: they
    /// would change what the measured executable does. Nor are names of our own.
    pub fn new(requested: &[String], allowed: &BTreeSet<String>) -> Result<Self, EnvironmentError> {
        let mut names = BTreeSet::new();
        let mut variables = BTreeMap::from([("PATH".to_owned(), SEARCH_PATH.to_owned())]);
        if requested.len() > VARIABLES_CAP {
            return Err(EnvironmentError::TooMany { got: requested.len(), cap: VARIABLES_CAP });
        }
        for pair in requested {
            let Some((name, value)) = pair.split_once('=').filter(|(name, _)| is_name(name)) else {
                return Err(EnvironmentError::NotAPair);
            };
            if is_never_allowed(name) || !allowed.contains(name) {
                return Err(EnvironmentError::NotAllowed { name: name.to_owned() });
            }
            if value.contains('\0') {
                return Err(EnvironmentError::NotAPair);
            }
            names.insert(name.to_owned());
            variables.insert(name.to_owned(), value.to_owned());
        }
        Ok(Self { variables, requested: names })
    }

    /// The names that were asked for.
    pub fn requested(&self) -> impl Iterator<Item = &str> {
        self.requested.iter().map(String::as_str)
    }

    /// Where the program is looked for.
    #[must_use]
    pub fn search_path(&self) -> &str {
        self.variables.get("PATH").map_or(SEARCH_PATH, String::as_str)
    }

    pub(crate) fn into_pairs(self) -> Vec<(String, String)> {
        self.variables.into_iter().collect()
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_CAP_BYTES && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// ld.so(8) and libc; ours.
fn is_never_allowed(name: &str) -> bool {
    name.starts_with("LD_")
        || name.starts_with("ATTESTD_")
        || [
            "GCONV_PATH",
            "GETCONF_DIR",
            "GLIBC_TUNABLES",
            "HOSTALIASES",
            "LOCALDOMAIN",
            "LOCPATH",
            "MALLOC_TRACE",
            "NIS_PATH",
            "NLSPATH",
            "RESOLV_HOST_CONF",
            "RES_OPTIONS",
            "TMPDIR",
            "TZDIR",
        ]
        .contains(&name)
}

/// Why an environment was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// Not `NAME=VALUE`.
    #[error("an environment variable must be NAME=VALUE with letters, digits and _ in its name")]
    NotAPair,
    /// Not on the node's allow-list.
    #[error("environment variable {name} is not allowed by this node")]
    NotAllowed {
        /// Its name.
        name: String,
    },
    /// Over the cap.
    #[error("{got} environment variables, at most {cap}")]
    TooMany {
        /// How many.
        got: usize,
        /// The cap.
        cap: usize,
    },
}

/// Where programs are looked for unless the request names an allowed PATH.
pub(crate) const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const VARIABLES_CAP: usize = 256;
const NAME_CAP_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn strings<C: FromIterator<String>>(texts: &[&str]) -> C {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn only_allowed_names_pass_and_the_linkers_never() {
        let allowed = strings(&["LANG", "LD_PRELOAD", "ATTESTD_KEY_FD_A"]);
        let environment = Environment::new(&strings::<Vec<_>>(&["LANG=C=x"]), &allowed).unwrap();
        assert_eq!(environment.into_pairs(), [("LANG".into(), "C=x".into()), ("PATH".into(), SEARCH_PATH.into())]);
        for pair in ["HOME=/", "LD_PRELOAD=x.so", "ATTESTD_KEY_FD_A=9"] {
            let refused = Environment::new(&strings::<Vec<_>>(&[pair]), &allowed);
            assert!(matches!(refused, Err(EnvironmentError::NotAllowed { .. })), "{pair}");
        }
        for pair in ["LANG", "=x", "LA NG=x", "LANG=a\0b"] {
            assert_eq!(
                Environment::new(&strings::<Vec<_>>(&[pair]), &allowed),
                Err(EnvironmentError::NotAPair),
                "{pair}"
            );
        }
    }

    #[test]
    fn the_number_of_variables_is_capped() {
        let many: Vec<String> = (0..300).map(|n| format!("LANG={n}")).collect();
        assert_eq!(Environment::new(&many, &strings(&["LANG"])), Err(EnvironmentError::TooMany { got: 300, cap: 256 }));
    }
}
