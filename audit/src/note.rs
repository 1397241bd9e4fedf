//! C2SP signed-note: text, an empty line, one line per signature.
//!
//! Read strictly: the canonical spelling only. Signatures by keys that nobody asked about are left alone, as the
//! specification demands, and counted, so that a caller who wants every line accounted for can refuse them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evidence::{
    cose::{Alg, PublicKey},
    digest::Sha256Digest,
};

use crate::denial::AuditDenial;

/// Longest note, in bytes.
pub const NOTE_CAP_BYTES: usize = 64 * 1024;
/// Most signature lines read (the specification asks for at least 16).
pub const SIGNATURES_CAP: usize = 64;
/// Longest key name, in bytes.
pub const KEY_NAME_CAP_BYTES: usize = 128;

/// Signature types of the signed-note specification that we make or check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoteKeyKind {
    /// Ed25519 over the note's text (type 0x01): a log's own signature.
    Ed25519,
    /// Timestamped Ed25519 cosignature (type 0x04, tlog-cosignature): a witness.
    Cosignature,
}

impl NoteKeyKind {
    const fn type_byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
        }
    }
}

/// A key that may sign notes, under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    kind: NoteKeyKind,
    key: PublicKey,
    id: u32,
}

impl NoteKey {
    /// The key under `name`.
    ///
    /// # Errors
    /// [`AuditDenial::NoteKey`] for a name that cannot stand in a note, or a key that is not Ed25519.
    pub fn new(name: &str, kind: NoteKeyKind, key: &PublicKey) -> Result<Self, AuditDenial> {
        if !key_name(name) {
            return Err(AuditDenial::NoteKey { what: "name" });
        }
        if key.alg() != Alg::Ed25519 {
            return Err(AuditDenial::NoteKey { what: "algorithm" });
        }
        let Sha256Digest(hash) = Sha256Digest::concat(&[name.as_bytes(), b"\n", &[kind.type_byte()], key.raw()]);
        let [a, b, c, d, ..] = hash;
        Ok(Self { name: name.to_owned(), kind, key: key.clone(), id: u32::from_be_bytes([a, b, c, d]) })
    }

    /// Reads a verifier key, `name+id+base64(type ‖ key)`.
    ///
    /// # Errors
    /// [`AuditDenial::NoteKey`] for any other spelling.
    pub fn from_vkey(text: &str) -> Result<Self, AuditDenial> {
        let refuse = || AuditDenial::NoteKey { what: "verifier key" };
        let (name, rest) = text.split_once('+').ok_or_else(refuse)?;
        let (_, encoded) = rest.split_once('+').ok_or_else(refuse)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| refuse())?;
        let (kind, raw) = match bytes.split_first() {
            Some((0x01, raw)) => (NoteKeyKind::Ed25519, raw),
            Some((0x04, raw)) => (NoteKeyKind::Cosignature, raw),
            Some(_) | None => return Err(refuse()),
        };
        let key = Self::new(name, kind, &PublicKey::ed25519(raw).map_err(|_| refuse())?)?;
        if key.vkey() == text { Ok(key) } else { Err(refuse()) }
    }

    /// Its verifier key text.
    #[must_use]
    pub fn vkey(&self) -> String {
        let bytes = [&[self.kind.type_byte()], self.key.raw()].concat();
        format!("{}+{:08x}+{}", self.name, self.id, STANDARD.encode(bytes))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> NoteKeyKind {
        self.kind
    }

    /// The key itself.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Its 32-bit id: finds a key, never proves one.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// Id of the key.
    pub id: u32,
    /// What the key made: for a cosignature the timestamp comes first.
    pub bytes: Vec<u8>,
}

impl NoteSignature {
    /// Whether it claims to be of this key.
    #[must_use]
    pub fn is_of(&self, key: &NoteKey) -> bool {
        self.id == key.id && self.name == key.name
    }

    /// Its line in a note, final newline included.
    #[must_use]
    pub fn to_line(&self) -> String {
        let bytes = [&self.id.to_be_bytes()[..], &self.bytes].concat();
        format!("\u{2014} {} {}\n", self.name, STANDARD.encode(bytes))
    }
}

