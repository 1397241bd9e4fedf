//! What may befall a network, a clock or a verifier, whenever it does: nothing is usable that is not on the record, and what
//! was not due to be halted goes on by itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::Connection as _;

use crate::bed::{A, B, Bed, C, DENIED, DOMAINS, NODE, UNJUDGED, phases, refusals};
use crate::proxy::{From, Network};

/// By then all is well again, without an operator.
const HEALED_WITHIN: Duration = Duration::from_secs(10);
const SECRET: &[u8] = b"a secret of thirty-two bytes....";
/// Says that it has its key, for as long as it runs.
const KEYED: [&str; 7] = ["--domain", A, "--key", "ledger", "--", "sh", "-c"];
const SEES: &str = "sha256sum < /proc/self/fd/$ATTESTD_KEY_FD_LEDGER; sleep 600";
const ENDS: &str = "sha256sum < /proc/self/fd/$ATTESTD_KEY_FD_LEDGER";

/// How far an authorization was when its verifier was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    /// Nothing was asked yet.
    Greeted,
    /// The challenge is on its way.
    Challenged,
    /// The evidence was handed in; nothing is committed.
    Attested,
    /// It is committed; the answer does not arrive.
    Committed,
}

impl Bed {
    async fn killed(&mut self, at: usize) {
        let killed = self.mesh.kill(DOMAINS[at]).await;
        self.explained(killed);
    }

    /// A domain's tables, behind its verifier's back.
    async fn tables(&self, at: usize) -> sqlx::AnyConnection {
        sqlx::any::install_default_drivers();
        let store = format!("sqlite://{}/verifier.db", self.mesh.path(DOMAINS[at]).display());
        sqlx::AnyConnection::connect(&store).await.unwrap()
    }

    /// How often a key was released, as the log has it.
    async fn releases(&self) -> usize {
        self.records(A, NODE).await.iter().filter(|kind| *kind == "release").count()
    }

