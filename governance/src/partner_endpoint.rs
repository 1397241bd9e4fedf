//! Where a partner's public surface is, and by what its server is known.

use serde::{Deserialize, Serialize};

use crate::{denial::GovernanceDenial, text::Text};

/// By what the server at a partner's URL is known (SPIFFE Federation §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointProfile {
    /// By a certificate of the partner's own CA, in its held bundle, that carries the SPIFFE ID of its verifier.
    HttpsSpiffe,
    /// By a certificate for the URL's host under a root that this verifier is configured with.
    HttpsWeb,
}

/// The endpoint, as an operator's order states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartnerEndpoint {
    /// `https://`, a host, perhaps a port and a path; no user, query, fragment or slash at the end.
    pub url: Text,
    /// By what the server is known.
    pub profile: EndpointProfile,
}

impl PartnerEndpoint {
    /// Refuses any other form of URL.
    ///
    /// # Errors
    /// [`GovernanceDenial::FieldInvalid`].
    pub fn bounded(&self) -> Result<(), GovernanceDenial> {
        let refuse = |rule| Err(GovernanceDenial::FieldInvalid { what: "partner endpoint", field: "url", rule });
        let Some(rest) = self.url.as_str().strip_prefix("https://") else {
            return refuse("begins with https://");
        };
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        if host.is_empty() || rest.ends_with('/') || rest.contains(['?', '#', '@', ' ', '\\']) {
            return refuse("a host, perhaps a port and a path, no slash at the end");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_https_urls_are_endpoints() {
        let bounded = |url: &str| {
            PartnerEndpoint { url: Text::new(url).unwrap(), profile: EndpointProfile::HttpsSpiffe }.bounded()
        };
        for good in ["https://b.example", "https://127.0.0.1:8443", "https://b.example/mesh/a"] {
            bounded(good).unwrap();
        }
        for bad in ["http://b.example", "https://", "https://b.example/", "https://u@b.example", "https://b.example?x"]
        {
            assert_eq!(bounded(bad).unwrap_err().code(), "governance.field_invalid", "{bad}");
        }
    }
}
