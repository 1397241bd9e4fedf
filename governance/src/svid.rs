//! What an execution is called in SPIFFE (SPIFFE-ID §2): by the name that its intent gives its workload, else by its intent.
//! A name is its node's own: no node can take another's.

use evidence::{
    cose::Alg,
    digest::Sha256Digest,
    names::{DomainName, ItemName},
};

use crate::{denial::GovernanceDenial, intent::Intent};

/// The label by which an intent names its workload; policies see it like any other label.
pub const WORKLOAD_LABEL: &str = "workload";

impl Intent {
    /// SPIFFE ID of the execution in a domain that authorizes it.
    ///
    /// # Errors
    /// As for [`Intent::encode`].
    pub fn spiffe_id(&self, domain: &DomainName) -> Result<String, GovernanceDenial> {
        let node = domain.node_spiffe_id(&self.node);
        Ok(match self.workload_name() {
            Some(name) => format!("{node}/workload/{name}"),
            None => format!("{node}/execution/{}", Sha256Digest::of(&self.encode()?)),
        })
    }

    /// The name that it gives its workload.
    fn workload_name(&self) -> Option<&str> {
        let label = self.scope.labels.iter().find(|(label, _)| label.as_str() == WORKLOAD_LABEL);
        label.map(|(_, name)| name.as_str())
    }

    /// Which rule of a field about SVIDs is broken.
    pub(crate) fn svid_fault(&self) -> Option<(&'static str, &'static str)> {
        if self.svid_key.alg() != Alg::Es256 {
            return Some(("svid_key", "a P-256 key"));
        }
        if self.workload_name().is_some_and(|name| ItemName::new(name).is_err()) {
            return Some(("scope.labels.workload", "1 to 64 characters of a-z 0-9 . _ -: it is part of a SPIFFE ID"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::{denial::GovernanceDenial, fixture};
    use evidence::names::ItemName;

    fn labelled(name: &str) -> crate::intent::Intent {
        let mut intent = fixture::intent();
        intent.scope.labels.insert(ItemName::new("workload").unwrap(), fixture::text(name));
        intent
    }

    #[test]
    fn an_execution_is_called_by_its_workload_s_name_or_its_intent() {
        let domain = fixture::domain();
        let node = domain.node_spiffe_id(&fixture::node());
        assert_eq!(labelled("billing").spiffe_id(&domain).unwrap(), format!("{node}/workload/billing"));
        let intent = fixture::intent();
        let digest = intent.digest().unwrap();
        assert_eq!(intent.spiffe_id(&domain).unwrap(), format!("{node}/execution/{digest}"));
        assert_ne!(labelled("billing").digest().unwrap(), digest);
    }

    #[test]
    fn a_name_that_is_no_path_segment_is_refused() {
        for bad in ["a/b", "..", "Billing", "a b", "a%2fb"] {
            let refused = labelled(bad).encode().unwrap_err();
            assert!(matches!(refused, GovernanceDenial::FieldInvalid { field: "scope.labels.workload", .. }), "{bad}");
        }
        let mut intent = fixture::intent();
        intent.svid_key = fixture::key(1).public().clone();
        assert!(matches!(intent.encode(), Err(GovernanceDenial::FieldInvalid { field: "svid_key", .. })));
    }
}
