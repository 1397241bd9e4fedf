//! The commands.

use evidence::digest::{Digest, HashAlg};
use evidence::tpm::pcr::{PcrSelection, PcrValues};
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::{AuthHandle, NvIndexHandle, NvIndexTpmHandle, ObjectHandle, PcrHandle, TpmHandle};
use tss_esapi::interface_types::resource_handles::NvAuth;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{CapabilityData, Data, EccParameter, EccPoint, EncryptedSecret, IdObject, Nonce, Public};
use zeroize::Zeroizing;

use super::convert::{
    KEY_SCHEME, blob, digest_values, malformed, public_bytes, selection, selection_list, signed, unsized_part,
};
use super::{EsysDevice, PASSWORD, rc, templates};
use crate::config::EkKind;
use crate::tpm::device::{EccPointBytes, TpmDevice};
use crate::tpm::error::TpmError;
use crate::tpm::types::{HandleCounts, KeyBlob, Signed};

/// PCR_Read returns at most this many digests (Part 2, 10.9.7: TPML_DIGEST).
const DIGESTS_PER_READ: usize = 8;
/// How often a command is tried again because PCRs changed meanwhile, or because the TPM asks for it.
const ATTEMPTS: u32 = 8;
/// Largest NV index read.
const NV_CAP_BYTES: usize = 16 * 1024;
/// Bytes per NV_Read that every TPM grants (Platform TPM Profile: TPM_PT_NV_BUFFER_MAX ≥ 512).
const NV_READ_BYTES: u16 = 512;

impl TpmDevice for EsysDevice {
    fn pcr_read(&mut self, wanted: &PcrSelection) -> Result<PcrValues, TpmError> {
        let pcrs: Vec<u8> = wanted.pcrs.iter().collect();
        let mut values = Vec::with_capacity(pcrs.len());
        for chunk in pcrs.chunks(DIGESTS_PER_READ) {
            let list = selection_list(wanted.bank, chunk.iter().copied())?;
            let (_, _, digests) = self.run("PCR_Read", (None, None, None), |c| c.pcr_read(list))?;
            if digests.len() != chunk.len() {
                let pcr = chunk.get(digests.len()).copied().unwrap_or_default();
                return Err(TpmError::BankAbsent { bank: wanted.bank.name(), pcr });
            }
            for (pcr, digest) in chunk.iter().zip(digests.value()) {
                let value = Digest::from_bytes(wanted.bank, digest.value());
                values.push((*pcr, value.ok_or_else(|| malformed("PCR_Read", "digest of another length"))?));
            }
        }
        PcrValues::new(wanted.bank, values).ok_or_else(|| malformed("PCR_Read", "not the PCRs asked for"))
    }

    fn pcr_extend(&mut self, pcr: u8, digests: &[Digest]) -> Result<(), TpmError> {
        let handle = PcrHandle::try_from(u32::from(pcr))
            .map_err(|_| malformed("PCR_Extend", format!("PCR {pcr} does not exist")))?;
        let values = digest_values(digests)?;
        self.run("PCR_Extend", (PASSWORD, None, None), |c| c.pcr_extend(handle, values))
    }

    fn ek_public(&mut self, kind: EkKind) -> Result<Vec<u8>, TpmError> {
        let template = templates::ek(kind).map_err(|e| rc::sort("EK template", e))?;
        self.with_primary(template, |_, _, public| public_bytes("CreatePrimary", &public))
    }

    fn nv_read(&mut self, index: u32) -> Result<Option<Vec<u8>>, TpmError> {
        let index = NvIndexTpmHandle::new(index).map_err(|e| rc::sort("NV_ReadPublic", e))?;
        let opened = self.run("NV_ReadPublic", (None, None, None), |c| c.tr_from_tpm_public(TpmHandle::NvIndex(index)));
        let mut object = match opened {
            Ok(object) => object,
            Err(TpmError::Refused { rc, .. }) if rc::base(rc) == rc::HANDLE => return Ok(None),
            Err(error) => return Err(error),
        };
        let outcome = self.nv_read_open(NvIndexHandle::from(object));
        let closed = self.context.tr_close(&mut object).map_err(|e| rc::sort("NV_ReadPublic", e));
        let bytes = outcome?;
        closed.map(|()| Some(bytes))
    }

