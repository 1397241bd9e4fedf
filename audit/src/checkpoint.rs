//! C2SP tlog-checkpoint: the log's tree head as a signed note, and tlog-cosignature/v1 by witnesses.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evidence::{
    cose::{PublicKey, SigningKey},
    time::UnixSeconds,
};

use crate::{
    denial::AuditDenial,
    note::{Note, NoteKey, NoteKeyKind, NoteSignature},
    tlog::{TREE_CAP_LEAVES, TreeHash},
};

/// A tree head. Extension lines are refused: nobody could audit them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Names the log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root hash over them.
    pub root: TreeHash,
}

impl Checkpoint {
    /// The note text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// Signs it as the log. The key's name is the origin.
    ///
    /// # Errors
    /// [`AuditDenial`] when origin or size cannot stand in a checkpoint.
    pub fn sign(&self, log_key: &SigningKey) -> Result<String, AuditDenial> {
        if self.size > TREE_CAP_LEAVES {
            return Err(AuditDenial::TreeTooLarge { size: self.size, cap: TREE_CAP_LEAVES });
        }
        let key = NoteKey::new(&self.origin, NoteKeyKind::Ed25519, log_key.public())?;
        let mut note = Note::new(self.text())?;
        note.add(&key, log_key.sign_raw(note.text().as_bytes()));
        Ok(note.to_text())
    }

    /// Reads the checkpoint out of a note of whatever log, without verifying any signature.
    ///
    /// # Errors
    /// [`AuditDenial`] when the bytes are not a note, or its text no checkpoint.
    pub fn claimed(note: &[u8]) -> Result<Self, AuditDenial> {
        Self::parse(Note::parse(note)?.text())
    }

    fn parse(text: &str) -> Result<Self, AuditDenial> {
        let refuse = |what| AuditDenial::CheckpointMalformed { what };
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), Some(""), None) =
            (lines.next(), lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(refuse("not exactly three lines"));
        };
        let size = size.parse().map_err(|_| refuse("size"))?;
        if size > TREE_CAP_LEAVES {
            return Err(AuditDenial::TreeTooLarge { size, cap: TREE_CAP_LEAVES });
        }
        let root = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let root = TreeHash(root.ok_or_else(|| refuse("root hash"))?);
        let checkpoint = Self { origin: origin.to_owned(), size, root };
        if !origin.is_empty() && checkpoint.text() == text { Ok(checkpoint) } else { Err(refuse("spelling")) }
    }
}

/// Which log: its origin, and the keys that may sign for it (more than one while one is being replaced).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    keys: Vec<NoteKey>,
    origin: String,
}

impl LogIdentity {
    /// The log of this origin and these Ed25519 keys.
    ///
    /// # Errors
    /// [`AuditDenial::NoteKey`] for no key, another kind of key, or an origin that cannot name one.
    pub fn new<'a>(origin: &str, keys: impl IntoIterator<Item = &'a PublicKey>) -> Result<Self, AuditDenial> {
        let keys: Result<Vec<_>, _> =
            keys.into_iter().map(|key| NoteKey::new(origin, NoteKeyKind::Ed25519, key)).collect();
        let keys = keys?;
        if keys.is_empty() {
            return Err(AuditDenial::NoteKey { what: "no log key" });
        }
        Ok(Self { keys, origin: origin.to_owned() })
    }

    /// The log of this origin that signs with a key of another name, as logs older than the rule that both are the same do.
    ///
    /// # Errors
    /// [`AuditDenial::NoteKey`] for a key that no log signs with.
    pub fn with_key(origin: &str, key: NoteKey) -> Result<Self, AuditDenial> {
        match key.kind() {
            NoteKeyKind::Ed25519 => Ok(Self { keys: vec![key], origin: origin.to_owned() }),
            NoteKeyKind::Cosignature => Err(AuditDenial::NoteKey { what: "a witness's key" }),
        }
    }

    /// Its origin line.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &[NoteKey] {
        &self.keys
    }
}

/// A witness's word that, at this time, this was the largest tree it had seen of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// Name of the witness.
    pub witness: String,
    /// The key that it signed with.
    pub key: PublicKey,
    /// When.
    pub at: UnixSeconds,
}

/// A checkpoint that its log signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    checkpoint: Checkpoint,
    cosigned: Vec<Cosigned>,
    unknown_signatures: usize,
}

