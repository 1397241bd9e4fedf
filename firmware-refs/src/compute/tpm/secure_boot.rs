//! PCR 7: the state of Secure Boot, its variables, and the certificates that verified what was started (PFP §3.3.4.8;
//! UEFI §32.4.1 for the variables' contents).

use evidence::digest::HashAlg;

use super::{event, extended, separator};
use crate::compute::{
    ArtifactError,
    bytes::Structure,
    proposal::{ComputedValue, PredictedEvent},
};

/// EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c.
const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
/// EFI_IMAGE_SECURITY_DATABASE, d719b2cb-3d3a-4596-a3bc-dad00e67656f.
const IMAGE_SECURITY: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
/// EFI_CERT_X509, a5c059a1-94e4-4aa7-87b5-ab155c2bf072.
const X509: [u8; 16] = [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];

/// Largest variable; revocation lists have 10 to 30 KiB.
const VARIABLE_CAP_BYTES: usize = 1 << 20;
/// EFI_SIGNATURE_LIST before its signatures.
const LIST_HEADER_BYTES: usize = 28;
/// SignatureOwner.
const OWNER_BYTES: usize = 16;

/// What the variable `SecureBoot` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureBoot {
    /// 1: images are verified.
    On,
    /// 0: they are not.
    Off,
    /// The firmware does not have it.
    Absent,
}

/// A variable of EFI_SIGNATURE_LISTs.
#[derive(Clone, Debug, Default)]
pub struct SignatureDatabase<'a> {
    data: &'a [u8],
    /// EFI_SIGNATURE_DATA of every X.509 certificate: owner and certificate.
    certificates: Vec<&'a [u8]>,
}

impl<'a> SignatureDatabase<'a> {
    /// Reads the variable's data: signature lists (`.esl`), or a file of efivarfs, with the variable's attributes
    /// before them.
    ///
    /// # Errors
    /// [`ArtifactError`] where it is neither, or could be both.
    pub fn parse(file: &'a [u8]) -> Result<Self, ArtifactError> {
        if file.len() > VARIABLE_CAP_BYTES {
            let (got_bytes, cap_bytes) = (file.len(), VARIABLE_CAP_BYTES);
            return Err(ArtifactError::TooLarge { what: "Secure Boot variable", got_bytes, cap_bytes });
        }
        let bare = lists(file);
        let after_attributes = file.split_first_chunk::<4>().map(|(_, data)| (data, lists(data)));
        match (bare, after_attributes) {
            (Ok(_), Some((data, Ok(_)))) if !data.is_empty() => {
                Err(Structure::new("Secure Boot variable", 0, file).malformed(0, "reads with and without attributes"))
            }
            (Ok(certificates), _) => Ok(Self { data: file, certificates }),
            (Err(_), Some((data, Ok(certificates)))) => Ok(Self { data, certificates }),
            (Err(error), _) => Err(error),
        }
    }
}

/// The variables that are measured. One that is not set is measured as empty.
#[derive(Clone, Debug, Default)]
pub struct SecureBootVariables<'a> {
    /// Platform key.
    pub pk: SignatureDatabase<'a>,
    /// Key exchange keys.
    pub kek: SignatureDatabase<'a>,
    /// What may run.
    pub db: SignatureDatabase<'a>,
    /// What may not.
    pub dbx: SignatureDatabase<'a>,
}

/// PCR 7 of a machine with these variables, on which images were verified by `authorities` (certificates in DER, in
/// the order in which each first was needed).
///
/// # Errors
/// [`ArtifactError::Missing`] for an authority that is not in db.
pub fn pcr7(
    alg: HashAlg,
    secure_boot: SecureBoot,
    variables: &SecureBootVariables<'_>,
    authorities: &[&[u8]],
) -> Result<ComputedValue, ArtifactError> {
    let state: &[u8] = match secure_boot {
        SecureBoot::On => &[1],
        SecureBoot::Off => &[0],
        SecureBoot::Absent => &[],
    };
    let configured = |guid, name, data| variable(alg, "EV_EFI_VARIABLE_DRIVER_CONFIG", guid, name, data);
    let mut events = vec![
        configured(&GLOBAL, "SecureBoot", state),
        configured(&GLOBAL, "PK", variables.pk.data),
        configured(&GLOBAL, "KEK", variables.kek.data),
        configured(&IMAGE_SECURITY, "db", variables.db.data),
        configured(&IMAGE_SECURITY, "dbx", variables.dbx.data),
        separator(alg),
    ];
    for certificate in authorities {
        let is_it = |signature: &&&[u8]| signature.get(OWNER_BYTES..) == Some(*certificate);
        let signature = variables.db.certificates.iter().find(is_it);
        let signature = signature.ok_or(ArtifactError::Missing { what: "db entry for the certificate named" })?;
        let measured = variable(alg, "EV_EFI_VARIABLE_AUTHORITY", &IMAGE_SECURITY, "db", signature);
        // each authority is measured once, however many images it verifies
        if !events.contains(&measured) {
            events.push(measured);
        }
    }
    Ok(extended(alg, 7, events))
}

/// UEFI_VARIABLE_DATA (PFP §10.2.6), hashed.
fn variable(alg: HashAlg, kind: &'static str, guid: &[u8; 16], name: &str, data: &[u8]) -> PredictedEvent {
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let characters = u64::try_from(name.len()).unwrap_or(u64::MAX).to_le_bytes();
    let length = u64::try_from(data.len()).unwrap_or(u64::MAX).to_le_bytes();
    let digest = alg.hash(&[guid, &characters, &length, &units, data]);
    event(kind, format!("{name}, {} bytes", data.len()), digest)
}

/// EFI_SIGNATURE_DATA of every X.509 certificate in signature lists that fill `data`.
fn lists(data: &[u8]) -> Result<Vec<&[u8]>, ArtifactError> {
    let variable = Structure::new("EFI_SIGNATURE_LIST", 0, data);
    let mut certificates = Vec::new();
    let mut at = 0usize;
    while at < data.len() {
        let list = variable.part("EFI_SIGNATURE_LIST", at, variable.size_u32(at.saturating_add(16))?)?;
        let (header, size) = (list.size_u32(20)?, list.size_u32(24)?);
        let start = header.checked_add(LIST_HEADER_BYTES).filter(|start| *start <= list.len());
        let start = start.ok_or_else(|| list.malformed(20, "is smaller than its headers"))?;
        let signatures = list.take(start, list.len().saturating_sub(start))?;
        if size <= OWNER_BYTES || signatures.is_empty() || !signatures.len().is_multiple_of(size) {
            return Err(list.malformed(24, "signatures do not divide their list"));
        }
        if list.array(0)? == X509 {
            certificates.extend(signatures.chunks(size));
        }
        at = at.saturating_add(list.len());
    }
    Ok(certificates)
}
