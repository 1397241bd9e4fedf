//! TDX: a quote with its collateral, judged by this project and by `dcap-qvl`.

pub mod collateral;
pub mod divergences;
pub mod pck;
pub mod quote;

use std::{collections::BTreeSet, sync::Arc};

use dcap_qvl::{QuoteCollateralV3, quote::Report, verify::QuoteVerifier};
use evidence::{
    EvidenceDenial,
    anchors::RootPin,
    digest::Sha256Digest,
    tdx::{Collateral, Quote, TdxRoots, VerifiedCollateral, VerifiedPck, td_attributes},
    time::UnixSeconds,
};
use simulators::{
    intel::{IntelAuthority, PckCa, PckChain, TdxMachine},
    keys::EcKey,
};

use crate::{Mutant, NOW, Verdict, pick::Pick};

/// What both are given.
#[derive(Clone)]
pub struct TdxCase {
    pub quote: Vec<u8>,
    pub collateral: Arc<Collateral>,
}

/// One machine, with its keys at hand.
pub struct Base {
    pub machine: TdxMachine,
    pub pck: PckChain,
    pub attestation: EcKey,
    pub genuine: TdxCase,
}

/// All that mutants are made of.
pub struct World {
    pub bases: Vec<Base>,
    texts: collateral::Texts,
    root: Vec<u8>,
    simulated: BTreeSet<RootPin>,
    none: BTreeSet<RootPin>,
    revoked: BTreeSet<Sha256Digest>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    pub fn new() -> Self {
        let authority = IntelAuthority::published(NOW).expect("an authority");
        let key = Sha256Digest::of(&authority.root_fields().public_key_info);
        let bases: Vec<_> = machines().into_iter().map(base).collect();
        let texts = collateral::Texts::of(&bases[0].genuine.collateral);
        Self {
            bases,
            texts,
            root: authority.root,
            // by key, as the genuine root is
            simulated: BTreeSet::from([RootPin::PublicKey(key)]),
            none: BTreeSet::new(),
            revoked: BTreeSet::new(),
        }
    }

    fn roots(&self) -> TdxRoots<'_> {
        TdxRoots::lab_accepting_simulated(&self.none, &self.simulated, &self.revoked)
    }

    /// Mutant `number`: of five, two of the quote, two of the collateral, one of the PCK chain.
    pub fn mutant(&self, number: usize) -> Mutant<TdxCase> {
        let mut pick = Pick::of(number);
        let at = number / 5;
        match number % 5 {
            part @ (0 | 1) => quote::mutant(self, &mut pick, at * 2 + part),
            part @ (2 | 3) => collateral::mutant(self, &mut pick, at * 2 + part - 2),
            _ => pck::mutant(self, &mut pick, at),
        }
    }

    /// Both verdicts.
    pub fn judge(&self, case: &TdxCase) -> (Verdict, Verdict) {
        let ours = match self.judged_here(case) {
            Ok(facts) => Verdict::Accepted(facts),
            Err(denial) => Verdict::Refused(format!("{denial:?}")),
        };
        let theirs = self.judged_by_qvl(case);
        (ours, theirs.map_or_else(Verdict::Refused, Verdict::Accepted))
    }

    /// The whole of ours, from bytes, without an event log.
    ///
    /// # Errors
    /// The first denial.
    pub fn judged_here(&self, case: &TdxCase) -> Result<String, EvidenceDenial> {
        let (roots, now) = (self.roots(), UnixSeconds(NOW));
        let collateral = VerifiedCollateral::verify(&case.collateral, &roots, now)?;
        let quote = Quote::parse(&case.quote)?;
        let pck = VerifiedPck::verify_beside(&collateral, quote.pck_chain(), &roots, now)?;
        let report = *quote.td_report()?;
        let authentic = pck.authenticate(&quote)?;
        td_attributes::judge(&report)?;
        let verdict = authentic.judge(&collateral)?;
        Ok(format!(
            "{} {:?} enclave {} ppid {:?} td {:?} data {:?} rtmrs {:?} attributes {:?} {:?}",
            verdict.standing.status,
            verdict.standing.advisory_ids,
            verdict.quoting_enclave,
            pck.extensions().ppid,
            report.mr_td,
            report.report_data,
            report.rtmrs,
            report.td_attributes,
            report.xfam,
        ))
    }

    /// The whole of `dcap-qvl`, from bytes.
    ///
    /// # Errors
    /// What it says against it.
    pub fn judged_by_qvl(&self, case: &TdxCase) -> Result<String, String> {
        let Collateral { pck_crl_issuer_chain, root_ca_crl, pck_crl, tcb_info_issuer_chain, .. } = &*case.collateral;
        let collateral = QuoteCollateralV3 {
            pck_crl_issuer_chain: pck_crl_issuer_chain.clone(),
            root_ca_crl: root_ca_crl.clone(),
            pck_crl: pck_crl.clone(),
            tcb_info_issuer_chain: tcb_info_issuer_chain.clone(),
            tcb_info: case.collateral.tcb_info.clone(),
            tcb_info_signature: case.collateral.tcb_info_signature.clone(),
            qe_identity_issuer_chain: case.collateral.qe_identity_issuer_chain.clone(),
            qe_identity: case.collateral.qe_identity.clone(),
            qe_identity_signature: case.collateral.qe_identity_signature.clone(),
            pck_certificate_chain: None,
        };
        let verified = QuoteVerifier::new(self.root.clone()).verify(&case.quote, &collateral, NOW);
        let verified = verified.map_err(|error| format!("{error:#}"))?;
        let td = match &verified.report {
            Report::SgxEnclave(_) => return Err("a quote of an enclave, which our TDX stage refuses".into()),
            report => report.as_td10().ok_or("no TD report")?,
        };
        Ok(format!(
            "{} {:?} enclave {} ppid {:?} td {:?} data {:?} rtmrs {:?} attributes {:?} {:?}",
            verified.status,
            verified.advisory_ids.iter().collect::<BTreeSet<_>>(),
            verified.qe_status.status,
            verified.ppid,
            td.mr_td,
            td.report_data,
            [td.rt_mr0, td.rt_mr1, td.rt_mr2, td.rt_mr3],
            td.td_attributes,
            td.xfam,
        ))
    }
}

/// Both formats, both bodies, both PCK authorities, and platforms that are out of date in each part.
fn machines() -> Vec<TdxMachine> {
    let new = |version| TdxMachine::new(version, NOW).expect("a machine");
    let mut machines = vec![new(4), new(5), new(5), new(4), new(5), new(5)];
    machines[2].quote.tdx_1_5 = false;
    machines[3].pck.components[0] = 2;
    machines[3].pck.components[1] = 2;
    machines[4].quote.body.tee_tcb_svn[0] = 5;
    machines[5].pck.ca = PckCa::Processor;
    machines[5].collateral.pck_ca = PckCa::Processor;
    machines[5].collateral.pck_crl = machines[5].authority.pck_crl_fields(PckCa::Processor);
    machines
}

fn base(machine: TdxMachine) -> Base {
    let pck = machine.pck_chain().expect("a PCK");
    let attestation = machine.attestation_key().expect("a key");
    let quote = machine.quote_with([0x3c; 64], &pck).expect("a quote");
    let json = machine.collateral().expect("collateral").to_json().expect("JSON");
    let collateral = Arc::new(Collateral::from_json(json.as_bytes()).expect("collateral"));
    Base { machine, pck, attestation, genuine: TdxCase { quote, collateral } }
}
