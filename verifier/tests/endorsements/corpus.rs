//! Genuine files of both vendors.

use std::path::PathBuf;

use evidence::time::UnixSeconds;
use verifier::config::EndorsementsConfig;
use verifier::endorsements::key::{EndorsementKey, PckCa, SnpLine};
use verifier::endorsements::recognise::{Pile, Recognised, Sorted};
use verifier::endorsements::table::Source;
use verifier::endorsements::{At, Csp, SnpKey, SnpSigner, TdxKey};

use crate::store;

fn read(corpus: &std::path::Path) -> Vec<Recognised> {
    let mut pile = Pile::default();
    for folder in ["roots", "snp", "dcap"] {
        for file in std::fs::read_dir(corpus.join(folder)).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                pile.add(&path.display().to_string(), &std::fs::read(&path).unwrap());
            }
        }
    }
    let Sorted { found, skipped } = pile.sorted();
    assert!(skipped.iter().all(|skipped| !skipped.file.contains("amd-")), "{skipped:?}");
    found
}

#[tokio::test]
async fn genuine_certificates_and_collateral_are_told_and_linked() {
    let Some(corpus) = std::env::var_os("ATTEST_CORPUS").map(PathBuf::from) else {
        println!("skipped: ATTEST_CORPUS names no corpus of genuine evidence");
        return;
    };
    let found = read(&corpus);
    for line in SnpLine::ALL {
        for key in [EndorsementKey::Ask(line), EndorsementKey::Asvk(line), EndorsementKey::Ark(line)] {
            assert!(found.iter().any(|one| one.key == key), "{key}");
        }
    }
    let (endorsements, _open) = store(&EndorsementsConfig::default()).await;
    endorsements.put(found.clone(), Source::Directory, "").await.unwrap();
    let mut leaves = 0;
    for leaf in &found {
        let (line, tcb, signer) = if let EndorsementKey::Vcek { line, chip_id, tcb } = &leaf.key {
            (*line, *tcb, SnpSigner::Vcek { chip_id: *chip_id })
        } else if let EndorsementKey::Vlek { line, tcb, .. } = &leaf.key {
            (*line, *tcb, SnpSigner::Vlek { csp: Csp::Unknown })
        } else {
            continue;
        };
        let at = At::Then(UnixSeconds(leaf.window.issued_at + 1));
        let missing = endorsements.snp(&SnpKey { line, tcb, signer }, &[], at).await.unwrap_err().to_string();
        // all but the revocation list, which no file has, and what stands under another root
        let only_list = missing.starts_with(&format!("revocation list of ARK {line} is not stored;"));
        leaves += usize::from(only_list);
    }
    assert!(leaves >= 8, "only {leaves} chains stand");
    let tdx = async |fmspc, at: &str| {
        let at = humantime::parse_rfc3339(at).unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let key = TdxKey { fmspc, ca: PckCa::Platform };
        endorsements.tdx(key, &[], At::Then(UnixSeconds(at))).await
    };
    // three generations of collateral, each found in its time
    for (fmspc, at) in [
        ([0x90, 0xc0, 0x6f, 0, 0, 0], "2026-03-20T00:00:00Z"),
        ([0xb0, 0xc0, 0x6f, 0, 0, 0], "2025-06-25T00:00:00Z"),
        ([0xb0, 0xc0, 0x6f, 0, 0, 0], "2025-10-20T00:00:00Z"),
    ] {
        let found = tdx(fmspc, at).await.unwrap_or_else(|missing| panic!("{at}: {missing}"));
        assert!(found.all().iter().all(|one| one.provenance.source == Source::Directory));
    }
    let missing = tdx([0x90, 0xc0, 0x6f, 0, 0, 0], "2026-06-20T00:00:00Z").await.unwrap_err().to_string();
    assert!(missing.contains("2026-04-15T22:06:09Z, not at 2026-06-20T00:00:00Z"), "{missing}");
}
