//! Claims and sets for the tests of this crate.

use evidence::{names::DomainName, time::UnixSeconds};

use crate::claims::{Claims, IntentClaims, IsolationClaims, ReferenceClaims, SnpFacts, TdxFacts, TpmFacts};
use crate::set::{PolicyDocument, PolicySet};

pub(crate) fn document(cedar: &str) -> PolicyDocument {
    PolicyDocument {
        id: "test".parse().unwrap(),
        version: 1,
        domain: DomainName::new("lab.example").unwrap(),
        issued_at: UnixSeconds(1_000).into(),
        not_after: UnixSeconds(2_000_000_000).into(),
        reason: "test".to_owned().try_into().unwrap(),
        cedar: cedar.to_owned(),
    }
}

pub(crate) fn set_of(cedar: &str) -> PolicySet {
    PolicySet::from_document(document(cedar)).unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) fn claims() -> Claims {
    Claims {
        node: "n1".into(),
        domain: "lab.example".into(),
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

pub(crate) fn snp() -> SnpFacts {
    SnpFacts {
        product: "Genoa".into(),
        chip: "44".repeat(64),
        provider: "none".into(),
        report_version: 3,
        vmpl: 0,
        guest_svn: 1,
        measurement: "55".repeat(48),
        host_data: "66".repeat(32),
        id_key: "00".repeat(48),
        author_key: "00".repeat(48),
        boot_loader: 9,
        tee: 0,
        snp: 23,
        microcode: 84,
        firmware: "1.55.37".into(),
        smt: false,
        alias_check: true,
        ciphertext_hiding: false,
    }
}

pub(crate) fn tdx() -> TdxFacts {
    TdxFacts {
        ppid: "77".repeat(16),
        mrtd: "88".repeat(48),
        rtmr0: "99".repeat(48),
        rtmr1: "99".repeat(48),
        rtmr2: "99".repeat(48),
        rtmr3: "00".repeat(48),
        mrconfigid: "00".repeat(48),
        mrowner: "00".repeat(48),
        mrownerconfig: "00".repeat(48),
        tcb_status: "UpToDate".into(),
        advisories: Vec::new(),
        tcb_evaluation: 17,
        perfmon: false,
        event_log: true,
    }
}

pub(crate) fn intent() -> IntentClaims {
    IntentClaims {
        requester: "alice".into(),
        executable: "33".repeat(32),
        program: "/usr/bin/true".into(),
        arguments: 0,
        capabilities: vec![],
        keys: vec!["db".into()],
        labels: vec!["environment=production".into()],
        child: false,
        isolation: IsolationClaims::default(),
        attached: false,
        image: String::new(),
        on_halt: "kill".into(),
        drain_ms: 0,
    }
}
