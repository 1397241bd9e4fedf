use super::*;

fn challenge() -> proto::Challenge {
    proto::Challenge {
        nonce: vec![1; 32],
        expires_after_ms: 10_000,
        audience: "spiffe://a.example/verifier".into(),
        epoch: 3,
        subject: vec![2; 32],
        demand: Some(proto::challenge::Demand::SevSnp(proto::SevSnpDemand {})),
        vouchers: vec![],
    }
}

#[test]
fn a_challenge_is_complete_and_bounded() {
    let read = ChallengeTerms::try_from(challenge()).unwrap();
    assert_eq!((read.nonce, read.demands), ([1; 32], Demands::SevSnp));
    let base = challenge;
    for (bent, field) in [
        (proto::Challenge { nonce: vec![1; 31], ..base() }, "nonce"),
        (proto::Challenge { expires_after_ms: 10_001, ..base() }, "expires_after_ms"),
        (proto::Challenge { expires_after_ms: 0, ..base() }, "expires_after_ms"),
        (proto::Challenge { audience: "https://a".into(), ..base() }, "audience"),
        (proto::Challenge { audience: format!("spiffe://{}", "a".repeat(256)), ..base() }, "audience"),
        (proto::Challenge { demand: None, ..base() }, "demand"),
        (proto::Challenge { vouchers: vec!["b.example".into(); DOMAINS_CAP + 1], ..base() }, "vouchers"),
        (proto::Challenge { vouchers: vec!["B Example".into()], ..base() }, "vouchers"),
        (proto::Challenge { subject: vec![], ..base() }, "subject"),
    ] {
        assert_eq!(ChallengeTerms::try_from(bent).unwrap_err().field, field);
    }
}

#[test]
fn an_authorization_is_complete_and_bounded() {
    let suite = i32::from(proto::HpkeSuite::XWing);
    let key = proto::WrappedKey { name: "db".into(), encapsulated: vec![1], sealed: vec![1], suite, share: Vec::new() };
    let base = || proto::Authorization {
        artifact: vec![1],
        result: vec![1],
        keys: vec![key.clone()],
        receipt: vec![1],
        lineage_head: vec![1; 32],
        svid: vec![1],
        partners: vec![proto::DomainKeys { domain: "b.example".into(), x509: vec![vec![1]], jwt: vec![] }],
    };
    Authorization::try_from(base()).unwrap();
    let keyed = |key| proto::Authorization { keys: vec![key], ..base() };
    let known = |domain: &str, x509| {
        let partners = vec![proto::DomainKeys { domain: domain.into(), x509, jwt: vec![] }];
        proto::Authorization { partners, ..base() }
    };
    for (bent, field) in [
        (proto::Authorization { artifact: vec![], ..base() }, "artifact"),
        (proto::Authorization { artifact: vec![0; ARTIFACT_CAP_BYTES + 1], ..base() }, "artifact"),
        (proto::Authorization { result: vec![0; RESULT_CAP_BYTES + 1], ..base() }, "result"),
        (proto::Authorization { receipt: vec![0; RECEIPT_CAP_BYTES + 1], ..base() }, "receipt"),
        (proto::Authorization { lineage_head: vec![1; 33], ..base() }, "lineage_head"),
        (proto::Authorization { keys: vec![key.clone(); 33], ..base() }, "keys"),
        (proto::Authorization { svid: vec![], ..base() }, "svid"),
        (proto::Authorization { svid: vec![0; CA_CAP_BYTES + 1], ..base() }, "svid"),
        (proto::Authorization { partners: vec![base().partners[0].clone(); PARTNERS_CAP + 1], ..base() }, "partners"),
        (known("../b", vec![]), "partners.domain"),
        (known("b.example", vec![vec![1]; ROLE_CAP_KEYS + 1]), "partners.x509"),
        (known("b.example", vec![vec![]]), "partners.x509"),
        (keyed(proto::WrappedKey { name: "../db".into(), ..key.clone() }), "keys.name"),
        (keyed(proto::WrappedKey { encapsulated: vec![0; 2_000], ..key.clone() }), "keys.encapsulated"),
        (keyed(proto::WrappedKey { sealed: vec![], ..key.clone() }), "keys.sealed"),
        (keyed(proto::WrappedKey { suite: 0, ..key.clone() }), "keys.suite"),
        (keyed(proto::WrappedKey { suite: 3, ..key.clone() }), "keys.suite"),
    ] {
        assert_eq!(Authorization::try_from(bent).unwrap_err().field, field);
    }
}

