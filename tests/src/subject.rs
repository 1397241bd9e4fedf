//! A genuine machine of any kind, for what is said of all kinds alike.

use evidence::{
    Endorsements, Evidence, EvidenceDenial, EvidenceKind, TrustAnchors, challenge::Challenge, ledger::CheckLedger,
    time::UnixSeconds, verify,
};

use crate::{
    genuine::Machine,
    genuine_snp::SnpGuest,
    genuine_tdx::TdxGuest,
    genuine_vtpm::{Tee, VTpmGuest},
};

/// Every kind.
pub const KINDS: [EvidenceKind; 5] =
    [EvidenceKind::Tpm, EvidenceKind::SevSnp, EvidenceKind::Tdx, EvidenceKind::TpmOnSevSnp, EvidenceKind::TpmOnTdx];

/// A machine.
pub enum Subject {
    /// With a TPM.
    Tpm(Box<Machine>),
    /// A confidential guest.
    Guest(Tee),
    /// A confidential guest with a vTPM.
    VTpm(Box<VTpmGuest>),
}

impl Subject {
    /// A genuine one of `kind`.
    pub fn of(kind: EvidenceKind) -> Self {
        match kind {
            EvidenceKind::Tpm => {
                let mut machine = Machine::default();
                machine.now = crate::NOW;
                Self::Tpm(Box::new(machine))
            }
            EvidenceKind::SevSnp => Self::Guest(Tee::Snp(Box::default())),
            EvidenceKind::Tdx => Self::Guest(Tee::Tdx(Box::default())),
            EvidenceKind::TpmOnSevSnp => Self::VTpm(Box::new(VTpmGuest::on_snp())),
            EvidenceKind::TpmOnTdx => Self::VTpm(Box::new(VTpmGuest::on_tdx())),
        }
    }

    /// Its TPM, and what booted with it.
    pub fn tpm(&mut self) -> &mut Machine {
        match self {
            Self::Tpm(machine) => machine,
            Self::VTpm(guest) => &mut guest.tpm,
            Self::Guest(_) => panic!("no TPM"),
        }
    }

    fn tee(&mut self) -> &mut Tee {
        match self {
            Self::Guest(tee) => tee,
            Self::VTpm(guest) => &mut guest.tee,
            Self::Tpm(_) => panic!("no TEE"),
        }
    }

    /// The SNP guest that it is.
    pub fn snp(&mut self) -> &mut SnpGuest {
        match self.tee() {
            Tee::Snp(guest) => guest,
            Tee::Tdx(_) => panic!("no SNP guest"),
        }
    }

    /// The trust domain that it is.
    pub fn tdx(&mut self) -> &mut TdxGuest {
        match self.tee() {
            Tee::Tdx(guest) => guest,
            Tee::Snp(_) => panic!("no trust domain"),
        }
    }

    /// Has the root of its platform pinned as its vendor's own.
    pub fn pin_as_the_vendors(&mut self) {
        match self.tee() {
            Tee::Snp(guest) => guest.is_pinned_as_amds = true,
            Tee::Tdx(guest) => guest.is_pinned_as_intels = true,
        }
    }

    /// The time at which it answers.
    pub fn now(&self) -> UnixSeconds {
        match self {
            Self::Tpm(machine) => machine.now,
            Self::Guest(Tee::Snp(guest)) => guest.now,
            Self::Guest(Tee::Tdx(guest)) => guest.now,
            Self::VTpm(guest) => guest.tpm.now,
        }
    }

    /// Anchors that trust it.
    pub fn anchors(&self) -> TrustAnchors {
        match self {
            Self::Tpm(machine) => machine.anchors(),
            Self::Guest(Tee::Snp(guest)) => guest.anchors(),
            Self::Guest(Tee::Tdx(guest)) => guest.anchors(),
            Self::VTpm(guest) => guest.anchors(),
        }
    }

    /// What the verifier holds about it.
    pub fn endorsements(&self) -> Endorsements {
        match self {
            Self::Tpm(machine) => machine.endorsements(),
            Self::Guest(Tee::Snp(guest)) => guest.endorsements(),
            Self::Guest(Tee::Tdx(guest)) => guest.endorsements(),
            Self::VTpm(guest) => guest.endorsements(),
        }
    }

    /// A challenge that asks for everything.
    pub fn challenge(&self) -> Challenge {
        match self {
            Self::Tpm(machine) => machine.challenge(),
            Self::Guest(Tee::Snp(guest)) => guest.challenge(),
            Self::Guest(Tee::Tdx(guest)) => guest.challenge(),
            Self::VTpm(guest) => guest.challenge(),
        }
    }

    /// Its answer to `challenge`.
    pub fn evidence(&self, challenge: &Challenge) -> Evidence {
        match self {
            Self::Tpm(machine) => machine.answer(challenge).evidence(),
            Self::Guest(Tee::Snp(guest)) => guest.evidence(challenge),
            Self::Guest(Tee::Tdx(guest)) => guest.evidence(challenge),
            Self::VTpm(guest) => guest.evidence(challenge),
        }
    }
}

impl Subject {
    /// Judges what it answers to its challenge, by what the verifier holds about it.
    ///
    /// # Errors
    /// The denial that it met.
    pub fn judge(&self) -> Result<CheckLedger, EvidenceDenial> {
        let challenge = self.challenge();
        self.judge_answer(&self.evidence(&challenge), &challenge)
    }

    /// Judges `evidence` as its answer to `challenge`; returns the checks that evidence of its kind must pass.
    ///
    /// # Errors
    /// The denial that it met.
    pub fn judge_answer(&self, evidence: &Evidence, challenge: &Challenge) -> Result<CheckLedger, EvidenceDenial> {
        let (endorsements, anchors) = (self.endorsements(), self.anchors());
        let bound = verify(evidence, &endorsements, &anchors, self.now())?.bind(challenge, self.now())?;
        Ok(bound.required())
    }
}
