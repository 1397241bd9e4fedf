//! Keys that one domain owns, and keys that no domain has.

use crate::bed::{A, B, Bed, C, DENIED, phases, refusals};

const SECRET: &[u8] = b"a secret of thirty-two bytes....";
/// Prints the SHA-256 of its key, from the descriptor that it inherited.
const SEES: &str = "sha256sum < /proc/self/fd/$ATTESTD_KEY_FD_LEDGER";

impl Bed {
    /// Splits the key `ledger` into a folder of this name; the share files.
    async fn split(&self, folder: &str, need: &str, of: &str) -> Vec<String> {
        let (secret, out) = (self.mesh.write(&format!("{folder}.secret"), SECRET).unwrap(), self.mesh.path(folder));
        std::fs::create_dir(&out).unwrap();
        let (secret, out) = (secret.display().to_string(), out.display().to_string());
        let split = ["keys", "split", "ledger", "--need", need, "--of", of, "--secret", &secret, "--out", &out];
        let made = self.explained(self.mesh.ask_nobody(&split, 0).await);
        made["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned()).collect()
    }

    async fn put(&self, domain: &str, share: &str) {
        self.explained(self.mesh.ask(domain, &["keys", "put", "ledger", "--share", share], 0).await);
    }

    /// What a workload that needs the key says, and why it was refused.
    async fn needing(&self, options: &[&str]) -> (String, Vec<String>, i32) {
        let all: Vec<&str> = [options, &["--key", "ledger", "--", "sh", "-c", SEES]].concat();
        let (seen, exit_code) = self.ended(self.exec(&all)).await;
        let printed = seen.iter().filter(|seen| seen.is("stdout")).map(|seen| seen.field("text")).collect();
        (printed, refusals(&seen).into_iter().map(str::to_owned).collect(), exit_code)
    }
}

fn expected() -> String {
    let digest = evidence::digest::Sha256Digest::of(SECRET).to_string();
    digest.rsplit(':').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_split_two_of_three_needs_two_domains_that_release_their_shares() {
    let mut bed = Bed::founded(6_000).await;
    let shares = bed.split("first", "2", "3").await;
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&shares[0]).unwrap().permissions().mode() & 0o777, 0o600);
    bed.put(A, &shares[0]).await;
    let listed = bed.mesh.ask(A, &["keys", "list"], 0).await.unwrap();
    assert!(listed.to_string().contains("split=2-of-3"), "{listed}");
    // One share is not enough, though all three domains authorize.
    let (printed, codes, exit_code) = bed.needing(&[]).await;
    assert_eq!((printed.as_str(), codes, exit_code), ("", vec!["governance.key_incomplete".to_owned()], DENIED));
    // Two are.
    bed.put(B, &shares[1]).await;
    let (printed, codes, _) = bed.needing(&[]).await;
    assert!(printed.contains(&expected()), "{printed} {codes:?}");
    // So are three, and two that are left when one is gone.
    bed.put(C, &shares[2]).await;
    let (printed, codes, _) = bed.needing(&[]).await;
    assert!(printed.contains(&expected()), "{printed} {codes:?}");
    bed.mesh.kill(A).await.unwrap();
    let (printed, codes, _) = bed.needing(&["--need", "2"]).await;
    assert!(printed.contains(&expected()), "{printed} {codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_that_do_not_belong_together_start_nothing_each_with_its_code() {
    let bed = Bed::founded(6_000).await;
    let (first, second) = (bed.split("first", "2", "3").await, bed.split("second", "2", "3").await);
    let denied = async |code: &str| {
        let (printed, codes, exit_code) = bed.needing(&[]).await;
        assert_eq!((printed.as_str(), codes, exit_code), ("", vec![code.to_owned()], DENIED));
    };
    bed.put(A, &first[0]).await;
    bed.put(B, &second[1]).await;
    denied("governance.key_mixed").await;
    bed.put(B, &first[0]).await;
    denied("governance.key_repeated").await;
    // A whole key beside a share, and two whole keys.
    bed.mesh.ask(B, &["keys", "put", "ledger"], 0).await.unwrap();
    denied("governance.key_mixed").await;
    bed.mesh.ask(A, &["keys", "put", "ledger"], 0).await.unwrap();
    denied("governance.key_repeated").await;
    // A share is of the key that it was made for, and of no other.
    let put = ["keys", "put", "other", "--share", &first[0]];
    let refused = bed.mesh.ask(C, &put, DENIED).await.unwrap();
    assert!(refused.to_string().contains("ledger"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_one_domain_owns_reaches_a_workload_that_all_of_them_authorize() {
    let bed = Bed::founded(6_000).await;
    let secret = bed.mesh.write("ledger.secret", SECRET).unwrap().display().to_string();
    bed.mesh.ask(C, &["keys", "put", "ledger", "--secret-file", &secret], 0).await.unwrap();
    let (printed, codes, _) = bed.needing(&[]).await;
    assert!(printed.contains(&expected()), "{printed} {codes:?}");
    // The owner is asked though the others would suffice: without it there is no key.
    let (printed, codes, _) = bed.needing(&["--need", "2"]).await;
    assert!(printed.contains(&expected()), "{printed} {codes:?}");
    let (printed, codes, exit_code) = bed.needing(&["--domain", A, "--domain", B]).await;
    assert_eq!((printed.as_str(), codes, exit_code), ("", vec!["governance.key_incomplete".to_owned()], DENIED));
    // What only one domain is asked for, it must have.
    let (seen, _) = bed.ended(bed.exec(&["--domain", A, "--key", "ledger", "--", "true"])).await;
    assert_eq!((phases(&seen, 5, None), refusals(&seen)), (0, vec!["fault.key_unavailable"]));
}
