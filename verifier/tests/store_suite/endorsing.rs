//! Vendors' endorsements: rows by parsed key, history bounded, rows never believed.

use verifier::endorsements::document::{Document, SignedText};
use verifier::endorsements::key::EndorsementKey;
use verifier::endorsements::recognise::Recognised;
use verifier::endorsements::table::{self, Place, Provenance, Source};
use verifier::store::StoreError;

use crate::bed::Bed;

fn tcb_info(fmspc: &str, issued_day: u8) -> Recognised {
    let text = format!(
        r#"{{"id":"TDX","issueDate":"2026-03-{issued_day:02}T00:00:00Z","nextUpdate":"2026-04-15T00:00:00Z","fmspc":"{fmspc}"}}"#
    );
    let document = Document::Signed(SignedText { text, signature: [1; 64], chain: vec![vec![0x30, 0]] });
    Recognised::from_document(&document.to_bytes().unwrap()).unwrap()
}

async fn put(opened: &verifier::log::Opened, endorsement: &Recognised, obtained_at: u64) {
    let endorsement = endorsement.clone();
    let provenance = Provenance { source: Source::Directory, origin: String::new(), obtained_at };
    let putting =
        opened.store.write(move |tx| Box::pin(async move { table::put(tx, &endorsement, &provenance, 3).await }));
    putting.await.map(|_| ()).unwrap_or_else(|error: StoreError| panic!("{error}"));
}

pub(crate) async fn endorsements_are_found_by_key_newest_first_and_their_history_is_bounded(bed: &Bed) {
    let opened = bed.open().await;
    let key = EndorsementKey::TcbInfo { fmspc: [1; 6] };
    for day in [4, 2, 5, 1, 3] {
        put(&opened, &tcb_info("010101010101", day), u64::from(day)).await;
    }
    put(&opened, &tcb_info("020202020202", 9), 1).await;
    let found = table::find(&opened.store, &key).await.unwrap();
    let kept: Vec<_> = found.iter().map(|stored| stored.endorsement.clone()).collect();
    assert_eq!(kept, [5, 4, 3].map(|day| tcb_info("010101010101", day)));
    // the same again: one row, obtained anew
    put(&opened, &tcb_info("010101010101", 4), 77).await;
    let found = table::find(&opened.store, &key).await.unwrap();
    assert_eq!(found.iter().map(|stored| stored.provenance.obtained_at).collect::<Vec<_>>(), [5, 77, 3]);
    let digest = tcb_info("010101010101", 4).digest;
    let removing = opened.store.write(move |tx| Box::pin(async move { table::remove(tx, &digest).await }));
    removing.await.unwrap();
    assert_eq!(table::find(&opened.store, &key).await.unwrap().len(), 2);
    assert!(table::find(&opened.store, &EndorsementKey::QeIdentity).await.unwrap().is_empty());
}

pub(crate) async fn a_changed_endorsement_row_is_as_good_as_absent(bed: &Bed) {
    let opened = bed.open().await;
    for (fmspc, day) in [("010101010101", 1), ("020202020202", 2)] {
        put(&opened, &tcb_info(fmspc, day), 1).await;
    }
    // the document of another key under this one, its digest too
    bed.tamper("UPDATE endorsements SET fields = (SELECT fields FROM endorsements ORDER BY fields DESC LIMIT 1)").await;
    let [one, two] = [[1; 6], [2; 6]].map(|fmspc| EndorsementKey::TcbInfo { fmspc });
    assert!(table::find(&opened.store, &one).await.unwrap().is_empty());
    assert_eq!(table::find(&opened.store, &two).await.unwrap().len(), 1);
    bed.tamper("UPDATE endorsements SET document = digest").await;
    assert!(table::find(&opened.store, &two).await.unwrap().is_empty());
}

pub(crate) async fn all_endorsements_are_paged_through_once(bed: &Bed) {
    let opened = bed.open().await;
    for n in 0..7_u8 {
        put(&opened, &tcb_info(&hex::encode([n; 6]), 1), 1).await;
    }
    for (rows, cap_bytes) in [(3, usize::MAX), (100, 1), (100, usize::MAX)] {
        let (mut seen, mut place) = (Vec::new(), Place::default());
        loop {
            let page = table::page(&opened.store, &place, rows, cap_bytes).await.unwrap();
            seen.extend(page.rows.into_iter().map(|stored| stored.endorsement.key));
            let Some(next) = page.next else { break };
            place = next;
        }
        let all: Vec<_> = (0..7_u8).map(|n| EndorsementKey::TcbInfo { fmspc: [n; 6] }).collect();
        assert_eq!(seen, all);
    }
}
