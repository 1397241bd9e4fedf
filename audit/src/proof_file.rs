//! C2SP `tlog-proof@v1`: a receipt as text, without its entry, for tools that are not ours.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    denial::AuditDenial,
    note::NOTE_CAP_BYTES,
    receipt::Receipt,
    tlog::{PROOF_CAP_HASHES, TREE_CAP_LEAVES, TreeHash},
};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// Longest file, in bytes.
pub const PROOF_FILE_CAP_BYTES: usize = NOTE_CAP_BYTES + 64 * PROOF_CAP_HASHES;

/// Writes the proof of a receipt.
#[must_use]
pub fn write(receipt: &Receipt) -> String {
    let mut text = format!("{FIRST_LINE}\nindex {}\n", receipt.index);
    for hash in &receipt.proof {
        text.push_str(&STANDARD.encode(hash.0));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&receipt.checkpoint);
    text
}

/// Reads a proof of `entry` as the receipt that it is; nothing in it is verified. Extra data is refused: nobody vouches
/// for it, and ours carry none.
///
/// # Errors
/// [`AuditDenial::ReceiptMalformed`] for anything but the spelling of [`write`].
pub fn read(text: &str, entry: Vec<u8>) -> Result<Receipt, AuditDenial> {
    let malformed = |what: &str| AuditDenial::ReceiptMalformed { cause: format!("tlog-proof: {what}") };
    if text.len() > PROOF_FILE_CAP_BYTES {
        return Err(malformed("too long"));
    }
    let (head, checkpoint) = text.split_once("\n\n").ok_or_else(|| malformed("no empty line"))?;
    let mut lines = head.split('\n');
    if lines.next() != Some(FIRST_LINE) {
        return Err(malformed("first line"));
    }
    let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(|index| index.parse().ok());
    let index = index.filter(|index| *index < TREE_CAP_LEAVES).ok_or_else(|| malformed("index"))?;
    let mut proof = Vec::new();
    for line in lines {
        let hash = STANDARD.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        proof.push(TreeHash(hash.ok_or_else(|| malformed("hash"))?));
        if proof.len() > PROOF_CAP_HASHES {
            return Err(malformed("too many hashes"));
        }
    }
    let receipt = Receipt::new(entry, index, proof, checkpoint.to_owned());
    if write(&receipt) == text { Ok(receipt) } else { Err(malformed("spelling")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{NOW, World, log_identity};

    #[test]
    fn a_proof_file_is_a_receipt_without_its_entry() {
        let world = World::told();
        for index in 0..11 {
            let receipt = world.receipt(index);
            let text = write(&receipt);
            assert_eq!(read(&text, receipt.entry.to_vec()).unwrap(), receipt);
            let bytes = receipt.encode().unwrap();
            Receipt::verify(&bytes, &log_identity(), &[], 0, NOW).unwrap();
        }
        let one = World::briefly_told();
        let (text, entry) = (write(&one.receipt(2)), one.entries[2].clone());
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 2\n"));
        for bent in [
            text.replacen("@v1", "@v2", 1),
            text.replacen("index 2", "index 02", 1),
            text.replacen("index 2", "extra AAAA\nindex 2", 1),
            text.replacen("\n\n", "\n", 1),
            text.replacen("\n\n", "\nAAAA\n\n", 1),
            format!("{FIRST_LINE}\nindex 2\n{}\nnote\n", "A".repeat(PROOF_FILE_CAP_BYTES)),
        ] {
            assert!(matches!(read(&bent, entry.clone()), Err(AuditDenial::ReceiptMalformed { .. })), "{bent}");
        }
    }
}
