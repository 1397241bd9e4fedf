//! AMD's certificates: which chip, provider, TCB or product line they speak of (AMD 57230 §3).

use x509_cert::der::Decode as _;
use x509_cert::der::asn1::{AnyRef, Ia5StringRef, ObjectIdentifier};
use x509_cert::ext::Extension;

use super::document::{Malformed, malformed};
use super::key::{CspId, EndorsementKey, SnpLevels, SnpLine};
use super::x509::{CertificateFacts, CrlFacts};

/// The key of a certificate that calls itself AMD's; nothing for those of others.
pub(super) fn certificate(facts: &CertificateFacts) -> Option<Result<EndorsementKey, Malformed>> {
    let CertificateFacts { issuer, subject, extensions, .. } = facts;
    let line_after = |name: &str, prefix: &str| name.strip_prefix(prefix).and_then(SnpLine::of);
    match subject.as_str() {
        "SEV-VCEK" => line_after(issuer, "SEV-").map(|line| vcek(line, extensions)),
        "SEV-VLEK" => line_after(issuer, "SEV-VLEK-").map(|line| vlek(line, extensions)),
        _ => {
            let line = issuer.strip_prefix("ARK-").and_then(SnpLine::of)?;
            let key = if line_after(subject, "ARK-") == Some(line) {
                EndorsementKey::Ark(line)
            } else if line_after(subject, "SEV-VLEK-") == Some(line) {
                EndorsementKey::Asvk(line)
            } else if line_after(subject, "SEV-") == Some(line) {
                EndorsementKey::Ask(line)
            } else {
                return None;
            };
            Some(Ok(key))
        }
    }
}

/// The key of a list that calls itself an AMD root's.
pub(super) fn crl(facts: &CrlFacts) -> Option<EndorsementKey> {
    facts.issuer.strip_prefix("ARK-").and_then(SnpLine::of).map(EndorsementKey::SnpCrl)
}

fn vcek(line: SnpLine, extensions: &[Extension]) -> Result<EndorsementKey, Malformed> {
    let tcb = levels(line, extensions)?.tcb(line);
    let value = value(extensions, HWID).ok_or_else(|| malformed("a VCEK without hardware id"))?;
    let want = if line == SnpLine::Turin { 8 } else { 64 };
    // The id stands bare in the extension; newer certificates may wrap it into an OCTET STRING.
    let id = if value.len() == want { value } else { AnyRef::from_der(value).map(|any| any.value()).unwrap_or(&[]) };
    if id.len() != want {
        return Err(malformed(format!("the hardware id of a {line} VCEK is not {want} bytes")));
    }
    let mut chip_id = [0; 64];
    chip_id.iter_mut().zip(id).for_each(|(to, from)| *to = *from);
    Ok(EndorsementKey::Vcek { line, chip_id, tcb })
}

fn vlek(line: SnpLine, extensions: &[Extension]) -> Result<EndorsementKey, Malformed> {
    let tcb = levels(line, extensions)?.tcb(line);
    let text = value(extensions, CSP_ID).and_then(|value| Ia5StringRef::from_der(value).ok());
    let csp = text.and_then(|text| CspId::new(text.as_str())).ok_or_else(|| malformed("a VLEK without CSP id"))?;
    Ok(EndorsementKey::Vlek { line, tcb, csp })
}

fn levels(line: SnpLine, extensions: &[Extension]) -> Result<SnpLevels, Malformed> {
    let level = |oid, name: &str| {
        let value = value(extensions, oid).and_then(|value| u8::from_der(value).ok());
        value.ok_or_else(|| malformed(format!("no patch level of {name} from 0 to 255")))
    };
    Ok(SnpLevels {
        fmc: (line == SnpLine::Turin).then(|| level(FMC_SPL, "FMC")).transpose()?,
        boot_loader: level(BOOT_LOADER_SPL, "boot loader")?,
        tee: level(TEE_SPL, "TEE")?,
        snp: level(SNP_SPL, "SNP")?,
        microcode: level(MICROCODE_SPL, "microcode")?,
    })
}

fn value(extensions: &[Extension], oid: ObjectIdentifier) -> Option<&[u8]> {
    extensions.iter().find(|extension| extension.extn_id == oid).map(|extension| extension.extn_value.as_bytes())
}

const BOOT_LOADER_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const MICROCODE_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const FMC_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
const HWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const CSP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");
