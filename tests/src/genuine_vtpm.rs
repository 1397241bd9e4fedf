//! A whole confidential guest with a vTPM and its verifier's view of both: from here a test changes one thing.

use evidence::{
    Endorsements, Evidence, EvidenceDenial, TrustAnchors,
    anchors::AnchorSet,
    binding::Binding,
    challenge::{Challenge, Demands, TpmOnTdxDemands},
    tpm::{TpmOnSnpEvidence, TpmOnSnpParts, TpmOnTdxEvidence, TpmOnTdxParts},
};

use crate::{NOW, genuine::Machine, genuine_snp::SnpGuest, genuine_tdx::TdxGuest};

/// A guest and its vTPM.
pub struct VTpmGuest {
    /// The vTPM and what booted with it.
    pub tpm: Machine,
    /// The guest that it runs in.
    pub tee: Tee,
}

/// The kinds of guest.
pub enum Tee {
    /// An SNP guest.
    Snp(Box<SnpGuest>),
    /// A trust domain.
    Tdx(Box<TdxGuest>),
}

/// What an answer is made of: genuine, both halves answer one challenge with one node key, and the TEE names the AK.
pub struct VTpmDraft {
    /// What the vTPM answers.
    pub tpm: Challenge,
    /// What the TEE answers.
    pub tee: Challenge,
    /// COSE_Key that the TEE names.
    pub node_key: Vec<u8>,
    /// The AK that the TEE names.
    pub ak_name: Option<Vec<u8>>,
}

impl VTpmGuest {
    /// A vTPM in an up-to-date SNP guest.
    pub fn on_snp() -> Self {
        let tpm = Self::tpm();
        let node_id = tpm.node_id.clone();
        Self { tpm, tee: Tee::Snp(Box::new(SnpGuest { node_id, ..SnpGuest::default() })) }
    }

    /// A vTPM in an up-to-date trust domain.
    pub fn on_tdx() -> Self {
        let tpm = Self::tpm();
        let node_id = tpm.node_id.clone();
        Self { tpm, tee: Tee::Tdx(Box::new(TdxGuest { node_id, ..TdxGuest::default() })) }
    }

    fn tpm() -> Machine {
        let mut tpm = Machine::default();
        tpm.now = NOW;
        tpm
    }

    /// Anchors of a lab that trusts the vTPM's maker and the fake platform.
    pub fn anchors(&self) -> TrustAnchors {
        let tee = match &self.tee {
            Tee::Snp(guest) => guest.anchors(),
            Tee::Tdx(guest) => guest.anchors(),
        };
        let AnchorSet { tpm_roots, .. } = self.tpm.authority.anchor_set();
        TrustAnchors::lab_accepting_simulated(AnchorSet { tpm_roots, ..tee.set().clone() }).unwrap()
    }

    /// What the verifier holds about both.
    pub fn endorsements(&self) -> Endorsements {
        let (_, enrolled) = self.tpm.enrol_under(&self.anchors()).unwrap();
        let tpm = self.tpm.endorsement(enrolled);
        match &self.tee {
            Tee::Snp(guest) => Endorsements::TpmOnSevSnp(tpm, guest.endorsement()),
            Tee::Tdx(guest) => Endorsements::TpmOnTdx(tpm, guest.endorsement()),
        }
    }

    /// A challenge that asks for everything.
    pub fn challenge(&self) -> Challenge {
        let Challenge { demands, .. } = self.tpm.challenge();
        let Demands::Tpm(tpm) = demands else { panic!("not of a TPM") };
        let demands = match &self.tee {
            Tee::Snp(_) => Demands::TpmOnSevSnp(tpm),
            Tee::Tdx(_) => Demands::TpmOnTdx(TpmOnTdxDemands { tpm, ccel: true }),
        };
        Challenge { demands, ..self.tpm.challenge() }
    }

    /// Its answer to `challenge`, not yet made.
    pub fn draft(&self, challenge: &Challenge) -> VTpmDraft {
        VTpmDraft {
            tpm: challenge.clone(),
            tee: challenge.clone(),
            node_key: self.tpm.node_key_cose(),
            ak_name: Some(self.tpm.ak_public.name().to_bytes()),
        }
    }

    /// Its genuine answer to `challenge`.
    pub fn evidence(&self, challenge: &Challenge) -> Evidence {
        self.answer(&self.draft(challenge)).unwrap()
    }

    /// The answer that `draft` describes.
    ///
    /// # Errors
    /// A part above its cap.
    pub fn answer(&self, draft: &VTpmDraft) -> Result<Evidence, EvidenceDenial> {
        let answer = self.tpm.answer(&draft.tpm);
        let binding = Binding::answering(&draft.tee, &draft.node_key, draft.ak_name.as_deref()).report_data()?;
        match &self.tee {
            Tee::Snp(guest) => {
                let report = guest.machine.report(binding).unwrap().report;
                let parts = TpmOnSnpParts { tpm: answer.parts(), report: &report, certificates: None };
                TpmOnSnpEvidence::assemble(parts).map(Evidence::TpmOnSevSnp)
            }
            Tee::Tdx(guest) => {
                let (quote, ccel) = (guest.machine.quote(binding).unwrap(), guest.machine.event_log.encode());
                let parts = TpmOnTdxParts { tpm: answer.parts(), quote: &quote, ccel: Some(&ccel) };
                TpmOnTdxEvidence::assemble(parts).map(Evidence::TpmOnTdx)
            }
        }
    }
}
