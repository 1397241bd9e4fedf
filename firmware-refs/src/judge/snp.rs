//! An SNP report against a set (S2, S4, S7 to S10, S12).

use std::ops::ControlFlow;

use evidence::{digest::Digest, ledger::CheckId, register::Register, sev_snp::TcbVersion, tee::PlatformId};

use super::{Tally, bits, register};
use crate::denial::{FirmwareKind, ReferenceDenial, TcbKind, some};
use crate::document::snp::{Mitigations, TcbFloor};
use crate::fields::{Hex, Mask};
use crate::observed::ObservedSnp;
use crate::set::Machines;
use crate::set::snp::{KnownIdBlock, SnpReferences};

pub(super) fn judge(set: &SnpReferences, observed: &ObservedSnp, tally: &mut Tally<'_>) -> ControlFlow<()> {
    let judge = Judge { set, observed };
    tally.step(CheckId::S2, |tally| judge.vmpl(tally))?;
    tally.step(CheckId::S4, |tally| judge.provider(tally))?;
    tally.step(CheckId::S7, |tally| judge.floors(tally))?;
    tally.step(CheckId::S8, |tally| judge.policy(tally))?;
    tally.step(CheckId::S9, |tally| judge.platform_info(tally))?;
    tally.step(CheckId::S10, |tally| judge.measured(tally))?;
    tally.step(CheckId::S12, |tally| judge.chip(tally))
}

struct Judge<'s> {
    set: &'s SnpReferences,
    observed: &'s ObservedSnp,
}

