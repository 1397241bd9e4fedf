//! `[endorsements]`: where vendors' certificates and collateral may be looked up, and how old they may be. Without a
//! cache nothing is looked up anywhere: what is needed is imported, or comes with the evidence.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, value_error};

/// Longest cache URL, in bytes.
const URL_CAP_BYTES: usize = 512;
/// Oldest statement that may be configured to be believed.
const AGE_CAP_S: u64 = 5 * 366 * 24 * 3600;

/// `[endorsements]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndorsementsConfig {
    /// A cache that answers as AMD's key distribution service does.
    pub amd_cache: Option<CacheUrl>,
    /// A cache that answers as Intel's provisioning certification service v4 does.
    pub intel_cache: Option<CacheUrl>,
    /// CA certificates (PEM or DER files) by which an https cache is known; demanded where a URL is https.
    pub cache_roots: Vec<PathBuf>,
    /// Revocation lists, TCB infos and identities issued longer ago are not judged by, even before their next update.
    pub maximum_age_s: u64,
    /// They are asked for anew when they were obtained longer ago.
    pub refresh_after_s: u64,
    /// Longest wait for one answer of a cache.
    pub deadline_ms: u64,
    /// Most requests to each cache in a minute.
    pub requests_per_minute: u32,
    /// How many versions of one endorsement are kept, so that old evidence can be judged at its time.
    pub versions: u32,
}

impl Default for EndorsementsConfig {
    fn default() -> Self {
        Self {
            amd_cache: None,
            intel_cache: None,
            cache_roots: Vec::new(),
            maximum_age_s: 400 * 24 * 3600,
            refresh_after_s: 24 * 3600,
            deadline_ms: 5_000,
            requests_per_minute: 60,
            versions: 32,
        }
    }
}

impl EndorsementsConfig {
    pub(super) fn refuse_contradictions(&self) -> Result<(), ConfigError> {
        let ranges = [
            ("endorsements.maximum_age_s", self.maximum_age_s, 60, AGE_CAP_S),
            ("endorsements.refresh_after_s", self.refresh_after_s, 60, AGE_CAP_S),
            ("endorsements.deadline_ms", self.deadline_ms, 100, 60_000),
            ("endorsements.requests_per_minute", u64::from(self.requests_per_minute), 1, 10_000),
            ("endorsements.versions", u64::from(self.versions), 1, 1_024),
        ];
        if let Some((key, got, min, max)) = ranges.into_iter().find(|(_, got, min, max)| got < min || got > max) {
            return Err(value_error(key, format!("is {got}, must be {min} to {max}")));
        }
        let secured = [&self.amd_cache, &self.intel_cache].into_iter().flatten().any(CacheUrl::is_https);
        if secured && self.cache_roots.is_empty() {
            return Err(value_error(
                "endorsements.cache_roots",
                "an https cache needs the CA certificate it is known by",
            ));
        }
        Ok(())
    }

    pub(super) fn in_words(&self) -> Vec<String> {
        let days = |seconds: u64| seconds.checked_div(24 * 3600).unwrap_or_default();
        let caches: Vec<_> = [("AMD", &self.amd_cache), ("Intel", &self.intel_cache)]
            .into_iter()
            .filter_map(|(vendor, url)| url.as_ref().map(|url| format!("{vendor}'s at {}", url.as_str())))
            .collect();
        let looked_up = if caches.is_empty() {
            "Endorsements of AMD and Intel are never looked up online: they come with evidence or by `endorsements import`."
                .to_owned()
        } else {
            format!(
                "Endorsements that are missing or {} days old are looked up in {}, each asked at most {} times a minute \
                 and waited for at most {} ms.",
                days(self.refresh_after_s),
                caches.join(" and "),
                self.requests_per_minute,
                self.deadline_ms
            )
        };
        let age = format!(
            "Revocation lists and TCB statements past their next update, or issued more than {} days ago, are not judged \
             by; {} versions of each are kept.",
            days(self.maximum_age_s),
            self.versions
        );
        vec![looked_up, age]
    }
}

/// `http://` or `https://`, a host, perhaps a port and a path; no user, query or fragment. Only the configuration has
/// such URLs, never evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CacheUrl(String);

impl CacheUrl {
    /// The URL, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the cache must show a certificate.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl TryFrom<String> for CacheUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("a cache URL {why}"));
        if text.len() > URL_CAP_BYTES {
            return refused("is too long");
        }
        let Ok(uri) = text.parse::<axum::http::Uri>() else { return refused("must be a URL") };
        let Some(authority) = uri.authority() else { return refused("must name a host") };
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return refused("must begin with http:// or https://");
        }
        if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
            return refused("must have no user, query or fragment");
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl From<CacheUrl> for String {
    fn from(url: CacheUrl) -> Self {
        url.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_caches_are_plain() {
        for good in ["http://127.0.0.1:8080", "https://pccs.example/path/", "http://[::1]:1"] {
            let url = CacheUrl::try_from(good.to_owned()).unwrap();
            assert_eq!(url.as_str(), good.trim_end_matches('/'));
        }
        for bad in ["", "x", "/path", "ftp://h", "http://", "http://u:p@h", "http://h?q", "http://h/#f", "file:///etc"]
        {
            assert!(CacheUrl::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(CacheUrl::try_from(format!("http://{}", "h".repeat(600))).is_err());
    }

    #[test]
    fn contradictions_are_refused_and_the_rest_is_put_into_words() {
        let mut config: EndorsementsConfig = toml::from_str("amd_cache = \"https://kds.example\"").unwrap();
        assert!(config.refuse_contradictions().is_err());
        config.cache_roots.push("ca.pem".into());
        config.refuse_contradictions().unwrap();
        assert!(config.in_words()[0].contains("AMD's at https://kds.example"), "{:?}", config.in_words());
        assert!(EndorsementsConfig::default().in_words()[0].contains("never looked up online"));
        config.versions = 0;
        assert!(config.refuse_contradictions().is_err());
        assert!(toml::from_str::<EndorsementsConfig>("amd_url = \"http://h\"").is_err());
    }
}
