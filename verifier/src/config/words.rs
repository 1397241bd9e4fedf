//! `config check`: what is enforced, in words.

use super::{Admission, Config};

impl Config {
    /// One sentence a line.
    #[must_use]
    pub fn in_words(&self) -> Vec<String> {
        let mut words = vec![format!("This verifier decides for the domain {}.", self.domain)];
        if self.lab {
            words.push(
                "LAB: software TPMs may be trusted and one person may decide alone. Guard nothing real with it."
                    .to_owned(),
            );
        }
        words.push(format!(
            "Policies, reference values, readmissions and revocations need the signatures of {} of {} authority keys.",
            self.authority.threshold,
            self.authority.keys.len()
        ));
        match &self.references {
            None => words.push("Every authority key may sign reference values for every environment.".to_owned()),
            Some(references) => words.extend(references.in_words()),
        }
        words.push(self.tpms_in_words());
        words.push(self.snp.in_words());
        words.push(self.tdx.in_words());
        words.push(match self.nodes.admission {
            Admission::Endorsed => {
                "A node may attest once its TPM or TEE is proven, and a trusted root endorses it or an operator admitted it."
            }
            Admission::Operator => "A node may attest once its TPM or TEE is proven and an operator has admitted it.",
        }.to_owned());
        words.push(format!(
            "An authorization lasts for its lease of {} ms, renewed with fresh evidence at a third of it.",
            self.lease.length_ms
        ));
        words.push(format!(
            "A governance state is fresh for {} s; a superseded reference value set matches for {} s more, unless its order says otherwise.",
            self.governance.state_lifetime_s, self.governance.reference_grace_s
        ));
        words.extend(self.endorsements.in_words());
        words.push(self.log_in_words());
        words.push(format!(
            "Enrolment is served on {}, enrolled nodes on {} (client certificate demanded), as {}; TLS 1.3 only.",
            self.listen.enrolment,
            self.listen.nodes,
            self.listen.names.join(", ")
        ));
        words.extend(self.federation.iter().flat_map(|federation| federation.in_words()));
        words.push(match self.listen.admin {
            Some(address) => format!("Health and metrics are served, without authentication, on {address}."),
            None => "Health and metrics are not served.".to_owned(),
        });
        words.push(format!(
            "At most {} connections ({} from one address) and {} appraisals at once.",
            self.limits.connections, self.limits.connections_per_address, self.limits.appraisals
        ));
        words
    }

    fn log_in_words(&self) -> String {
        let origin = &self.log.origin;
        match self.log.witness_quorum {
            0 => format!(
                "Every decision is logged in {origin} before anything is released. LAB: no witness watches that log."
            ),
            needed => format!(
                "Every decision is logged in {origin}; nothing is released before {needed} partners' witnesses have cosigned \
                 that log. Until {needed} partners are trusted as witnesses, nothing is released at all."
            ),
        }
    }

    fn tpms_in_words(&self) -> String {
        let simulated = match self.tpm.simulated_roots.len() {
            0 => String::new(),
            count => format!(" and {count} software TPM roots"),
        };
        format!(
            "TPMs are trusted under {} manufacturer roots{simulated}, and where an operator admitted the EK; {} digests are revoked.",
            self.tpm.roots.len(),
            self.tpm.revoked.len()
        )
    }
}
