//! Certificate chains as Intel ships them: PEM blocks one after the other (RFC 7468), ended by a NUL at most.

use der::pem;

use crate::{EvidenceDenial, x509::CERTIFICATE_CAP_BYTES};

/// Longest chain of two or three certificates in PEM.
pub(super) const CHAIN_CAP_BYTES: usize = 16 * 1024;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Certificates (DER) in PEM, one after the other.
pub(super) fn write_chain(certificates: &[&[u8]]) -> Result<String, EvidenceDenial> {
    let malformed =
        |_| EvidenceDenial::Malformed { structure: "certificate", offset: 0, what: "bytes that PEM can hold" };
    let block = |der: &&[u8]| pem::encode_string("CERTIFICATE", pem::LineEnding::LF, der).map_err(malformed);
    certificates.iter().map(block).collect()
}

/// Reads exactly `N` certificates and nothing else.
pub(super) fn read_chain<const N: usize>(text: &[u8]) -> Result<[Vec<u8>; N], EvidenceDenial> {
    if text.len() > CHAIN_CAP_BYTES {
        return Err(EvidenceDenial::TooLarge {
            part: "certificate chain",
            got_bytes: text.len(),
            cap_bytes: CHAIN_CAP_BYTES,
        });
    }
    let malformed = |what| EvidenceDenial::Malformed { structure: "certificate chain", offset: 0, what };
    // writers count the NUL that ends their string, some of them twice
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    let text = std::str::from_utf8(text.get(..end).unwrap_or(text)).map_err(|_| malformed("PEM"))?;
    let mut rest = text.trim_ascii();
    let mut read = || {
        if !rest.starts_with(BEGIN) {
            return Err(malformed("PEM certificates, as many as the chain has"));
        }
        let end = rest.find(END).map(|at| at.saturating_add(END.len()));
        let (block, after) = end.and_then(|end| rest.split_at_checked(end)).ok_or_else(|| malformed("PEM"))?;
        rest = after.trim_ascii_start();
        if block.len() > CERTIFICATE_CAP_BYTES {
            let (got_bytes, cap_bytes) = (block.len(), CERTIFICATE_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "certificate", got_bytes, cap_bytes });
        }
        pem::decode_vec(block.as_bytes()).map(|(_, der)| der).map_err(|_| malformed("PEM"))
    };
    let mut chain = [const { Vec::new() }; N];
    for slot in &mut chain {
        *slot = read()?;
    }
    match rest.len() {
        0 => Ok(chain),
        extra_bytes => Err(EvidenceDenial::TrailingBytes { structure: "certificate chain", extra_bytes }),
    }
}