/// A note as read; nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// A note of this text, to be signed.
    ///
    /// # Errors
    /// [`AuditDenial::NoteMalformed`] when the text cannot be a note's.
    pub fn new(text: String) -> Result<Self, AuditDenial> {
        let control = text.bytes().any(|b| b < 0x20 && b != b'\n');
        if text.is_empty() || !text.ends_with('\n') || control || text.len() > NOTE_CAP_BYTES {
            return Err(AuditDenial::NoteMalformed { what: "text" });
        }
        Ok(Self { text, signatures: Vec::new() })
    }

    /// Reads a note of at most [`NOTE_CAP_BYTES`] in its only spelling.
    ///
    /// # Errors
    /// [`AuditDenial::NoteMalformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, AuditDenial> {
        let refuse = |what| AuditDenial::NoteMalformed { what };
        if bytes.len() > NOTE_CAP_BYTES {
            return Err(refuse("length"));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| refuse("encoding"))?;
        let (text, lines) = whole.rsplit_once("\n\n").ok_or_else(|| refuse("no empty line"))?;
        let mut note = Self::new(format!("{text}\n"))?;
        let lines = lines.strip_suffix('\n').ok_or_else(|| refuse("last line"))?;
        for line in lines.split('\n') {
            note.signatures.push(signature_line(line).ok_or_else(|| refuse("signature line"))?);
            if note.signatures.len() > SIGNATURES_CAP {
                return Err(refuse("number of signatures"));
            }
        }
        if note.to_text() == whole { Ok(note) } else { Err(refuse("spelling")) }
    }

    /// Its text, final newline included.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its signatures.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature line.
    pub fn add(&mut self, key: &NoteKey, bytes: Vec<u8>) {
        self.add_signature(NoteSignature { name: key.name.clone(), id: key.id, bytes });
    }

    /// Adds a signature line made elsewhere.
    pub fn add_signature(&mut self, signature: NoteSignature) {
        self.signatures.push(signature);
    }

    /// The note as it is published.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = format!("{}\n", self.text);
        self.signatures.iter().for_each(|signature| out.push_str(&signature.to_line()));
        out
    }
}

fn signature_line(line: &str) -> Option<NoteSignature> {
    let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (id, rest) = bytes.split_first_chunk::<4>()?;
    if !key_name(name) || rest.is_empty() {
        return None;
    }
    Some(NoteSignature { name: name.to_owned(), id: u32::from_be_bytes(*id), bytes: rest.to_vec() })
}

/// Narrower than the specification: graphic ASCII, so that no look-alike names the same key.
fn key_name(name: &str) -> bool {
    (1..=KEY_NAME_CAP_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b'+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_of_the_specification_is_read_and_written_back() {
        let note = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned \u{e8} subito sera.\n\n\u{2014} quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";
        let read = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(read.to_text(), note);
        assert_eq!(read.signatures()[0].name, "quasimodo.example/salvatore");
        assert_eq!(read.signatures()[0].bytes.len(), 64);
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "text\n",
            "text\n\n",
            "text\n\n\u{2014} name AAAAAAA=",
            "text\n\n- name AAAAAAA=\n",
            "text\n\n\u{2014} name AAAAAAA=\n\n",
            "text\n\n\u{2014}  AAAAAAA=\n",
            "text\n\n\u{2014} na+me AAAAAAA=\n",
            "text\n\n\u{2014} name AAAA\n",
            "text\n\n\u{2014} name AAAAAA==\n",
            "text\n\n\u{2014} name AAAAAAB=\n",
            "te\u{1}xt\n\n\u{2014} name AAAAAAA=\n",
            "text\r\n\n\u{2014} name AAAAAAA=\n",
            "\n\n\u{2014} name AAAAAAA=x\n",
        ] {
            assert!(matches!(Note::parse(bad.as_bytes()), Err(AuditDenial::NoteMalformed { .. })), "{bad:?}");
        }
        let many = format!("text\n\n{}", "\u{2014} name AAAAAAA=\n".repeat(65));
        assert!(Note::parse(many.as_bytes()).is_err());
        assert!(Note::parse(&vec![b'a'; NOTE_CAP_BYTES + 1]).is_err());
        assert!(Note::parse(b"te\xffxt\n\n").is_err());
    }

    #[test]
    fn verifier_keys_round_trip() {
        let key = evidence::cose::SigningKey::from_seed(&[1; 32]).unwrap();
        for kind in [NoteKeyKind::Ed25519, NoteKeyKind::Cosignature] {
            let note_key = NoteKey::new("a.example/log", kind, key.public()).unwrap();
            assert_eq!(NoteKey::from_vkey(&note_key.vkey()).unwrap(), note_key);
        }
        assert!(NoteKey::new("a b", NoteKeyKind::Ed25519, key.public()).is_err());
        assert!(NoteKey::from_vkey("a+00000000+AAAA").is_err());
    }
}