impl Judge<'_> {
    /// S2: the report was asked for by an accepted privilege level.
    fn vmpl(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        let got = self.observed.vmpl;
        tally.unless(self.set.vmpl.contains(&got), |reference| ReferenceDenial::Vmpl {
            reference,
            got,
            accepted: some(self.set.vmpl.iter().copied()),
        })
    }

    /// S4: a VLEK is of an accepted provider.
    fn provider(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        match &self.observed.platform {
            PlatformId::AmdVlek { csp_id } => {
                tally.unless(self.set.vlek_csp_ids.contains(csp_id), |reference| ReferenceDenial::ProviderUnknown {
                    reference,
                    got: csp_id.clone(),
                    accepted: self.set.vlek_csp_ids.iter().take(crate::denial::ACCEPTED_CAP).cloned().collect(),
                })
            }
            PlatformId::AmdChip(_) | PlatformId::IntelPpid(_) => ControlFlow::Continue(()),
        }
    }

    /// S7: report version, product, security versions, firmware and mitigations.
    fn floors(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        let (set, observed) = (self.set, self.observed);
        let version = observed.report_version;
        tally.unless(set.report_versions.contains(&version), |reference| ReferenceDenial::ReportVersion {
            reference,
            got: version,
            accepted: some(set.report_versions.iter().copied()),
        })?;
        let Some(floors) = set.products.get(&observed.product) else {
            return tally.fail(ReferenceDenial::ProductUnknown {
                reference: tally.reference(),
                got: observed.product,
                accepted: some(set.products.keys().copied()),
            });
        };
        for (tcb, floor, got) in [
            (TcbKind::Reported, &floors.reported, observed.reported),
            (TcbKind::Committed, &floors.committed, observed.committed),
            (TcbKind::Current, &floors.current, observed.current),
            (TcbKind::Launch, &floors.launch, observed.launch),
        ] {
            reaches(tcb, floor, got, tally)?;
        }
        // what is current and not committed can be rolled back while the guest runs
        let (committed, current) = (observed.committed, observed.current);
        tally.unless(committed == current, |reference| ReferenceDenial::TcbNotCommitted {
            reference,
            committed: Box::new(committed),
            current: Box::new(current),
        })?;
        for (firmware, got) in
            [(FirmwareKind::Current, observed.current_firmware), (FirmwareKind::Committed, observed.committed_firmware)]
        {
            let floor = floors.firmware;
            tally.unless(got >= floor, |reference| ReferenceDenial::SevFirmwareTooOld {
                reference,
                firmware,
                got,
                floor,
            })?;
        }
        floors.mitigations.map_or(ControlFlow::Continue(()), |required| self.mitigated(required, tally))
    }

    /// Every required mitigation was in force at launch, and is; a report that cannot say so has none.
    fn mitigated(&self, required: Mitigations, tally: &mut Tally<'_>) -> ControlFlow<()> {
        let (launch, current) = self.observed.mitigations.map_or((0, 0), |got| (got.launch.0, got.current.0));
        for (tcb, required, got) in
            [(TcbKind::Launch, required.launch.0, launch), (TcbKind::Current, required.current.0, current)]
        {
            tally.unless(got & required == required, |reference| ReferenceDenial::MitigationMissing {
                reference,
                tcb,
                got: Mask(got),
                required: Mask(required),
            })?;
        }
        ControlFlow::Continue(())
    }

    /// S8: bits of POLICY.
    fn policy(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        bits("snp.policy", &self.set.policy, self.observed.policy, tally)
    }

    /// S9: bits of PLATFORM_INFO.
    fn platform_info(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        bits("snp.platform_info", &self.set.platform_info, self.observed.platform_info, tally)
    }

    /// S10: what was launched, by whom, and that no migration agent may move it.
    fn measured(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        let (set, observed) = (self.set, self.observed);
        register(Register::Measurement, observed.measurement, &set.measurement, tally)?;
        register(Register::HostData, observed.host_data, &set.host_data, tally)?;
        self.id_block(tally)?;
        let (got, floor) = (observed.guest_svn, set.guest_svn);
        tally.unless(got >= floor, |reference| ReferenceDenial::GuestSvnTooLow { reference, got, floor })?;
        for (field, got, accepted) in
            [("snp.family_id", observed.family_id, &set.family_id), ("snp.image_id", observed.image_id, &set.image_id)]
        {
            tally.unless(accepted.contains(&got), |reference| ReferenceDenial::GuestIdUnknown {
                reference,
                field,
                got,
                accepted: some(accepted.iter().copied()),
            })?;
        }
        let got = observed.report_id_ma;
        tally.unless(got == NO_MIGRATION_AGENT, |reference| ReferenceDenial::MigrationAgent { reference, got })
    }

    fn id_block(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        let (id, author) = (self.observed.id_key_digest, self.observed.author_key_digest);
        let zero = |digest: &Digest| digest.as_bytes().iter().all(|byte| *byte == 0);
        match &self.set.id_block {
            KnownIdBlock::None => {
                let (none, got) = (zero(&id) && zero(&author), id);
                tally.unless(none, |reference| ReferenceDenial::IdBlockRefused { reference, got })
            }
            KnownIdBlock::Signed { id_key, author_key } => {
                register(Register::IdKeyDigest, id, id_key, tally)?;
                if zero(&author) && author_key.is_empty() {
                    return ControlFlow::Continue(());
                }
                register(Register::AuthorKeyDigest, author, author_key, tally)
            }
        }
    }

    /// S12: the chip is listed. The report names its chip even when a VLEK signed it, unless the host masks it.
    fn chip(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        match &self.set.platforms {
            Machines::Any => ControlFlow::Continue(()),
            Machines::Listed(chip_id) => {
                let got = self.observed.chip_id;
                tally.unless(chip_id.contains(&got), |reference| ReferenceDenial::ChipNotListed {
                    reference,
                    got: Box::new(got),
                })
            }
        }
    }
}

/// Every component of `got` is at or above `floor`.
fn reaches(tcb: TcbKind, floor: &TcbFloor, got: TcbVersion, tally: &mut Tally<'_>) -> ControlFlow<()> {
    for (component, got, floor) in [
        ("fmc", got.fmc.unwrap_or(0), floor.fmc.unwrap_or(0)),
        ("boot_loader", got.boot_loader, floor.boot_loader),
        ("tee", got.tee, floor.tee),
        ("snp", got.snp, floor.snp),
        ("microcode", got.microcode, floor.microcode),
    ] {
        tally.unless(got >= floor, |reference| ReferenceDenial::TcbTooLow { reference, tcb, component, got, floor })?;
    }
    ControlFlow::Continue(())
}

/// REPORT_ID_MA of a guest without a migration agent (AMD 56860, 0x160).
const NO_MIGRATION_AGENT: Hex<32> = Hex([0xff; 32]);