    fn create_ak(&mut self) -> Result<KeyBlob, TpmError> {
        self.create(templates::ak())
    }

    fn create_node_key(&mut self, policy: &[u8; 32]) -> Result<KeyBlob, TpmError> {
        self.create(templates::node_key(policy))
    }

    fn load(&mut self, what: &'static str, key: &KeyBlob) -> Result<(), TpmError> {
        self.with_key(what, key, |_, _| Ok(()))
    }

    fn quote(&mut self, ak: &KeyBlob, qualifying: &[u8], wanted: &PcrSelection) -> Result<Signed, TpmError> {
        let (qualifying, list) = (data(qualifying)?, selection(wanted)?);
        self.with_key("attestation key", ak, |d, ak| {
            let answer = d.run("Quote", (PASSWORD, None, None), |c| c.quote(ak, qualifying, KEY_SCHEME, list))?;
            signed("Quote", answer)
        })
    }

    fn certify(&mut self, key: &KeyBlob, ak: &KeyBlob, qualifying: &[u8]) -> Result<Signed, TpmError> {
        let qualifying = data(qualifying)?;
        self.with_key("attestation key", ak, |d, ak| {
            d.with_key("node key", key, |d, key| {
                let object = ObjectHandle::from(key);
                let answer =
                    d.run("Certify", (PASSWORD, PASSWORD, None), |c| c.certify(object, ak, qualifying, KEY_SCHEME))?;
                signed("Certify", answer)
            })
        })
    }

    fn activate(
        &mut self,
        ek: EkKind,
        ak: &KeyBlob,
        id_object: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        const COMMAND: &str = "ActivateCredential";
        let id = IdObject::try_from(unsized_part(COMMAND, id_object)?).map_err(|e| rc::sort(COMMAND, e))?;
        let secret =
            EncryptedSecret::try_from(unsized_part(COMMAND, encrypted_secret)?).map_err(|e| rc::sort(COMMAND, e))?;
        let template = templates::ek(ek).map_err(|e| rc::sort("EK template", e))?;
        self.with_primary(template, |d, ek, _| {
            d.with_key("attestation key", ak, |d, ak| {
                again_on(rc::RETRY, || {
                    d.with_policy_session(ek, |d, session, policy| {
                        d.endorsement_policy(policy)?;
                        d.encrypt_answers(session)?;
                        let (id, secret) = (id.clone(), secret.clone());
                        d.run(COMMAND, (PASSWORD, Some(session), None), |c| c.activate_credential(ak, ek, id, secret))
                    })
                })
            })
        })
        .map(|secret| Zeroizing::new(secret.value().to_vec()))
    }

    fn z_gen(
        &mut self,
        key: &KeyBlob,
        bound_to: &PcrSelection,
        point: &EccPointBytes,
    ) -> Result<Zeroizing<[u8; 32]>, TpmError> {
        const COMMAND: &str = "ECDH_ZGen";
        let point = EccPoint::new(coordinate(&point.x)?, coordinate(&point.y)?);
        let list = selection(bound_to)?;
        let shared = self.with_key("node key", key, |d, key| {
            d.with_parent(|d, parent| {
                again_on(rc::PCR_CHANGED, || {
                    d.with_policy_session(parent, |d, session, policy| {
                        let (list, point) = (list.clone(), point.clone());
                        d.run("PolicyPCR", (None, None, None), |c| {
                            c.policy_pcr(policy, tss_esapi::structures::Digest::default(), list)
                        })?;
                        d.encrypt_answers(session)?;
                        d.run(COMMAND, (Some(session), None, None), |c| c.ecdh_z_gen(key, point)).map_err(|e| {
                            match e.refused_rc() {
                                Some(rc) if rc::base(rc) == rc::ECC_POINT => TpmError::NotForThisKey,
                                Some(_) | None => e,
                            }
                        })
                    })
                })
            })
        })?;
        left_padded(shared.x().value())
    }