#[test]
fn refusals_pushes_and_the_rest() {
    let base = || proto::Refusal { class: "denied".into(), code: "governance.expired".into(), ..Default::default() };
    assert_eq!(Refusal::try_from(base()).unwrap().entry, None);
    assert_eq!(Refusal::try_from(proto::Refusal { entry: "17".into(), ..base() }).unwrap().entry, Some(17));
    for (bent, field) in [
        (proto::Refusal { class: "Denied".into(), ..base() }, "class"),
        (proto::Refusal { code: "Expired!".into(), ..base() }, "code"),
        (proto::Refusal { code: String::new(), ..base() }, "code"),
        (proto::Refusal { entry: "-1".into(), ..base() }, "entry"),
        (proto::Refusal { lineage_head: vec![1], ..base() }, "lineage_head"),
        (proto::Refusal { rules: vec!["a\nb".into()], ..base() }, "rules"),
        (proto::Refusal { rules: vec!["a".into(); 65], ..base() }, "rules"),
    ] {
        assert_eq!(Refusal::try_from(bent).unwrap_err().field, field);
    }
    let read = |message| VerifierAnswer::try_from(proto::VerifierMessage { message });
    assert_eq!(read(None).unwrap_err().field, "message");
    assert_eq!(read(Some(Message::Push(proto::Push { push: None }))).unwrap_err().field, "push");
    let readmission = |statements| Some(Message::Readmission(proto::Readmission { statements }));
    assert_eq!(read(readmission(vec![])).unwrap_err().field, "statements");
    assert_eq!(read(readmission(vec![vec![1]; 17])).unwrap_err().field, "statements");
    read(readmission(vec![vec![1]; 2])).unwrap();
    let welcome = |cose: Option<Vec<Vec<u8>>>, client_certificate: Vec<u8>| {
        let (governance_state, checkpoint, lineage_head) = (vec![1], vec![1], vec![0; 32]);
        let trust_bundle = cose.map(|cose| proto::ByAuthority { cose });
        proto::Welcome {
            governance_state,
            checkpoint,
            lineage_head,
            trust_bundle,
            client_certificate,
            ..Default::default()
        }
    };
    let others = proto::Welcome {
        other_checkpoints: vec![vec![1]; OTHER_CHECKPOINTS_CAP + 1],
        ..welcome(Some(vec![vec![1]]), vec![1])
    };
    assert_eq!(read(Some(Message::Welcome(others))).unwrap_err().field, "other_checkpoints");
    let witness_policy = Some(proto::ByAuthority { cose: vec![vec![1]; 17] });
    let many = proto::Welcome { witness_policy, ..welcome(Some(vec![vec![1]]), vec![1]) };
    assert_eq!(read(Some(Message::Welcome(many))).unwrap_err().field, "witness_policy");
    let welcome = |cose, certificate| Some(Message::Welcome(welcome(cose, certificate)));
    read(welcome(Some(vec![vec![1]]), vec![1])).unwrap();
    assert_eq!(read(welcome(None, vec![1])).unwrap_err().field, "trust_bundle");
    assert_eq!(read(welcome(Some(vec![vec![1]; 17]), vec![1])).unwrap_err().field, "trust_bundle");
    assert_eq!(read(welcome(Some(vec![vec![1]]), vec![])).unwrap_err().field, "client_certificate");
    let halt = |reason: &str| {
        let halt = proto::Halt { code: "governance.revoked".into(), reason: reason.into() };
        Some(Message::Push(proto::Push { push: Some(proto::push::Push::Halt(halt)) }))
    };
    read(halt("key leaked")).unwrap();
    assert_eq!(read(halt("\u{1b}[2J")).unwrap_err().field, "reason");
}
