//! The policies that are shipped, their cases, and what `policy check` says of texts that are not so good.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use evidence::{names::DomainName, time::UnixSeconds};
use policy::{
    cases::CaseFile,
    check::{CheckReport, check},
    set::{PolicyDocument, PolicySet, PolicySetError},
};

const SHIPPED: [(&str, &str); 2] = [
    (include_str!("../default.cedar"), include_str!("../default.cases.toml")),
    (include_str!("../lab.cedar"), include_str!("../lab.cases.toml")),
];

fn document(cedar: &str) -> PolicyDocument {
    PolicyDocument {
        id: "test".parse().unwrap(),
        version: 1,
        domain: DomainName::new("a.example").unwrap(),
        issued_at: UnixSeconds(1_000).into(),
        not_after: UnixSeconds(2_000_000_000).into(),
        reason: "test".to_owned().try_into().unwrap(),
        cedar: cedar.to_owned(),
    }
}

fn errors(cedar: &str) -> Vec<String> {
    match PolicySet::from_document(document(cedar)) {
        Err(PolicySetError::Unusable(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other}"),
        Ok(set) => panic!("{} loads", set.document().cedar),
    }
}

#[test]
fn shipped_policies_pass_their_cases_and_check_clean() {
    for (cedar, cases) in SHIPPED {
        let clean = CheckReport { errors: vec![], warnings: vec![] };
        assert_eq!(check(&document(cedar)), clean);
        let set = PolicySet::from_document(document(cedar)).unwrap();
        let report = CaseFile::from_toml(cases).unwrap().run(&set);
        for case in &report.cases {
            assert!(case.passed, "{case:#?}");
        }
        assert!(report.passed() && report.untested.is_empty(), "no case for {:?}", report.untested);
    }
}

#[test]
fn a_case_that_disagrees_fails_and_no_cases_show_nothing() {
    let (cedar, cases) = SHIPPED[0];
    let set = PolicySet::from_document(document(cedar)).unwrap();
    let wrong = cases.replacen("expect = \"affirmed\"", "expect = \"policy.forbidden\"", 1);
    assert!(!CaseFile::from_toml(&wrong).unwrap().run(&set).passed());
    let by = cases.replacen("by = [\"attest-tpm\"]", "by = [\"other\"]", 1);
    assert!(!CaseFile::from_toml(&by).unwrap().run(&set).passed());
    assert!(!CaseFile { case: vec![] }.run(&set).passed());
    let misspelt = cases.replacen("simulated = false", "simulatde = false", 1);
    assert!(CaseFile::from_toml(&misspelt).unwrap_err().to_string().contains("simulatde"));
}

#[test]
fn a_set_with_one_defect_does_not_load() {
    let permit = |condition: &str| {
        format!("@id(\"x\")\npermit (principal, action == Action::\"attest\", resource)\nwhen {{ {condition} }};")
    };
    for (cedar, why) in [
        (String::new(), "no policy"),
        ("permit (principal, action, resource);".into(), "has no @id"),
        ("@id(\"\") permit (principal, action, resource);".into(), "has no @id"),
        ("@id(\"A b\") permit (principal, action, resource);".into(), "@id is 1 to 64"),
        (
            "@id(\"x\") permit (principal, action, resource); @id(\"x\") forbid (principal, action, resource);".into(),
            "stands twice",
        ),
        ("@id(\"x\") permit (principal == ?principal, action, resource);".into(), "templates"),
        ("@id(\"x\")\npermit (principal, action, resource)\nwhen { nonsense".into(), "unexpected"),
        (permit("context.claims.simulatde"), "simulatde"),
        (permit("context.claims.tpm.event_log"), "tpm"),
        (permit("context.claims.epoch == \"7\""), "type"),
        (permit("context.intent.child"), "intent"),
        ("@id(\"x\") permit (principal, action == Action::\"atest\", resource);".into(), "atest"),
        ("@id(\"x\") permit (principal is Nod, action, resource);".into(), "Nod"),
        ("@id(\"x\") forbid (principal is Node, action == Action::\"witness\", resource);".into(), "action"),
        (permit("context.claims.environment == \"l\u{430}b\""), "script"),
        (permit("context.claims.environment == \"\u{202e}bal\""), "bidi"),
    ] {
        let all = errors(&cedar).join("\n");
        assert!(all.to_lowercase().contains(&why.to_lowercase()), "{why:?} not in: {all}");
        assert!(!check(&document(&cedar)).is_usable());
    }
    assert!(errors("@id(\"x\")\npermit (principal, action, resource)\nwhen { nonsense")[0].starts_with("line 3:"));
    assert!(errors(&permit("context.claims.simulatde"))[0].starts_with("line 3: policy x:"));
}

#[test]
fn check_warns_of_what_loads_but_cannot_be_meant() {
    let base = "@id(\"a\") permit (principal, action, resource);";
    for (more, why) in [
        ("@id(\"b\") permit (principal, action, resource);", "says exactly what a says"),
        ("@id(\"b\") @reason(\"r\") forbid (principal, action, resource);", "in exactly the same words"),
        ("@id(\"b\") @reason(\"r\") forbid (principal, action, resource);", "a: never permits anything"),
        ("@id(\"b\") forbid (principal, action, resource) when { context has origin };", "without a @reason"),
        (
            "@id(\"b\") @reason(\"r\") forbid (principal, action == Action::\"attest\", resource) when { false };",
            "impossible",
        ),
    ] {
        let report = check(&document(&format!("{base}\n{more}")));
        assert!(report.is_usable(), "{report:?}");
        let all = report.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(all.contains(why), "{why:?} not in: {all}");
    }
    let nothing = check(&document("@id(\"a\") permit (principal, action == Action::\"attest\", resource);"));
    assert!(nothing.warnings.iter().any(|w| w.what == "nothing permits release"));
}
