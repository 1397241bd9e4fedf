//! Endorsements told apart by what they hold, never by what a file is called: certificates and revocation lists as DER,
//! PEM or hexadecimal, tables of them as hosts give them to SNP guests, and the vendors' JSON.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use evidence::digest::Sha256Digest;
use evidence::sev_snp::cert_table::{CertificateKind, CertificateTable};
use evidence::x509::CERTIFICATE_CAP_BYTES;

use super::document::{DER_SEQUENCE, DOCUMENT_CAP_BYTES, Document, Malformed, SignedText, digest, malformed};
use super::intel::{IntelCertificate, Statement};
use super::key::EndorsementKey;
use super::x509::Facts;
use super::{amd, intel};

/// Most endorsements taken from one pile of files.
pub const PILE_CAP: usize = 65_536;
/// Most PEM blocks read from one file.
const PEM_BLOCKS_CAP: usize = 4096;

/// From when until when an endorsement speaks, in seconds since the epoch: notBefore and notAfter of a certificate,
/// thisUpdate and nextUpdate of a list, issueDate and nextUpdate of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First second.
    pub issued_at: u64,
    /// Last second.
    pub ends_at: u64,
}

/// An endorsement that says what it is about. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    /// What it is about.
    pub key: EndorsementKey,
    /// When it speaks.
    pub window: Window,
    /// SHA-256 of `bytes`.
    pub digest: Sha256Digest,
    /// [`Document::to_bytes`].
    pub bytes: Vec<u8>,
}

impl Recognised {
    /// Reads a stored or exchanged document.
    pub fn from_document(bytes: &[u8]) -> Result<Self, Malformed> {
        let (key, window) = match Document::from_bytes(bytes)? {
            Document::Der(der) => match der_key(&der)? {
                (Known::Keyed(key), window) => (key, window),
                (Known::TcbSigning, _) => return Err(malformed("a signing certificate without a statement")),
            },
            Document::Signed(SignedText { text, .. }) => intel::text(&text)?,
        };
        Ok(Self { key, window, digest: digest(bytes), bytes: bytes.to_vec() })
    }

    fn statement(statement: Statement, chain: Vec<Vec<u8>>) -> Result<Self, Malformed> {
        let Statement { key, window, text, signature } = statement;
        let bytes = Document::Signed(SignedText { text, signature, chain }).to_bytes()?;
        if bytes.len() > DOCUMENT_CAP_BYTES {
            return Err(malformed(format!("{} bytes, at most {DOCUMENT_CAP_BYTES} are kept", bytes.len())));
        }
        Ok(Self { key, window, digest: digest(&bytes), bytes })
    }
}

enum Known {
    Keyed(EndorsementKey),
    TcbSigning,
}

fn der_key(der: &[u8]) -> Result<(Known, Window), Malformed> {
    if der.len() > DOCUMENT_CAP_BYTES {
        return Err(malformed(format!("{} bytes, at most {DOCUMENT_CAP_BYTES} are kept", der.len())));
    }
    let unknown = |what: &str, name: &str| malformed(format!("{what} of another vendor ({})", name.escape_debug()));
    match Facts::read(der)? {
        Facts::Certificate(_) if der.len() > CERTIFICATE_CAP_BYTES => {
            Err(malformed(format!("a certificate of {} bytes", der.len())))
        }
        Facts::Certificate(facts) => {
            let known = match amd::certificate(&facts) {
                Some(key) => Known::Keyed(key?),
                None => match intel::certificate(&facts) {
                    Some(IntelCertificate::Keyed(key)) => Known::Keyed(key),
                    Some(IntelCertificate::TcbSigning) => Known::TcbSigning,
                    None => return Err(unknown("a certificate", &facts.subject)),
                },
            };
            Ok((known, facts.window))
        }
        Facts::Crl(facts) => {
            let key = amd::crl(&facts).or_else(|| intel::crl(&facts));
            let key = key.ok_or_else(|| unknown("a revocation list", &facts.issuer))?;
            Ok((Known::Keyed(key), facts.window))
        }
    }
}

/// Something in a pile that is no endorsement we keep.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// Which file.
    pub file: String,
    /// Why.
    pub why: String,
}

/// Files, or the answers of a cache, that belong together: a statement may stand apart from its signing chain.
#[derive(Debug, Default)]
pub struct Pile {
    found: Vec<Recognised>,
    digests: BTreeSet<Sha256Digest>,
    statements: Vec<(String, Statement)>,
    signers: Vec<(Window, Vec<u8>)>,
    roots: Vec<Vec<u8>>,
    skipped: Vec<Skipped>,
}

/// What a pile came to.
#[derive(Debug)]
pub struct Sorted {
    /// What can be stored, each once.
    pub found: Vec<Recognised>,
    /// What cannot.
    pub skipped: Vec<Skipped>,
}

impl Pile {
    /// Adds whatever `bytes` hold; `file` names them where something cannot be used.
    pub fn add(&mut self, file: &str, bytes: &[u8]) {
        if let Err(why) = self.read(file, bytes) {
            self.skip(file, &why);
        }
    }

    /// Adds what was recognised before.
    pub fn add_recognised(&mut self, recognised: Recognised) {
        if self.found.len() < PILE_CAP && self.digests.insert(recognised.digest) {
            self.found.push(recognised);
        }
    }

    /// Adds a document as it is stored and exchanged.
    pub fn add_document(&mut self, file: &str, document: &[u8]) {
        match Recognised::from_document(document) {
            Ok(recognised) => self.add_recognised(recognised),
            Err(why) => self.skip(file, &why),
        }
    }

