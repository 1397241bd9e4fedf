//! SEV-SNP: a report with its certificates, judged by this project and by `sev`.

pub mod chain;
pub mod divergences;
pub mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use evidence::{
    EvidenceDenial,
    anchors::RootPin,
    digest::Sha256Digest,
    sev_snp::{Revocation, SnpReport, SnpRoots, VerifiedVek, roots::RootsByLine},
    time::UnixSeconds,
};
use sev::{
    certs::snp::{Certificate, Chain, Verifiable, ca},
    firmware::{guest::AttestationReport, host::TcbVersion},
    parser::ByteParser,
};
use simulators::amd::{AmdAuthority, Product, ProductLine, SnpMachine, Tcb, Vek};

use crate::{Mutant, NOW, Verdict, pick::Pick};

/// What both are given. Certificates are DER.
#[derive(Clone)]
pub struct SnpCase {
    pub report: Vec<u8>,
    pub leaf: Arc<[u8]>,
    pub issuer: Arc<[u8]>,
    pub root: Arc<[u8]>,
    pub list: Arc<[u8]>,
}

/// One machine, with its key at hand.
pub struct Base {
    pub machine: SnpMachine,
    pub vek: Vek,
    pub genuine: SnpCase,
    /// The chain as each side keeps it once it is verified.
    ours: VerifiedVek,
    theirs: Certificate,
}

/// All that mutants are made of.
pub struct World {
    pub bases: Vec<Base>,
    pub defects: Vec<chain::Defect>,
    roots: RootsByLine,
    simulated: RootsByLine,
    revoked: BTreeSet<Sha256Digest>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    pub fn new() -> Self {
        // pinned by key, so that what a root's certificate says is judged and not only its digest
        let pins = [ProductLine::Milan, ProductLine::Genoa, ProductLine::Turin].map(|line| {
            let key = AmdAuthority::published(line, NOW).expect("an authority").ark_fields().public_key_info;
            (line.name().to_owned(), BTreeSet::from([RootPin::PublicKey(Sha256Digest::of(&key))]))
        });
        let mut world = Self {
            bases: vec![],
            defects: chain::defects(),
            roots: BTreeMap::new(),
            simulated: BTreeMap::from(pins),
            revoked: BTreeSet::new(),
        };
        world.bases = machines().into_iter().map(|machine| world.base(machine)).collect();
        world
    }

    fn base(&self, machine: SnpMachine) -> Base {
        let vek = machine.vek().expect("an endorsement key");
        let is_vcek = machine.endorsement_key == simulators::amd::EndorsementKey::Vcek;
        let authority = &machine.authority;
        let genuine = SnpCase {
            report: machine.report_with([0x3c; 64], &vek).expect("a report").report,
            leaf: vek.certificate.as_slice().into(),
            issuer: if is_vcek { authority.ask.as_slice() } else { authority.asvk.as_slice() }.into(),
            root: authority.ark.as_slice().into(),
            list: authority.crl.as_slice().into(),
        };
        let ours = self.verified(&genuine).expect("genuine");
        let theirs = Certificate::from_der(&genuine.leaf).expect("genuine");
        Base { machine, vek, genuine, ours, theirs }
    }

    fn roots(&self) -> SnpRoots<'_> {
        SnpRoots::lab_accepting_simulated(&self.roots, &self.simulated, &self.revoked)
    }

    fn verified(&self, case: &SnpCase) -> Result<VerifiedVek, EvidenceDenial> {
        let list = Revocation::List(&case.list);
        VerifiedVek::verify(&case.leaf, Some(&case.issuer), Some(&case.root), list, &self.roots(), UnixSeconds(NOW))
    }

    /// Mutant `number` and which base it is of: four of a report to one of a chain.
    pub fn mutant(&self, number: usize) -> (usize, bool, Mutant<SnpCase>) {
        let mut pick = Pick::of(number);
        let at = number / 5;
        if number % 5 < 4 {
            let (base, mutant) = report::mutant(self, &mut pick, at * 4 + number % 5);
            (base, false, mutant)
        } else {
            let (base, mutant) = chain::mutant(self, &mut pick, at);
            (base, true, mutant)
        }
    }

    /// Both verdicts. A chain that was not touched is verified once for all.
    pub fn judge(&self, base: usize, is_chain: bool, case: &SnpCase) -> (Verdict, Verdict) {
        let base = &self.bases[base];
        let ours = if is_chain {
            self.verified(case).and_then(|vek| facts_of(&vek, &case.report))
        } else {
            facts_of(&base.ours, &case.report)
        };
        let ours = match ours {
            Ok(facts) => Verdict::Accepted(facts),
            Err(denial) => Verdict::Refused(format!("{denial:?}")),
        };
        let theirs = if is_chain { judged_by_sev(case) } else { report_judged_by_sev(&base.theirs, &case.report) };
        let theirs = theirs.map_or_else(|error| Verdict::Refused(error.to_string()), Verdict::Accepted);
        (ours, theirs)
    }
}

