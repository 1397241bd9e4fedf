//! Readmissions, as the real statement is judged: signed once with real keys, judged once for each case.

use std::collections::BTreeMap;

use evidence::{
    cose::SigningKey,
    digest::Sha256Digest,
    names::{DomainName, NodeId},
    threshold::Authority,
    time::UnixSeconds,
};
use governance::{
    statement::{Order, STATEMENT_VERSION, Statement},
    text::Text,
};

use super::{Bug, world::ReadmissionStatement};

/// Keys of the authority that must sign: what `verifier init` sets outside a lab.
pub(crate) const THRESHOLD: u8 = 2;
const SEQUENCES: std::ops::RangeInclusive<u64> = 1..=4;

#[derive(Clone, Debug)]
pub(crate) struct Readmissions {
    /// By sequence, signers, and the lowest sequence that is taken.
    judged: BTreeMap<(u64, u8, u64), bool>,
}

impl Readmissions {
    pub(crate) fn judged() -> Self {
        let keys: Vec<_> = (1..=3).map(|seed| SigningKey::from_seed(&[seed; 32]).expect("key")).collect();
        let authority =
            Authority::new(keys.iter().map(|key| key.public().clone()).collect(), THRESHOLD).expect("authority");
        let domain = DomainName::new("a.example").expect("name");
        let now = UnixSeconds(10_000);
        let mut judged = BTreeMap::new();
        for sequence in SEQUENCES {
            let statement = Statement {
                version: STATEMENT_VERSION,
                domain: domain.clone(),
                sequence,
                order: Order::Readmit {
                    node: NodeId::new("n1").expect("name"),
                    halt: Sha256Digest::ZERO,
                    epoch: sequence + 1,
                },
                reason: Text::new("looked at").expect("text"),
                issued_at: now.minus(1),
                expires_at: now.plus(3_600),
            };
            for signers in 1..=THRESHOLD {
                let signed: Vec<_> =
                    keys.iter().take(usize::from(signers)).map(|key| statement.sign(key).expect("signed")).collect();
                for sequence_min in SEQUENCES {
                    let verdict = Statement::verify(&signed, &domain, &authority, sequence_min, now);
                    judged.insert((sequence, signers, sequence_min), verdict.is_ok());
                }
            }
        }
        Self { judged }
    }

    /// Whether it readmits; what the bugs skip is skipped.
    pub(crate) fn admits(&self, statement: ReadmissionStatement, sequence_min: u64, bug: Option<Bug>) -> bool {
        let signers = if bug == Some(Bug::OneSignatureReadmits) { THRESHOLD } else { statement.signers };
        let sequence_min = if bug == Some(Bug::ReadmissionReplayed) { *SEQUENCES.start() } else { sequence_min };
        self.judged.get(&(statement.sequence, signers, sequence_min)).copied().unwrap_or(false)
    }
}