    /// Joins statements with their signing chains and ends the pile.
    #[must_use]
    pub fn sorted(mut self) -> Sorted {
        for (file, statement) in std::mem::take(&mut self.statements) {
            let issued_at = statement.window.issued_at;
            let signer =
                self.signers.iter().find(|(window, _)| (window.issued_at..=window.ends_at).contains(&issued_at));
            let joined = match signer {
                Some((_, signer)) => {
                    let chain = std::iter::once(signer).chain(self.roots.first()).cloned().collect();
                    Recognised::statement(statement, chain)
                }
                None => Err(malformed(format!("the {} without its signing certificate beside it", statement.key))),
            };
            match joined {
                Ok(recognised) => self.add_recognised(recognised),
                Err(why) => self.skip(&file, &why),
            }
        }
        Sorted { found: self.found, skipped: self.skipped }
    }

    fn skip(&mut self, file: &str, why: &Malformed) {
        if self.skipped.len() < PILE_CAP {
            self.skipped.push(Skipped { file: file.to_owned(), why: why.what.clone() });
        }
    }

    fn read(&mut self, file: &str, bytes: &[u8]) -> Result<(), Malformed> {
        if bytes.first() == Some(&DER_SEQUENCE) && std::str::from_utf8(bytes).map_or(true, |text| !is_hex(text)) {
            return self.add_der(bytes);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => self.read_text(file, text),
            Err(_) => self.read_table(file, bytes),
        }
    }

    /// The table that a host gives with an extended report (`CertificateTable`). DER in it is no UTF-8, so that no text is
    /// taken for one. A list in it counts here: an operator imports it, not the host whose key it is about.
    fn read_table(&mut self, file: &str, bytes: &[u8]) -> Result<(), Malformed> {
        let table =
            CertificateTable::parse(bytes).map_err(|_| malformed("neither DER, PEM, JSON nor a certificate table"))?;
        let mut found = false;
        for kind in CertificateKind::ALL {
            let der = table.der(kind).map_err(|denial| malformed(denial.to_string())).transpose();
            found |= der.is_some();
            if let Some(Err(why)) = der.map(|der| der.and_then(|der| self.add_der(&der))) {
                self.skip(file, &why);
            }
        }
        if found { Ok(()) } else { Err(malformed("a certificate table without a certificate of AMD's")) }
    }

    fn read_text(&mut self, file: &str, text: &str) -> Result<(), Malformed> {
        let trimmed = text.trim();
        if trimmed.starts_with('{') {
            return self.read_json(file, trimmed);
        }
        if is_hex(trimmed) {
            let der = hex::decode(trimmed).map_err(|_| malformed("not hexadecimal"))?;
            return self.add_der(&der);
        }
        let mut found = false;
        for block in blocks(text) {
            found = true;
            if let Err(why) = block.and_then(|der| self.add_der(&der)) {
                self.skip(file, &why);
            }
        }
        if found { Ok(()) } else { Err(malformed("neither DER, PEM nor JSON")) }
    }

    fn read_json(&mut self, file: &str, text: &str) -> Result<(), Malformed> {
        let collateral = intel::json(text)?;
        // A set brings the chain of each of its statements: they are joined with it alone.
        let mut own = Self::default();
        for part in &collateral.parts {
            // a part that is JSON again would nest
            match part.trim_start().starts_with('{') {
                true => own.skip(file, &malformed("JSON where a chain or a list should be")),
                false => own.read_text(file, part).unwrap_or_else(|why| own.skip(file, &why)),
            }
        }
        for statement in collateral.statements {
            match statement {
                Ok(statement) if own.signers.is_empty() => self.statements.push((file.to_owned(), statement)),
                Ok(statement) => own.statements.push((file.to_owned(), statement)),
                Err(why) => self.skip(file, &why),
            }
        }
        let Sorted { found, skipped } = own.sorted();
        found.into_iter().for_each(|recognised| self.add_recognised(recognised));
        self.skipped.extend(skipped);
        Ok(())
    }

    fn add_der(&mut self, der: &[u8]) -> Result<(), Malformed> {
        match der_key(der)? {
            (Known::TcbSigning, window) => {
                if self.signers.len() < PEM_BLOCKS_CAP {
                    self.signers.push((window, der.to_vec()));
                }
            }
            (Known::Keyed(key), window) => {
                if key == EndorsementKey::IntelRoot && self.roots.is_empty() {
                    self.roots.push(der.to_vec());
                }
                self.add_recognised(Recognised { key, window, digest: digest(der), bytes: der.to_vec() });
            }
        }
        Ok(())
    }
}

fn is_hex(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The PEM blocks of a text (RFC 7468): certificates and revocation lists decoded, others named.
fn blocks(text: &str) -> impl Iterator<Item = Result<Vec<u8>, Malformed>> {
    text.split("-----BEGIN ").skip(1).take(PEM_BLOCKS_CAP).map(|block| {
        let (label, rest) = block.split_once("-----").ok_or_else(|| malformed("PEM without label"))?;
        if !matches!(label, "CERTIFICATE" | "X509 CRL") {
            let label: String = label.chars().take(40).collect();
            return Err(malformed(format!("PEM of another kind: {}", label.escape_debug())));
        }
        let (body, _) = rest.split_once("-----END ").ok_or_else(|| malformed("PEM without end"))?;
        let body: String = body.split_ascii_whitespace().collect();
        BASE64.decode(body).map_err(|_| malformed("PEM that is not base64"))
    })
}