impl VerifiedCheckpoint {
    /// Reads a checkpoint of `log`, with the cosignatures of those `witnesses` that gave one.
    ///
    /// A signature that claims to be of a known key and is not refuses the whole note; one by an unknown key counts for
    /// nothing (signed-note, "Signatures").
    ///
    /// # Errors
    /// [`AuditDenial`] for the first rule broken.
    pub fn verify(
        bytes: &[u8],
        log: &LogIdentity,
        witnesses: &[NoteKey],
        now: UnixSeconds,
    ) -> Result<Self, AuditDenial> {
        let note = Note::parse(bytes)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        if checkpoint.origin != log.origin {
            return Err(AuditDenial::OriginMismatch { got: checkpoint.origin, expected: log.origin.clone() });
        }
        let (mut signed, mut unknown_signatures) = (false, 0_usize);
        let mut cosigned: Vec<Cosigned> = Vec::new();
        for signature in note.signatures() {
            let known = log.keys.iter().chain(witnesses).find(|key| signature.is_of(key));
            let Some(key) = known else {
                unknown_signatures = unknown_signatures.saturating_add(1);
                continue;
            };
            match key.kind() {
                NoteKeyKind::Ed25519 => {
                    let verifies = key.key().verifies(note.text().as_bytes(), &signature.bytes);
                    if !verifies || signed {
                        return Err(AuditDenial::NoteSignature { name: signature.name.clone() });
                    }
                    signed = true;
                }
                NoteKeyKind::Cosignature => {
                    let at = cosignature(&note, signature, key, now)?;
                    if cosigned.iter().any(|other| other.witness == key.name()) {
                        return Err(AuditDenial::NoteSignature { name: signature.name.clone() });
                    }
                    cosigned.push(Cosigned { witness: key.name().to_owned(), key: key.key().clone(), at });
                }
            }
        }
        if !signed {
            return Err(AuditDenial::NotSignedByLog { origin: log.origin.clone() });
        }
        Ok(Self { checkpoint, cosigned, unknown_signatures })
    }

    /// The tree head.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Who cosigned, of the witnesses asked about.
    #[must_use]
    pub fn cosigned(&self) -> &[Cosigned] {
        &self.cosigned
    }

    /// The same, with those cosignatures alone that count by a rule that the caller knows.
    #[must_use]
    pub(crate) fn counting(mut self, counts: impl Fn(&Cosigned) -> bool) -> Self {
        self.cosigned.retain(counts);
        self
    }

    /// How many signature lines are by keys nobody asked about.
    #[must_use]
    pub const fn unknown_signatures(&self) -> usize {
        self.unknown_signatures
    }

    /// Refuses unless at least `needed` distinct witnesses cosigned.
    ///
    /// # Errors
    /// [`AuditDenial::QuorumNotMet`].
    pub fn quorum(&self, needed: usize) -> Result<(), AuditDenial> {
        let got = self.cosigned.len();
        if got < needed { Err(AuditDenial::QuorumNotMet { got, needed }) } else { Ok(()) }
    }
}

/// How far a witness's clock may be ahead of ours, in seconds.
pub const COSIGNATURE_SKEW_S: u64 = 120;

/// Adds a witness's cosignature/v1 to a note. The witness has checked consistency before it calls this.
///
/// # Errors
/// [`AuditDenial`] when the bytes are not a checkpoint.
pub fn cosign(note: &[u8], witness: &str, key: &SigningKey, at: UnixSeconds) -> Result<String, AuditDenial> {
    let mut note = Note::parse(note)?;
    note.add_signature(cosignature_of(&note, witness, key, at)?);
    Ok(note.to_text())
}

/// A witness's cosignature/v1 on a note, which must be a checkpoint.
pub(crate) fn cosignature_of(
    note: &Note,
    witness: &str,
    key: &SigningKey,
    at: UnixSeconds,
) -> Result<NoteSignature, AuditDenial> {
    Checkpoint::parse(note.text())?;
    let note_key = NoteKey::new(witness, NoteKeyKind::Cosignature, key.public())?;
    let signature = key.sign_raw(&cosigned_message(note, at));
    Ok(NoteSignature {
        name: witness.to_owned(),
        id: note_key.id(),
        bytes: [&at.0.to_be_bytes()[..], &signature].concat(),
    })
}

/// When the witness made this cosignature, which verifies and is not from the future.
pub(crate) fn cosignature(
    note: &Note,
    signature: &NoteSignature,
    key: &NoteKey,
    now: UnixSeconds,
) -> Result<UnixSeconds, AuditDenial> {
    let refuse = || AuditDenial::NoteSignature { name: signature.name.clone() };
    let (at, made) = signature.bytes.split_first_chunk::<8>().ok_or_else(refuse)?;
    let at = UnixSeconds(u64::from_be_bytes(*at));
    if !key.key().verifies(&cosigned_message(note, at), made) {
        return Err(refuse());
    }
    if at > now.plus(COSIGNATURE_SKEW_S) {
        return Err(AuditDenial::FromTheFuture { what: "cosignature", at, now });
    }
    Ok(at)
}

