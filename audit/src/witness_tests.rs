use super::*;
use crate::{
    checkpoint::cosign,
    note::NoteKeyKind,
    tlog::{CompactRange, NodeId, ProofPlan, leaf_hash},
};
use std::collections::HashMap;

const NOW: UnixSeconds = UnixSeconds(1_000);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn log() -> LogIdentity {
    LogIdentity::new("a.example/log", [key(1).public()]).unwrap()
}

/// A log whose entries are numbers, written by `hand`.
struct Grown {
    nodes: HashMap<NodeId, TreeHash>,
    roots: Vec<TreeHash>,
}

impl Grown {
    fn of(hand: u8, size: u64) -> Self {
        let (mut range, mut nodes, mut roots) = (CompactRange::empty(), HashMap::new(), vec![empty_root()]);
        for entry in 0..size {
            nodes.extend(range.append(leaf_hash(&[&[hand], &entry.to_be_bytes()[..]].concat())).unwrap());
            roots.push(range.root());
        }
        Self { nodes, roots }
    }

    fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint { origin: "a.example/log".into(), size, root: self.roots[size as usize] }
    }

    fn request(&self, old: u64, size: u64) -> AddCheckpoint {
        let proof = if old == 0 || old >= size {
            Vec::new()
        } else {
            ProofPlan::consistency(old, size).unwrap().build(&self.nodes).unwrap()
        };
        AddCheckpoint { old, proof, note: self.checkpoint(size).sign(&key(1)).unwrap() }
    }
}

/// The request of the specification's example, whose log keys are not published.
const EXAMPLE: &str = "old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\njrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";

#[test]
fn the_request_of_the_specification_is_read_and_written_back() {
    let request = AddCheckpoint::parse(EXAMPLE.as_bytes()).unwrap();
    assert_eq!((request.old, request.proof.len()), (20_852_014, 4));
    assert_eq!(request.claimed().unwrap().size, 20_852_163);
    assert_eq!(request.encode(), EXAMPLE);
    let known = log();
    assert_eq!(request.signed_by(&known), Err(WitnessRefusal::UnknownLog));
    let theirs = LogIdentity::new("example.com/behind-the-sofa", known.keys().iter().map(NoteKey::key)).unwrap();
    assert_eq!(request.signed_by(&theirs).unwrap_err().code(), "witness.not_signed");
}

#[test]
fn other_bodies_are_not_requests() {
    let grown = Grown::of(0, 5);
    let good = grown.request(3, 5).encode();
    AddCheckpoint::parse(good.as_bytes()).unwrap();
    let line = format!("{}\n", STANDARD.encode([7; 32]));
    let note = &grown.request(0, 5).note;
    for bad in [
        String::new(),
        "old 0\n".to_owned(),
        good.replacen("old 3", "old 03", 1),
        good.replacen("old 3", "old +3", 1),
        good.replacen("old 3", "old -1", 1),
        good.replacen("old 3", "old  3", 1),
        good.replacen("old 3", "Old 3", 1),
        good.replacen("old 3", "old 99999999999999999999", 1),
        good.replacen("old 3\n", "old 3\r\n", 1),
        good.replacen("old 3\n", "", 1),
        format!("old 3\n{}\n\n{note}", STANDARD.encode([7; 31])),
        format!("old 3\n{}\n{note}", line.repeat(64)),
        format!("old 3\n{line}{note}").replacen("\n\n", "\n", 1),
        "old 3\n".repeat(REQUEST_CAP_BYTES),
    ] {
        assert_eq!(AddCheckpoint::parse(bad.as_bytes()).unwrap_err().status(), 400, "{bad:.60?}");
    }
    assert!(AddCheckpoint::parse(b"old 0\n\n\xff").is_err());
    let most = format!("old 3\n{}\n{note}", line.repeat(63));
    assert_eq!(AddCheckpoint::parse(most.as_bytes()).unwrap().proof.len(), PROOF_CAP_LINES);
    let no_note = AddCheckpoint::parse(b"old 0\n\nnot a note").unwrap();
    assert_eq!(no_note.claimed().unwrap_err().status(), 400);
}

#[test]
fn a_log_is_followed_from_any_size_to_any_larger_one() {
    let grown = Grown::of(0, 20);
    for new in 0..=20 {
        let shown = grown.request(0, new).signed_by(&log()).unwrap();
        judge(&grown.request(0, new), &shown, None).unwrap();
        for old in 1..=new {
            judge(&grown.request(old, new), &shown, Some(&grown.checkpoint(old))).unwrap();
        }
    }
}