    fn banks(&mut self) -> Result<Vec<HashAlg>, TpmError> {
        let (found, _more) =
            self.run("GetCapability", (None, None, None), |c| c.get_capability(CapabilityType::AssignedPcr, 0, 1))?;
        let CapabilityData::AssignedPcr(assigned) = found else {
            return Err(malformed("GetCapability", "not a list of PCR banks"));
        };
        let has = |alg: &HashAlg| {
            let wanted = super::convert::hashing(*alg);
            assigned.get_selections().iter().any(|s| s.hashing_algorithm() == wanted && !s.is_empty())
        };
        Ok(HashAlg::ALL.into_iter().filter(has).collect())
    }

    fn handles(&mut self) -> Result<HandleCounts, TpmError> {
        self.count_handles()
    }
}

impl EsysDevice {
    fn create(&mut self, template: tss_esapi::Result<Public>) -> Result<KeyBlob, TpmError> {
        let template = template.map_err(|e| rc::sort("key template", e))?;
        self.with_parent(|d, parent| {
            let made = d.run_key("Create", |c| c.create(parent, template, None, None, None, None))?;
            blob("Create", &made.out_public, &made.out_private)
        })
    }

    fn nv_read_open(&mut self, index: NvIndexHandle) -> Result<Vec<u8>, TpmError> {
        let (public, _name) = self.run("NV_ReadPublic", (None, None, None), |c| c.nv_read_public(index))?;
        let size = public.data_size();
        if size > NV_CAP_BYTES {
            return Err(malformed("NV_Read", format!("index of {size} bytes, at most {NV_CAP_BYTES} are read")));
        }
        let size = u16::try_from(size).map_err(|_| malformed("NV_Read", "index too large"))?;
        let mut bytes = Vec::with_capacity(usize::from(size));
        let mut offset = 0u16;
        while offset < size {
            let part = NV_READ_BYTES.min(size.saturating_sub(offset));
            let read = self
                .run("NV_Read", (PASSWORD, None, None), |c| c.nv_read(NvAuth::NvIndex(index), index, part, offset))?;
            bytes.extend_from_slice(read.value());
            offset = offset.saturating_add(part);
        }
        Ok(bytes)
    }

    /// PolicySecret of the endorsement hierarchy: the EK templates' policy (EK Credential Profile B.6.2).
    fn endorsement_policy(&mut self, policy: PolicySession) -> Result<(), TpmError> {
        self.run("PolicySecret", (PASSWORD, None, None), |c| {
            c.policy_secret(
                policy,
                AuthHandle::Endorsement,
                Nonce::default(),
                tss_esapi::structures::Digest::default(),
                Nonce::default(),
                None,
            )
        })
        .map(|_| ())
    }

    /// Encrypts the first parameter of answers: it is a secret and the TPM may be a chip on a bus.
    fn encrypt_answers(&mut self, session: AuthSession) -> Result<(), TpmError> {
        let (attributes, mask) = SessionAttributesBuilder::new().with_encrypt(true).build();
        self.context.tr_sess_set_attributes(session, attributes, mask).map_err(|e| rc::sort("session attributes", e))
    }
}

/// Runs `attempt` again while the TPM answers `code`.
fn again_on<T>(code: u32, mut attempt: impl FnMut() -> Result<T, TpmError>) -> Result<T, TpmError> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(TpmError::Refused { rc, .. }) if rc == code => {}
            outcome => return outcome,
        }
    }
    attempt().map_err(|error| {
        if let TpmError::Refused { command, rc: rc::PCR_CHANGED } = error {
            TpmError::PcrsUnstable { command, attempts: ATTEMPTS }
        } else {
            error
        }
    })
}

fn data(bytes: &[u8]) -> Result<Data, TpmError> {
    Data::try_from(bytes).map_err(|e| rc::sort("qualifying data", e))
}

fn coordinate(bytes: &[u8; 32]) -> Result<EccParameter, TpmError> {
    EccParameter::try_from(bytes.as_slice()).map_err(|e| rc::sort("point", e))
}

/// A TPM may leave leading zeros out of a coordinate; a key schedule may not.
fn left_padded(bytes: &[u8]) -> Result<Zeroizing<[u8; 32]>, TpmError> {
    let start = 32usize.checked_sub(bytes.len()).ok_or_else(|| malformed("ECDH_ZGen", "coordinate too long"))?;
    let mut padded = Zeroizing::new([0u8; 32]);
    padded.iter_mut().skip(start).zip(bytes).for_each(|(to, from)| *to = *from);
    Ok(padded)
}
