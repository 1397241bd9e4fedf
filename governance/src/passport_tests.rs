//! A passport answers one challenge, and one defect each for what it does not answer.

use evidence::challenge::Demands;

use super::*;
use crate::fixture::*;

/// The relying domain's.
fn challenge() -> Challenge {
    Challenge {
        nonce: [1; 32],
        channel: [2; 32],
        audience: other_domain().verifier_spiffe_id(),
        epoch: 7,
        subject: digest("intent"),
        lineage_head: digest("head"),
        issued_at: NOW,
        expires_at: NOW.plus(10),
        demands: Demands::SevSnp,
    }
}

fn passport() -> Passport {
    Passport {
        version: PASSPORT_VERSION,
        domain: other_domain(),
        node: node(),
        partner: domain(),
        artifact: ByteBuf::from(vec![1]),
        result: ByteBuf::from(vec![2]),
        nonce: [1; 32],
        channel: [2; 32],
        epoch: 7,
        subject: digest("intent"),
        lineage_head: digest("head"),
    }
}

fn refused(change: fn(&mut Challenge)) -> GovernanceDenial {
    let mut asked = challenge();
    change(&mut asked);
    passport().answers(&asked, NOW).unwrap_err()
}

fn read(told: &DomainName, by: u8, bent: &Passport) -> Result<Passport, GovernanceDenial> {
    Passport::verify(&bent.sign(&key(by))?, told, &node(), &keys(NODE))
}

type Case = (&'static str, fn() -> GovernanceDenial);

pub(crate) fn cases() -> Vec<Case> {
    const MISMATCH: &str = "governance.passport_mismatch";
    vec![
        (MISMATCH, || refused(|asked| asked.nonce[0] ^= 1)),
        (MISMATCH, || refused(|asked| asked.channel[0] ^= 1)),
        (MISMATCH, || refused(|asked| asked.audience = domain().verifier_spiffe_id())),
        (MISMATCH, || refused(|asked| asked.epoch = 8)),
        (MISMATCH, || refused(|asked| asked.subject = digest("another"))),
        (MISMATCH, || refused(|asked| asked.lineage_head = digest("another"))),
        ("governance.expired", || passport().answers(&challenge(), NOW.plus(10)).unwrap_err()),
        ("governance.signature_invalid", || read(&other_domain(), ISSUER, &passport()).unwrap_err()),
        ("governance.signature_invalid", || read(&domain(), NODE, &passport()).unwrap_err()),
        ("governance.node", || {
            let other = NodeId::new("another").unwrap();
            read(&other_domain(), NODE, &Passport { node: other, ..passport() }).unwrap_err()
        }),
        ("governance.version", || Passport { version: 2, ..passport() }.encode().unwrap_err()),
        ("governance.too_large", || {
            let result = ByteBuf::from(vec![0; PASSPORT_CAP_BYTES]);
            Passport { result, ..passport() }.encode().unwrap_err()
        }),
    ]
}

#[test]
fn what_a_node_signed_for_a_challenge_answers_it_until_it_is_over() {
    let held = read(&other_domain(), NODE, &passport()).unwrap();
    assert_eq!(held, passport());
    held.answers(&challenge(), NOW.plus(9)).unwrap();
}