/// tlog-cosignature, "Ed25519 signed message".
fn cosigned_message(note: &Note, at: UnixSeconds) -> Vec<u8> {
    format!("cosignature/v1\ntime {at}\n{}", note.text()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::leaf_hash;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "a.example/log".into(), size: 7, root: leaf_hash(b"root") }
    }

    fn log(seed: u8) -> LogIdentity {
        LogIdentity::new("a.example/log", [key(seed).public()]).unwrap()
    }

    const NOW: UnixSeconds = UnixSeconds(1_000);

    #[test]
    fn what_the_log_signed_is_accepted_and_nothing_else() {
        let note = checkpoint().sign(&key(1)).unwrap();
        let verified = VerifiedCheckpoint::verify(note.as_bytes(), &log(1), &[], NOW).unwrap();
        assert_eq!(verified.checkpoint(), &checkpoint());
        let refused = VerifiedCheckpoint::verify(note.as_bytes(), &log(2), &[], NOW);
        assert!(matches!(refused, Err(AuditDenial::NotSignedByLog { .. })));
        let other = LogIdentity::new("b.example/log", [key(1).public()]).unwrap();
        let refused = VerifiedCheckpoint::verify(note.as_bytes(), &other, &[], NOW);
        assert!(matches!(refused, Err(AuditDenial::OriginMismatch { .. })));
        for at in 0..note.len() {
            let mut bent = note.clone().into_bytes();
            bent[at] ^= 1;
            assert!(VerifiedCheckpoint::verify(&bent, &log(1), &[], NOW).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_key_of_another_name_than_the_origin_signs_under_its_own() {
        let named = NoteKey::new("keys.example", NoteKeyKind::Ed25519, key(1).public()).unwrap();
        let log = LogIdentity::with_key("a.example/log", named.clone()).unwrap();
        let mut note = Note::new(checkpoint().text()).unwrap();
        note.add(&named, key(1).sign_raw(note.text().as_bytes()));
        let verified = VerifiedCheckpoint::verify(note.to_text().as_bytes(), &log, &[], NOW).unwrap();
        assert_eq!(verified.checkpoint(), &checkpoint());
        let under_origin = checkpoint().sign(&key(1)).unwrap();
        let refused = VerifiedCheckpoint::verify(under_origin.as_bytes(), &log, &[], NOW);
        assert!(matches!(refused, Err(AuditDenial::NotSignedByLog { .. })));
        let witness = NoteKey::new("w.example", NoteKeyKind::Cosignature, key(1).public()).unwrap();
        assert!(matches!(LogIdentity::with_key("a.example/log", witness), Err(AuditDenial::NoteKey { .. })));
    }

    #[test]
    fn other_texts_are_not_checkpoints() {
        let root = STANDARD.encode([7; 32]);
        for text in [
            format!("o\n7\n{root}\nextension\n"),
            format!("o\n07\n{root}\n"),
            format!("o\n+7\n{root}\n"),
            format!("o\n-7\n{root}\n"),
            format!("\n7\n{root}\n"),
            format!("o\n7\n{}\n", STANDARD.encode([7; 31])),
            "o\n7\n".to_owned(),
            format!("o\n{}\n{root}\n", u64::MAX),
        ] {
            assert!(Checkpoint::parse(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn cosignatures_count_once_and_only_when_genuine() {
        let witness = NoteKey::new("w.example", NoteKeyKind::Cosignature, key(5).public()).unwrap();
        let note = checkpoint().sign(&key(1)).unwrap();
        let verify =
            |note: &str| VerifiedCheckpoint::verify(note.as_bytes(), &log(1), std::slice::from_ref(&witness), NOW);
        assert!(matches!(verify(&note).unwrap().quorum(1), Err(AuditDenial::QuorumNotMet { got: 0, needed: 1 })));
        let cosigned = cosign(note.as_bytes(), "w.example", &key(5), UnixSeconds(990)).unwrap();
        let verified = verify(&cosigned).unwrap();
        verified.quorum(1).unwrap();
        assert_eq!(
            verified.cosigned(),
            [Cosigned { witness: "w.example".into(), key: key(5).public().clone(), at: UnixSeconds(990) }]
        );
        let twice = cosign(cosigned.as_bytes(), "w.example", &key(5), UnixSeconds(991)).unwrap();
        assert!(matches!(verify(&twice), Err(AuditDenial::NoteSignature { .. })));
        let early = cosign(note.as_bytes(), "w.example", &key(5), UnixSeconds(2_000)).unwrap();
        assert!(matches!(verify(&early), Err(AuditDenial::FromTheFuture { .. })));
        let stranger = cosign(note.as_bytes(), "x.example", &key(6), UnixSeconds(990)).unwrap();
        assert_eq!(verify(&stranger).unwrap().unknown_signatures(), 1);
        for at in note.len()..cosigned.len() {
            let mut bent = cosigned.clone().into_bytes();
            bent[at] ^= 1;
            let counted = VerifiedCheckpoint::verify(&bent, &log(1), std::slice::from_ref(&witness), NOW);
            assert!(counted.map_or(true, |v| v.cosigned().is_empty()), "byte {at}");
        }
    }
}
