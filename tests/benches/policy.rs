//! What asking the policy set costs: evaluated, and with its typed context built.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a bench that goes wrong should stop, and prints what it measured"
)]

mod measure;

use std::borrow::Cow;

use criterion::Criterion;
use evidence::names::DomainName;
use policy::{
    claims::{Claims, Question, ReferenceClaims, TpmFacts},
    set::{PolicyDocument, PolicySet},
};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let set = PolicySet::from_document(document()).expect("the default policy loads");
    let question = Question::Attest { claims: Cow::Owned(claims()) };
    let asked = set.prepare(&question).expect("the claims fit the schema");

    let evaluated = measure::best_us(&mut criterion, "policy/evaluated", || set.answer(&asked).expect("permitted"));
    let whole = measure::best_us(&mut criterion, "policy/with-context", || set.ask(&question).expect("permitted"));
    measure::report("policy evaluated", evaluated, " µs", 40.0);
    measure::report("policy with its typed context built", whole, " µs", 80.0);
}

/// The default policy and as many further rules as make fifteen.
fn document() -> PolicyDocument {
    let mut cedar = include_str!("../../policy/default.cedar").to_owned();
    for n in 0..8 {
        cedar.push_str(&format!(
            "@id(\"extra-{n}\") @reason(\"bench\") forbid (principal, action == Action::\"attest\", resource)
             when {{ context.claims has tpm && context.claims.tpm.firmware == \"00000000000000{n:02x}\"
                     && context.claims.tpm.pcrs.contains({n}) }};"
        ));
    }
    PolicyDocument {
        id: "bench".parse().expect("a name"),
        version: 1,
        domain: DomainName::new("a.example").expect("a name"),
        issued_at: evidence::time::UnixSeconds(1).into(),
        not_after: evidence::time::UnixSeconds(2_000_000_000).into(),
        reason: "bench".to_owned().try_into().expect("a text"),
        cedar,
    }
}

fn claims() -> Claims {
    Claims {
        node: "n1".into(),
        domain: "a.example".into(),
        kind: "tpm".into(),
        environment: "production".into(),
        simulated: false,
        epoch: 7,
        now: 1_795_305_600,
        reference: ReferenceClaims { id: "rack".into(), version: 3, age_s: 3600, grace: false },
        tpm: Some(TpmFacts {
            ek: "11".repeat(32),
            ek_pinned: false,
            ak: "22".repeat(32),
            manufacturer: "id:49464800".into(),
            firmware: "0007005500112233".into(),
            bank: "sha256".into(),
            pcrs: (0..8).collect(),
            event_log: true,
            ima_log: false,
            secure_boot: Some(true),
            reset_count: 4,
            restart_count: 0,
        }),
        snp: None,
        tdx: None,
    }
}