#[test]
fn what_does_not_continue_the_held_checkpoint_is_refused_with_its_status() {
    let (grown, forked) = (Grown::of(0, 20), Grown::of(1, 20));
    let held = grown.checkpoint(7);
    let refused = |request: &AddCheckpoint, held: Option<&Checkpoint>| {
        let shown = request.signed_by(&log()).unwrap();
        let refusal = judge(request, &shown, held).unwrap_err();
        (refusal.status(), refusal.code(), refusal.held())
    };
    assert_eq!(refused(&grown.request(9, 8), Some(&held)), (400, "witness.old_size_beyond", None));
    for old in [0, 3, 8] {
        let conflict = (409, "witness.size_conflict", Some(7));
        assert_eq!(refused(&grown.request(old, 9), Some(&held)), conflict);
    }
    assert_eq!(refused(&grown.request(3, 9), None), (409, "witness.size_conflict", Some(0)));
    // Smaller than what is held: the log, or who speaks for it, went back.
    assert_eq!(refused(&grown.request(3, 5), Some(&held)), (409, "witness.size_conflict", Some(7)));
    for old in [0, 7] {
        assert_eq!(refused(&forked.request(old, 7), Some(&held)), (409, "witness.log_forked", Some(7)));
    }
    assert_eq!(refused(&forked.request(7, 9), Some(&held)), (422, "witness.proof_wrong", None));
    let mut longer = grown.request(7, 7);
    longer.proof.push(empty_root());
    assert_eq!(refused(&longer, Some(&held)), (422, "witness.proof_wrong", None));
    let mut first = grown.request(0, 9);
    first.proof.push(empty_root());
    assert_eq!(refused(&first, None), (422, "witness.proof_wrong", None));
    let other_empty = Checkpoint { root: leaf_hash(b"x"), ..grown.checkpoint(0) };
    let request = AddCheckpoint { old: 0, proof: Vec::new(), note: other_empty.sign(&key(1)).unwrap() };
    assert_eq!(refused(&request, None), (422, "witness.proof_wrong", None));
}

#[test]
fn a_checkpoint_by_another_key_is_not_the_logs() {
    let note = Grown::of(0, 5).checkpoint(5).sign(&key(2)).unwrap();
    let refusal = AddCheckpoint { old: 0, proof: Vec::new(), note }.signed_by(&log()).unwrap_err();
    assert_eq!((refusal.status(), refusal.code()), (403, "witness.not_signed"));
}

#[test]
fn an_answer_is_taken_from_the_witness_alone_and_counts_towards_the_quorum() {
    let note = Grown::of(0, 5).checkpoint(5).sign(&key(1)).unwrap();
    let witness = NoteKey::new("w.example/witness", NoteKeyKind::Cosignature, key(5).public()).unwrap();
    let keys = std::slice::from_ref(&witness);
    let line = answer(&note, "w.example/witness", &key(5), UnixSeconds(990)).unwrap();
    let stranger = answer(&note, "x.example/witness", &key(6), UnixSeconds(990)).unwrap();
    let taken = read_answer(&note, format!("{stranger}{line}").as_bytes(), keys, NOW).unwrap();
    let cosigned = with_cosignatures(&note, &[taken]).unwrap();
    assert_eq!(cosigned, cosign(note.as_bytes(), "w.example/witness", &key(5), UnixSeconds(990)).unwrap());
    VerifiedCheckpoint::verify(cosigned.as_bytes(), &log(), keys, NOW).unwrap().quorum(1).unwrap();

    let code = |body: &[u8]| read_answer(&note, body, keys, NOW).unwrap_err().code();
    assert_eq!(code(stranger.as_bytes()), "audit.quorum_not_met");
    let impostor = answer(&note, "w.example/witness", &key(6), UnixSeconds(990)).unwrap();
    assert_eq!(code(impostor.as_bytes()), "audit.quorum_not_met", "another key has another id");
    let early = answer(&note, "w.example/witness", &key(5), UnixSeconds(2_000)).unwrap();
    assert_eq!(code(early.as_bytes()), "audit.from_the_future");
    let other = Grown::of(1, 5).checkpoint(5).sign(&key(1)).unwrap();
    let other = answer(&other, "w.example/witness", &key(5), UnixSeconds(990)).unwrap();
    assert_eq!(code(other.as_bytes()), "audit.note_signature");
    for malformed in [&b""[..], b"\n", b"nothing\n", &vec![b'a'; ANSWER_CAP_BYTES + 1]] {
        assert_eq!(code(malformed), "audit.note_malformed");
    }
}
