//! Following a domain's keys: newer trust bundles, and the certificates by which this node is let in.
//!
//! Both come from the domain's verifier, at hello and whenever they change. A bundle counts by its signatures alone; a
//! certificate only opens a door. What is taken is durable before it is used, so that a restart goes back to nothing older.

use evidence::names::DomainName;

use super::domain::Domain;
use super::{Node, Refused, lock};
use crate::clock::unix_now;
use crate::grants;
use crate::tls::{ClientIdentity, Connection};

impl Node {
    /// Connects to a domain's verifier: it must be under a CA of the newest bundle, and is shown the newest certificate.
    pub(super) async fn connect(&self, domain: &Domain) -> Result<Connection, Refused> {
        let unknown = || Refused::fault("fault.bug", "a link to an unknown domain");
        let identity = self.domains.get(&domain.name).ok_or_else(unknown)?;
        let certificate_pem = lock(&self.certificates).get(&domain.name).cloned().ok_or_else(unknown)?;
        let client = ClientIdentity { certificate_pem: &certificate_pem, key_pkcs8: &self.key_pkcs8 };
        let connection = Connection::for_node(&identity.config, &domain.bundle().bundle().ca, &client).await;
        connection.map_err(|fault| Refused::fault(fault.code(), &fault))
    }

    /// Holds a newer trust bundle from now on; the held one changes nothing, and any other is refused.
    pub(super) fn follow_bundle(&self, domain: &Domain, signatures: &[Vec<u8>]) -> Result<(), Refused> {
        let Some(bundle) = domain.newer(signatures, unix_now())? else { return Ok(()) };
        grants::keep_bundle(&self.state, &domain.name, signatures)?;
        let sequence = bundle.bundle().sequence;
        domain.hold(bundle);
        tracing::info!(domain = %domain.name, sequence, "a newer trust bundle is followed");
        Ok(())
    }

    /// Shows this certificate at the next connection. One that cannot be shown is left aside: the door stays as it was.
    pub(super) fn show_certificate(&self, domain: &DomainName, pem: Vec<u8>) -> Result<(), Refused> {
        let client = ClientIdentity { certificate_pem: &pem, key_pkcs8: &self.key_pkcs8 };
        if let Err(fault) = client.usable() {
            tracing::warn!(%domain, %fault, "the verifier made a certificate that this node cannot show");
            return Ok(());
        }
        grants::keep_certificate(&self.state, domain, &pem)?;
        lock(&self.certificates).insert(domain.clone(), pem);
        Ok(())
    }
}