/// Every product, both kinds of key, every version of a report.
fn machines() -> Vec<SnpMachine> {
    let mut machines = vec![];
    for product in Product::ALL {
        for (version, vlek) in [(2, false), (3, false), (5, false), (3, true), (5, true)] {
            let mut machine = SnpMachine::new(product, NOW).expect("a machine");
            let chip = machine.chip_id;
            machine.fields = simulators::amd::SnpReportFields::new(product, version, chip);
            if vlek {
                machine.use_vlek("cloud.example");
            }
            if version == 5 {
                let tcb = product.current_tcb();
                machine.set_tcb(Tcb { snp: tcb.snp + 1, microcode: tcb.microcode + 2, ..tcb });
            }
            machines.push(machine);
        }
    }
    machines
}

fn facts_of(vek: &VerifiedVek, report: &[u8]) -> Result<String, EvidenceDenial> {
    let report = SnpReport::parse(report)?;
    let authentic = vek.authenticate(&report)?;
    let tcbs = authentic.tcbs();
    let tcb = |tcb: &evidence::sev_snp::TcbVersion| {
        format!("{:?}/{}/{}/{}/{}", tcb.fmc, tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode)
    };
    Ok(format!(
        "v{} svn {} policy {:#x} vmpl {} platform {:#x} tcb {} {} {} {} data {:?} measured {:?} host {:?} chip {:?} id {:?} firmware {} {} mitigations {:?}",
        report.version,
        report.guest_svn,
        report.policy.bits(),
        report.vmpl,
        report.platform_info.bits(),
        tcb(&tcbs.current),
        tcb(&tcbs.reported),
        tcb(&tcbs.committed),
        tcb(&tcbs.launch),
        report.report_data,
        report.measurement,
        report.host_data,
        report.chip_id,
        report.report_id,
        report.current_firmware,
        report.committed_firmware,
        report.mitigations.map(|mitigations| (mitigations.launch, mitigations.current)),
    ))
}

fn judged_by_sev(case: &SnpCase) -> std::io::Result<String> {
    let ark = Certificate::from_der(&case.root)?;
    let ask = Certificate::from_der(&case.issuer)?;
    let chain = Chain { ca: ca::Chain { ark, ask }, vek: Certificate::from_der(&case.leaf)? };
    chain.verify()?;
    report_judged_by_sev(&chain.vek, &case.report)
}

/// What `sev` makes of a report by a key whose chain it verified.
pub fn report_judged_by_sev(vek: &Certificate, report: &[u8]) -> std::io::Result<String> {
    let report = AttestationReport::from_bytes(report)?;
    (vek, &report).verify()?;
    let tcb = |tcb: &TcbVersion| format!("{:?}/{}/{}/{}/{}", tcb.fmc, tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode);
    Ok(format!(
        "v{} svn {} policy {:#x} vmpl {} platform {:#x} tcb {} {} {} {} data {:?} measured {:?} host {:?} chip {:?} id {:?} firmware {} {} mitigations {:?}",
        report.version,
        report.guest_svn,
        u64::from(report.policy),
        report.vmpl,
        u64::from(report.plat_info),
        tcb(&report.current_tcb),
        tcb(&report.reported_tcb),
        tcb(&report.committed_tcb),
        tcb(&report.launch_tcb),
        report.report_data,
        report.measurement,
        report.host_data,
        report.chip_id,
        report.report_id,
        report.current,
        report.committed,
        report.launch_mit_vector.zip(report.current_mit_vector),
    ))
}

/// What `sev` makes of a whole chain and a report, for benches.
///
/// # Errors
/// What it says against it.
pub fn whole_by_sev(case: &SnpCase) -> std::io::Result<String> {
    judged_by_sev(case)
}
