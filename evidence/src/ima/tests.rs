//! E8, one defect at a time: lists as a kernel writes them, one thing changed, exactly one denial.

use std::borrow::Cow;

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use proptest::prelude::*;

use super::{entry::FileDigest, *};
use crate::denial::EvidenceDenialKind as Kind;

fn entry<'a>(template: Template, file: &'a [u8], path: &'a [u8], extra: &[u8]) -> ImaEntry<'a> {
    let (prefix, alg) = match template {
        Template::Ima => ("", HashAlg::Sha1),
        Template::ImaNg | Template::ImaSig | Template::ImaBuf => ("sha256", HashAlg::Sha256),
        Template::ImaNgV2 | Template::ImaSigV2 => ("verity:sha256", HashAlg::Sha256),
    };
    let digest = Cow::Owned(alg.hash(&[file]).as_bytes().to_vec());
    let digest = FileDigest::new(template, prefix, digest).unwrap();
    let template_hash = Digest::zero(HashAlg::Sha1);
    let extra = Cow::Owned(extra.to_vec());
    let mut entry = ImaEntry { index: 0, pcr: 10, template_hash, template, digest, path, extra };
    entry.template_hash = entry.template_data_hash(HashAlg::Sha1);
    entry
}

fn genuine() -> Vec<ImaEntry<'static>> {
    vec![
        entry(Template::ImaSig, b"registers", b"boot_aggregate", b""),
        entry(Template::ImaNg, b"init", b"/usr/lib/systemd/systemd", b""),
        entry(Template::Ima, b"old", b"/bin/old kernel", b""),
        entry(Template::ImaSig, b"signed", b"/bin/signed", &[3, 2, 4, 1, 2, 3, 4, 0, 1, 9]),
        entry(Template::ImaBuf, b"key", b".ima", b"a certificate"),
        entry(Template::ImaNgV2, b"verity", b"/bin/verity", b""),
        entry(Template::ImaSigV2, b"verity2", b"/bin/verity two", &[6, 3]),
        entry(Template::ImaSig, b"space", b"/a path/with spaces beef", b""),
        entry(Template::ImaSig, b"space", b"/a path/with spaces", b"\xbe\xef"),
    ]
}

/// ima_ascii_measurements_show.
fn ascii(entries: &[ImaEntry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let digits = hex::encode(&entry.digest.bytes);
        let colon = if entry.template == Template::Ima { "" } else { ":" };
        let (hash, name) = (entry.template_hash.hex(), entry.template.name());
        let head = format!("{:2} {hash} {name} {}{colon}{digits} ", entry.pcr, entry.digest.prefix);
        out.extend(head.as_bytes());
        out.extend(entry.path);
        if entry.template.has_extra() {
            out.push(b' ');
            out.extend(hex::encode(&entry.extra).as_bytes());
        }
        out.push(b'\n');
    }
    out
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
}

/// ima_measurements_show.
fn binary(entries: &[ImaEntry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend(entry.pcr.to_le_bytes());
        out.extend(entry.template_hash.as_bytes());
        out.extend(sized(entry.template.name().as_bytes()));
        if entry.template == Template::Ima {
            out.extend(&*entry.digest.bytes);
            out.extend(sized(entry.path));
            continue;
        }
        let digest = [entry.digest.prefix.as_bytes(), b":\0", &entry.digest.bytes].concat();
        let mut data = [sized(&digest), sized(&[entry.path, b"\0"].concat())].concat();
        if entry.template.has_extra() {
            data.extend(sized(&entry.extra));
        }
        out.extend(sized(&data));
    }
    out
}

fn judge(bytes: &[u8]) -> Result<(), EvidenceDenial> {
    let log = ImaLog::parse(bytes)?;
    log.verify_entries()?;
    log.verify_order()
}

#[track_caller]
fn denied(bytes: &[u8], kind: Kind) {
    let denial = judge(bytes).expect_err("one defect");
    assert_eq!(Kind::from(&denial), kind, "{denial}");
}

