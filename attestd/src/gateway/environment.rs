//! The environment of a workload: what the node's configuration allows by name, and nothing it inherited.

use std::collections::{BTreeMap, BTreeSet};

/// A workload's environment, already judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    requested: BTreeSet<String>,
}

impl Environment {
    /// Takes variables whose names are on the allow-list; anything else is refused, not dropped in silence.
    ///
    /// Names that make the dynamic linker or libc load code or data from elsewhere are never allowed, listed or not: they
    /// would change what the measured executable does. Nor are names of our own.
    ///
    /// # Errors
    /// [`EnvironmentError`].
    pub fn new(requested: BTreeMap<String, String>, allowed: &BTreeSet<String>) -> Result<Self, EnvironmentError> {
        if let Some(name) = requested.keys().find(|name| is_never_allowed(name) || !allowed.contains(*name)) {
            return Err(EnvironmentError::NotAllowed { name: name.clone() });
        }
        let names = requested.keys().cloned().collect();
        let mut variables = BTreeMap::from([("PATH".to_owned(), SEARCH_PATH.to_owned())]);
        variables.extend(requested);
        Ok(Self { variables, requested: names })
    }

    /// The same below what an image sets: whoever asks for a variable by name has the last word. Names that steer the dynamic
    /// linker are allowed here: they are in the image's digest, and so is all that they lead to. Ours are not.
    ///
    /// # Errors
    /// [`EnvironmentError`].
    pub fn over(self, image: &[(String, String)]) -> Result<Self, EnvironmentError> {
        let ours = |name: &str| name.starts_with("ATTESTD_") || name == SPIFFE_ENDPOINT_SOCKET;
        if let Some((name, _)) = image.iter().find(|(name, _)| ours(name)) {
            return Err(EnvironmentError::OfImage { name: name.clone() });
        }
        let mut variables = BTreeMap::from([("PATH".to_owned(), SEARCH_PATH.to_owned())]);
        variables.extend(image.iter().cloned());
        let named = self.variables.into_iter().filter(|(name, _)| self.requested.contains(name));
        variables.extend(named);
        Ok(Self { variables, requested: self.requested })
    }

    /// The same with what the daemon tells every workload.
    #[must_use]
    pub fn told(mut self, name: &str, value: String) -> Self {
        self.variables.insert(name.to_owned(), value);
        self
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
            SPIFFE_ENDPOINT_SOCKET,
            "TMPDIR",
            "TZDIR",
        ]
        .contains(&name)
}

/// Why an environment was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// Not on the node's allow-list.
    #[error("environment variable {name} is not allowed by this node")]
    NotAllowed {
        /// Its name.
        name: String,
    },
    /// Set by an image, but for the node to set.
    #[error("the image sets {name}, which is for this node to set")]
    OfImage {
        /// Its name.
        name: String,
    },
}

/// Where a workload finds the Workload API (SPIFFE_Workload_Endpoint §4).
pub const SPIFFE_ENDPOINT_SOCKET: &str = "SPIFFE_ENDPOINT_SOCKET";

/// Where a workload asks for its keys again.
pub const ATTESTD_KEYS_SOCKET: &str = "ATTESTD_KEYS_SOCKET";

/// Where programs are looked for unless the request names an allowed PATH.
pub(crate) const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), "C".to_owned())])
    }

    /// WhatsApp TOB-WAPI-13: variables that the loader obeys, taken after measurement (APPRAISAL.md §3 row 28).
    #[test]
    fn only_allowed_names_pass_and_the_linkers_never() {
        let allowed = ["LANG", "LD_PRELOAD", "ATTESTD_KEY_FD_A"].map(str::to_owned).into();
        let environment = Environment::new(one("LANG"), &allowed).unwrap();
        assert_eq!(environment.requested().collect::<Vec<_>>(), ["LANG"]);
        assert_eq!(environment.into_pairs(), [("LANG".into(), "C".into()), ("PATH".into(), SEARCH_PATH.into())]);
        let image = [("PATH", "/app"), ("LANG", "de"), ("LD_LIBRARY_PATH", "/app/lib")];
        let image = image.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let inside = Environment::new(one("LANG"), &allowed).unwrap().over(&image).unwrap();
        assert_eq!((inside.search_path(), inside.requested().count()), ("/app", 1));
        let pairs = [("LANG", "C"), ("LD_LIBRARY_PATH", "/app/lib"), ("PATH", "/app")];
        assert_eq!(inside.clone().into_pairs(), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for name in ["ATTESTD_KEY_FD_A", SPIFFE_ENDPOINT_SOCKET] {
            let refused = inside.clone().over(&[(name.to_owned(), String::new())]);
            assert_eq!(refused, Err(EnvironmentError::OfImage { name: name.to_owned() }));
        }
        for name in ["HOME", "PATH", "LD_PRELOAD", "ATTESTD_KEY_FD_A"] {
            let refused = Environment::new(one(name), &allowed);
            assert_eq!(refused, Err(EnvironmentError::NotAllowed { name: name.to_owned() }));
        }
    }
}