    /// Asks for an execution with a key and kills the home domain's verifier at this step.
    async fn killed_while_authorizing(&mut self, step: Killed) {
        let asks = [&KEYED[..], &[SEES]].concat();
        if step == Killed::Greeted {
            self.killed(0).await;
            return self.came_to_nothing(self.exec(&asks), step).await;
        }
        self.proxies[0].be(Network::Deaf);
        let execution = self.exec(&asks);
        self.proxies[0].until_held(From::Verifier).await;
        if step == Killed::Challenged {
            self.killed(0).await;
            // The node answers a challenge that nobody knows any more.
            self.proxies[0].be(Network::Whole);
            return self.came_to_nothing(execution, step).await;
        }
        self.proxies[0].be(Network::Mute);
        self.proxies[0].until_held(From::Node).await;
        if step == Killed::Attested {
            // Whatever it makes of the evidence, it cannot commit.
            let mut writer = self.tables(0).await;
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut writer).await.unwrap();
            self.proxies[0].be(Network::Whole);
            self.killed(0).await;
            writer.close().await.unwrap();
        } else {
            self.proxies[0].be(Network::Deaf);
            self.proxies[0].until_held(From::Verifier).await;
            self.killed(0).await;
            self.proxies[0].be(Network::Refusing);
        }
        self.came_to_nothing(execution, step).await;
    }

    async fn came_to_nothing(&self, execution: attestd::demo::Watched, step: Killed) {
        let (seen, exit_code) = self.ended(execution).await;
        assert_eq!((phases(&seen, 5, None), exit_code), (0, UNJUDGED), "{step:?}: {:?}", refusals(&seen));
        assert_eq!(refusals(&seen), ["fault.verifier_unreachable"], "{step:?}");
        assert!(!seen.iter().any(|seen| seen.is("stdout")), "{step:?}");
    }

    /// Looks until an execution begins and ends as it should, by itself; how long that took.
    async fn until_runs(&self, arguments: &[&str]) -> Duration {
        let begun = Instant::now();
        loop {
            let (seen, exit_code) = self.ended(self.exec(arguments)).await;
            if (phases(&seen, 5, None), exit_code) == (1, 0) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < HEALED_WITHIN, "{:?}", refusals(&seen));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_killed_at_any_step_of_an_authorization_leaves_no_key_that_is_not_on_the_record() {
    let mut bed = Bed::founded(9_000).await;
    let secret = bed.mesh.write("ledger.secret", SECRET).unwrap().display().to_string();
    bed.mesh.ask(A, &["keys", "put", "ledger", "--secret-file", &secret], 0).await.unwrap();
    for step in [Killed::Greeted, Killed::Challenged, Killed::Attested, Killed::Committed] {
        let before = bed.releases().await;
        bed.killed_while_authorizing(step).await;
        bed.back(0).await;
        bed.proxies[0].be(Network::Whole);
        // What nobody received is on the record all the same, if it was on its way.
        let released = bed.releases().await - before;
        assert_eq!(released, usize::from(step == Killed::Committed), "{step:?}");
        let took = bed.until_runs(&[&KEYED[..], &[ENDS]].concat()).await;
        assert!(took < HEALED_WITHIN, "{step:?}: {took:?}");
        assert_eq!(bed.status().await["halt"], serde_json::Value::Null, "{step:?}");
    }
    // The answer has arrived: what it began goes on under its lease, and is renewed by who comes back.
    let before = bed.releases().await;
    let mut execution = bed.exec(&[&KEYED[..], &[SEES]].concat());
    bed.told(&mut execution, |seen| seen.is("stdout")).await;
    bed.killed(0).await;
    bed.back(0).await;
    assert_eq!(bed.releases().await, before + 1);
    let seen = bed.told(&mut execution, |seen| seen.phase() == Some(6)).await;
    assert_eq!(phases(&seen, 6, Some(A)), 1, "{:?}", refusals(&seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_whole_again_is_noticed_by_all_without_an_operator() {
    let bed = Bed::federated(3_000, 4).await;
    let all = || bed.proxies.iter().chain(&bed.surfaces);
    for network in [Network::Refusing, Network::Silent, Network::Deaf] {
        all().for_each(|proxy| proxy.be(network));
        for (domain, partner) in [(A, B), (B, C), (C, A)] {
            bed.until_stands(domain, partner, "stale").await;
        }
        let (seen, exit_code) = bed.ended(bed.exec(&["--", "true"])).await;
        assert_eq!((phases(&seen, 5, None), exit_code), (0, UNJUDGED), "{network:?}: {:?}", refusals(&seen));
        all().for_each(|proxy| proxy.be(Network::Whole));
        let took = bed.until_runs(&["--", "true"]).await;
        assert!(took < HEALED_WITHIN, "{network:?}: {took:?}");
    }
}

/// Sets the clock of whoever it is loaded into.
fn clock_library() -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/lib").ok()?.flatten();
    found.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}

/// Starts a domain's verifier again with a clock that a file sets; the file.
async fn clocked(bed: &mut Bed, at: usize, library: &Path) -> PathBuf {
    let stopped = bed.mesh.stop(DOMAINS[at]).await;
    bed.explained(stopped);
    let clock = bed.mesh.write("clock", b"+0s").unwrap();
    let (library, file) = (library.display().to_string(), clock.display().to_string());
    let environment = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let served = bed.mesh.serve_under(DOMAINS[at], &environment).await;
    bed.explained(served);
    bed.behind_proxies(at);
    clock
}

/// A domain whose verifier has its clock off by so much authorizes nothing, and the others go on without it.
async fn skewed(by: &str, code: &str) -> Option<(Bed, PathBuf)> {
    let Some(library) = clock_library() else {
        println!("not tried: libfaketime is not installed (Debian: faketime)");
        return None;
    };
    let mut bed = Bed::founded(4_000).await;
    let clock = clocked(&mut bed, 1, &library).await;
    let alone = ["--domain", B, "--", "true"];
    bed.until_runs(&alone).await;
    bed.until_runs(&["--", "true"]).await;
    let mut running = bed.exec(&["--need", "2", "--", "sleep", "600"]);
    bed.told(&mut running, |seen| seen.phase() == Some(5)).await;
    std::fs::write(&clock, by).unwrap();
    let (seen, exit_code) = bed.ended(bed.exec(&alone)).await;
    assert!(phases(&seen, 3, None) + phases(&seen, 5, None) == 0 && exit_code != 0, "{exit_code}");
    assert!(refusals(&seen).contains(&code), "{:?}", refusals(&seen));
    let (seen, exit_code) = bed.ended(bed.exec(&["--", "true"])).await;
    assert!(phases(&seen, 5, None) == 0 && exit_code != 0, "{exit_code}");
    // What two of the three suffice for goes on, and so may another.
    bed.told(&mut running, |seen| seen.phase() == Some(6) && seen.fact("domain") == A).await;
    bed.told(&mut running, |seen| seen.phase() == Some(6) && seen.fact("domain") == C).await;
    bed.until_runs(&["--domain", A, "--domain", C, "--", "true"]).await;
    let status = bed.status().await;
    assert!(status["halt"].is_null(), "{status}");
    Some((bed, clock))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_a_month_ahead_authorizes_nothing_and_holds_up_nobody_else() {
    let Some((bed, clock)) = skewed("+30d", "fault.trust_unavailable").await else { return };
    // What it has seen of that time it does not unsee: somebody has to look.
    std::fs::write(&clock, "+0s").unwrap();
    let (seen, exit_code) = bed.ended(bed.exec(&["--domain", B, "--", "true"])).await;
    assert_eq!((phases(&seen, 5, None), exit_code), (0, UNJUDGED), "{:?}", refusals(&seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_a_month_behind_authorizes_nothing_until_its_clock_is_right() {
    let Some((bed, clock)) = skewed("-30d", "fault.clock_went_back").await else { return };
    std::fs::write(&clock, "+0s").unwrap();
    let took = bed.until_runs(&["--", "true"]).await;
    assert!(took < HEALED_WITHIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_whose_memory_went_back_does_not_start_and_vouches_for_nobody() {
    let mut bed = Bed::federated(4_000, 4).await;
    bed.until_runs(&["--", "true"]).await;
    let stopped = bed.mesh.stop(C).await;
    bed.explained(stopped);
    let mut tables = bed.tables(2).await;
    sqlx::raw_sql("DELETE FROM witnessed").execute(&mut tables).await.unwrap();
    tables.close().await.unwrap();
    // It would cosign a second history of anybody's.
    let refused = bed.mesh.serve(C).await;
    assert!(refused.is_err(), "a witness without memory serves");
    let log = std::fs::read_to_string(bed.mesh.path(&format!("{C}.log"))).unwrap();
    assert!(log.contains("witnessed size of") && log.contains("fault.start"), "{log}");
    bed.until_stands(A, C, "stale").await;
    let (seen, exit_code) = bed.ended(bed.exec(&["--", "true"])).await;
    assert_eq!((phases(&seen, 5, None), exit_code), (0, DENIED), "{:?}", refusals(&seen));
    assert!(refusals(&seen).contains(&"governance.partner_stale"), "{:?}", refusals(&seen));
    // The others vouch for each other.
    bed.until_runs(&["--domain", A, "--domain", B, "--", "true"]).await;
}