#[track_caller]
fn defect(kind: Kind, change: impl Fn(&mut Vec<ImaEntry<'_>>)) {
    for form in [ascii, binary] {
        let mut entries = genuine();
        change(&mut entries);
        denied(&form(&entries), kind);
    }
}

#[track_caller]
fn line_defect(kind: Kind, from: &str, to: &str) {
    let text = String::from_utf8(ascii(&genuine())).unwrap();
    assert!(text.contains(from), "{from}");
    denied(text.replacen(from, to, 1).as_bytes(), kind);
}

#[test]
fn both_forms_of_a_genuine_list_read_as_the_same_entries() {
    let mut expected = genuine();
    for (index, entry) in expected.iter_mut().enumerate() {
        entry.index = index;
    }
    for form in [ascii, binary] {
        let bytes = form(&expected);
        judge(&bytes).unwrap();
        assert_eq!(ImaLog::parse(&bytes).unwrap().entries(), expected);
    }
    let log = ascii(&expected);
    let log = ImaLog::parse(&log).unwrap();
    assert_eq!(log.entries()[3].signature().map(<[u8]>::len), Some(10));
    assert_eq!(log.entries()[4].signature(), None);
    assert!(log.entries()[0].is_boot_aggregate());
    assert_eq!(log.entries()[5].file_digest().split_once(':').unwrap().0, "verity");
}

#[test]
fn lists_of_other_banks_carry_longer_template_hashes() {
    for alg in [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512] {
        let mut entries = genuine();
        for entry in &mut entries {
            entry.template_hash = entry.template_data_hash(alg);
        }
        for form in [ascii, binary] {
            let bytes = form(&entries);
            judge(&bytes).unwrap();
            let log = ImaLog::parse(&bytes).unwrap();
            assert_eq!(log.entries()[0].template_hash().alg(), alg);
            assert_eq!(
                log.replay(alg, ImaBankForm::Rehashed),
                ImaLog::parse(&ascii(&genuine())).unwrap().replay(alg, ImaBankForm::Rehashed)
            );
        }
    }
}

#[test]
fn e8_caps_and_grammar() {
    denied(&[], Kind::Malformed);
    denied(b"\n", Kind::Malformed);
    denied(&vec![b'1'; IMA_CAP_BYTES + 1], Kind::TooLarge);
    let line = ascii(&genuine()[1..2]);
    assert!(line.repeat(IMA_CAP_BYTES / line.len()).len() > 1 << 20);
    line_defect(Kind::Malformed, "10 ", "x0 ");
    line_defect(Kind::Malformed, "10 ", "+10 ");
    line_defect(Kind::Malformed, "10 ", "4294967306 ");
    line_defect(Kind::Malformed, " ima-sig ", " ima-gis ");
    line_defect(Kind::Malformed, " sha256:", " sha257:");
    line_defect(Kind::Malformed, " sha256:", " sha1:");
    line_defect(Kind::Malformed, " sha256:", " :");
    line_defect(Kind::Malformed, " sha256:", " ima:sha256:");
    line_defect(Kind::Malformed, " verity:sha256:", " sha256:");
    line_defect(Kind::Malformed, " verity:sha256:", " other:sha256:");
    line_defect(Kind::Malformed, "\n10 ", "\n\n10 ");
    line_defect(Kind::Malformed, "\n10 ", "\nI am no entry\n10 ");
    line_defect(Kind::Malformed, "boot_aggregate ", "\0");
    for (index, text) in ["sha256:", "10 "].into_iter().enumerate() {
        // Digests in upper case are not what a kernel prints.
        let list = String::from_utf8(ascii(&genuine())).unwrap();
        let at = list.find(text).unwrap() + text.len();
        let upper = list[..at].to_owned() + &list[at..at + 40].to_uppercase() + &list[at + 40..];
        assert_ne!(upper, list, "{index}");
        denied(upper.as_bytes(), Kind::Malformed);
    }
}

#[test]
fn e8_lengths_in_binary_lists_that_lie_are_malformed() {
    let bytes = binary(&genuine()[..1]);
    for offset in [24, 35, 39, 39 + 4 + 8 + 32] {
        for value in [0u32, 1, 255, 0x7fff_ffff, u32::MAX] {
            let mut changed = bytes.clone();
            changed[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
            denied(&changed, Kind::Malformed);
        }
    }
    denied(&[bytes.clone(), vec![0]].concat(), Kind::Malformed);
    for cut in 0..bytes.len() {
        denied(&bytes[..cut], Kind::Malformed);
    }
}

#[test]
fn e8_every_cut_of_a_list_is_a_shorter_list_or_malformed() {
    for form in [ascii, binary] {
        let bytes = form(&genuine());
        let whole = ImaLog::parse(&bytes).unwrap();
        for cut in 0..bytes.len() {
            if let Ok(log) = ImaLog::parse(&bytes[..cut]) {
                assert_eq!(whole.entries()[..log.entries().len()], *log.entries(), "cut at {cut}");
            }
        }
    }
}

#[test]
fn e8_template_data_is_what_was_hashed() {
    let hashed = |change: &dyn Fn(&mut ImaEntry<'_>)| {
        for index in 0..genuine().len() {
            defect(Kind::ImaTemplateMismatch, |entries| change(&mut entries[index]));
        }
    };
    hashed(&|entry| entry.digest.bytes.to_mut()[0] ^= 1);
    hashed(&|entry| entry.path = b"/another/path");
    hashed(&|entry| entry.template_hash = HashAlg::Sha1.hash(&[b"x"]));
    for index in [3, 4, 6, 8] {
        defect(Kind::ImaTemplateMismatch, |entries| entries[index].extra.to_mut()[0] ^= 1);
        defect(Kind::ImaTemplateMismatch, |entries| entries[index].extra.to_mut().push(0));
    }
    defect(Kind::ImaTemplateMismatch, |entries| entries[1].template = Template::ImaSig);
}

#[test]
fn e8_violations_are_denied_and_extend_all_ones() {
    for index in 0..genuine().len() {
        defect(Kind::ImaViolation, |entries| entries[index].template_hash = Digest::zero(HashAlg::Sha1));
    }
    let mut entries = genuine();
    entries.truncate(1);
    entries[0].template_hash = Digest::zero(HashAlg::Sha1);
    let bytes = ascii(&entries);
    let value = ImaLog::parse(&bytes).unwrap().replay(HashAlg::Sha256, ImaBankForm::Rehashed);
    assert_eq!(value, Digest::zero(HashAlg::Sha256).extend(&[0xff; 32]));
}

#[test]
fn e8_entries_of_other_registers_are_denied() {
    for pcr in [0, 9, 11, 23, u32::MAX] {
        let mut entries = genuine();
        entries[1].pcr = pcr;
        denied(&ascii(&entries), Kind::ImaRegister);
    }
    for pcr in [0, 9, 11, 23] {
        let mut entries = genuine();
        entries[1].pcr = pcr;
        denied(&binary(&entries), Kind::ImaRegister);
    }
}

#[test]
fn e8_no_kernel_writes_an_entry_twice_or_boot_aggregate_late() {
    defect(Kind::ImaOrder, |entries| entries.swap(0, 1));
    defect(Kind::ImaOrder, |entries| entries.push(entries[1].clone()));
    defect(Kind::ImaOrder, |entries| entries.insert(0, entries[5].clone()));
    // After kexec the new kernel's boot_aggregate follows the list carried over.
    let mut entries = genuine();
    entries.push(entry(Template::ImaSig, b"registers now", b"boot_aggregate", b""));
    judge(&ascii(&entries)).unwrap();
    // A file that changed is measured again.
    entries.push(entry(Template::ImaNg, b"init changed", b"/usr/lib/systemd/systemd", b""));
    judge(&ascii(&entries)).unwrap();
}

#[test]
fn e8_pcr_10_covers_a_prefix_and_nothing_after_it() {
    let bytes = ascii(&genuine());
    let log = ImaLog::parse(&bytes).unwrap();
    for (alg, form) in [
        (HashAlg::Sha1, ImaBankForm::Rehashed),
        (HashAlg::Sha256, ImaBankForm::Rehashed),
        (HashAlg::Sha256, ImaBankForm::ZeroPadded),
        (HashAlg::Sha384, ImaBankForm::Rehashed),
        (HashAlg::Sha384, ImaBankForm::ZeroPadded),
    ] {
        let mut value = Digest::zero(alg);
        assert_eq!(log.match_prefix(&value).unwrap().covered, 0);
        for (count, entry) in genuine().iter().enumerate() {
            value = entry.extend(&value, form);
            assert_eq!(log.match_prefix(&value).unwrap(), ImaPrefix { covered: count + 1, form });
            // One entry of the covered ones missing, changed or elsewhere leads nowhere.
            for other in 0..=count {
                let mut entries = genuine();
                entries.remove(other);
                if !entries.is_empty() {
                    let bytes = ascii(&entries);
                    let denial = ImaLog::parse(&bytes).unwrap().match_prefix(&value).unwrap_err();
                    assert_eq!(Kind::from(&denial), Kind::ImaReplayMismatch);
                }
            }
        }
    }
}

#[test]
fn e8_boot_aggregate_is_of_the_boot_registers() {
    let registers = |alg: HashAlg| -> Vec<(u8, Digest)> { (0..24).map(|pcr| (pcr, alg.hash(&[&[pcr]]))).collect() };
    let list = |alg: HashAlg, last: usize| {
        let of = registers(alg);
        let values: Vec<&[u8]> = of[..=last].iter().map(|(_, value)| value.as_bytes()).collect();
        let mut first = entry(Template::ImaSig, b"", b"boot_aggregate", b"");
        first.digest = FileDigest {
            prefix: if alg == HashAlg::Sha1 { "sha1" } else { "sha256" },
            bytes: Cow::Owned(alg.hash(&values).as_bytes().to_vec()),
        };
        ascii(&[first])
    };
    let check = |bytes: &[u8], registers: &[(u8, Digest)]| {
        ImaLog::parse(bytes).unwrap().verify_boot_aggregate(registers).map_err(|denial| Kind::from(&denial))
    };
    check(&list(HashAlg::Sha256, 9), &registers(HashAlg::Sha256)).unwrap();
    check(&list(HashAlg::Sha256, 7), &registers(HashAlg::Sha256)).unwrap();
    check(&list(HashAlg::Sha1, 7), &registers(HashAlg::Sha1)).unwrap();
    // SHA-1 is over PCR 0-7 alone, and one bank says nothing of another.
    assert_eq!(check(&list(HashAlg::Sha1, 9), &registers(HashAlg::Sha1)), Err(Kind::ImaBootAggregate));
    assert_eq!(check(&list(HashAlg::Sha1, 7), &registers(HashAlg::Sha256)), Err(Kind::ImaBootAggregate));
    assert_eq!(check(&list(HashAlg::Sha256, 8), &registers(HashAlg::Sha256)), Err(Kind::ImaBootAggregate));
    for pcr in 0..10 {
        let mut changed = registers(HashAlg::Sha256);
        changed[pcr].1 = HashAlg::Sha256.hash(&[b"other"]);
        assert_eq!(check(&list(HashAlg::Sha256, 9), &changed), Err(Kind::ImaBootAggregate));
    }
    let few: Vec<_> = registers(HashAlg::Sha256).into_iter().skip(1).collect();
    assert_eq!(check(&list(HashAlg::Sha256, 9), &few), Err(Kind::Missing));
    assert_eq!(check(&ascii(&genuine()[1..]), &registers(HashAlg::Sha256)), Err(Kind::Missing));
}

/// A key and security.ima of `file` by it: what evmctl writes.
fn signed(file: &[u8]) -> (ImaKey, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let key = ImaKey::from_spki_der(pair.public_key().as_der().unwrap().as_ref()).unwrap();
    let signature = pair.sign(&SystemRandom::new(), file).unwrap();
    let size = (signature.as_ref().len() as u16).to_be_bytes();
    let keyid = hex::decode(key.keyid()).unwrap();
    (key, [&[3, 2, 4][..], &keyid, &size, signature.as_ref()].concat())
}

#[test]
fn e8_file_signatures_verify_under_the_key_that_they_name() {
    let (key, signature) = signed(b"file");
    let (other, _) = signed(b"file");
    let verify = |extra: &[u8], keys: &[ImaKey]| {
        let bytes = ascii(&[entry(Template::ImaSig, b"file", b"/bin/file", extra)]);
        let log = ImaLog::parse(&bytes).unwrap();
        log.verify_entries().unwrap();
        log.verify_signatures(keys).map_err(|denial| Kind::from(&denial))
    };
    assert_eq!(verify(&signature, &[other.clone(), key.clone()]), Ok(1));
    assert_eq!(verify(b"", std::slice::from_ref(&key)), Ok(0));
    assert_eq!(verify(&signature, &[other]), Err(Kind::ImaSignature));
    assert_eq!(verify(&signature, &[]), Err(Kind::ImaSignature));
    for at in 0..signature.len() {
        let mut flipped = signature.clone();
        flipped[at] ^= 1;
        assert_eq!(verify(&flipped, std::slice::from_ref(&key)), Err(Kind::ImaSignature), "byte {at}");
        assert_eq!(verify(&signature[..at.max(1)], std::slice::from_ref(&key)), Err(Kind::ImaSignature));
    }
    let bytes = ascii(&[entry(Template::ImaSig, b"another", b"/bin/file", &signature)]);
    assert!(ImaLog::parse(&bytes).unwrap().verify_signatures(std::slice::from_ref(&key)).is_err());
    assert!(ImaKey::from_spki_der(b"not a key").is_err());
}

#[test]
fn paths_are_printed_escaped() {
    let bytes = ascii(&[entry(Template::ImaNg, b"x", b"/tmp/\x1b]0;owned\x07\xff\\", b"")]);
    let log = ImaLog::parse(&bytes).unwrap();
    assert_eq!(log.entries()[0].path_escaped(), r"/tmp/\x1b]0;owned\x07\xff\\");
}

fn all_checks(bytes: &[u8]) {
    let Ok(log) = ImaLog::parse(bytes) else { return };
    let _ = (log.verify_entries(), log.verify_order(), log.verify_signatures(&[]));
    let _ = log.match_prefix(&HashAlg::Sha256.hash(&[b"x"]));
    let _ = log.verify_boot_aggregate(&[(0, Digest::zero(HashAlg::Sha256))]);
    for entry in log.entries() {
        let _ = (entry.path_escaped(), entry.file_digest(), entry.known_file_digest());
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        all_checks(&bytes);
        all_checks(&[&[10, 0, 0, 0][..], &bytes].concat());
        all_checks(&[ascii(&genuine()), bytes.clone()].concat());
        all_checks(&[binary(&genuine()), bytes].concat());
    }

    #[test]
    fn several_changes_at_once_never_panic_and_never_pass(changes in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..6)) {
        for form in [ascii, binary] {
            let mut bytes = form(&genuine());
            let original = bytes.clone();
            for (index, xor) in &changes {
                let at = index.index(bytes.len());
                bytes[at] ^= xor;
            }
            all_checks(&bytes);
            if bytes != original {
                prop_assert!(judge(&bytes).is_err());
            }
        }
    }
}
