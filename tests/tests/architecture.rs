//! The arrows of ARCHITECTURE.md: which crate must not reach which.

use std::{collections::BTreeSet, process::Command};

/// Every crate that `package` links, itself included: normal and build dependencies of the shipped artifact.
fn reached(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let names: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    assert!(names.contains(package), "{package} is in its own tree");
    names
}

fn assert_absent(package: &str, forbidden: &[&str]) {
    let names = reached(package);
    for name in forbidden {
        assert!(!names.contains(*name), "{package} must not reach {name}");
    }
}

/// Crates without IO: they may not even be able to reach a runtime, a socket library or a database.
const PURE: [&str; 5] = ["evidence", "firmware-refs", "governance", "policy", "audit"];

#[test]
fn pure_crates_reach_no_runtime_network_or_database() {
    for package in PURE {
        assert_absent(
            package,
            &["tokio", "tonic", "sqlx", "sqlx-core", "axum", "hyper", "reqwest", "rustls", "rustix"],
        );
    }
}

#[test]
fn a_node_cannot_appraise_itself() {
    assert_absent("attestd", &["policy", "firmware-refs", "cedar-policy", "verifier", "sqlx"]);
}

#[test]
fn only_tests_reach_the_simulators_and_these_reach_none_of_ours() {
    for package in PURE.into_iter().chain(["wire", "verifier", "attestd"]) {
        assert_absent(package, &["simulators", "fuser"]);
    }
    let ours: Vec<&str> = PURE.into_iter().chain(["wire", "verifier", "attestd", "models", "tests"]).collect();
    assert_absent("simulators", &ours);
}

#[test]
fn the_verifier_links_no_libtss2_and_no_simulator() {
    assert_absent("verifier", &["tss-esapi", "tss-esapi-sys", "simulators", "attestd", "models", "tests"]);
}

#[test]
fn nothing_depends_on_a_shell_and_arrows_go_up() {
    for package in PURE.into_iter().chain(["wire"]) {
        assert_absent(package, &["verifier", "attestd", "models", "tests"]);
    }
    assert_absent("evidence", &["firmware-refs", "governance", "policy", "audit", "wire"]);
    assert_absent("governance", &["firmware-refs", "policy", "audit", "wire"]);
    assert_absent("firmware-refs", &["governance", "policy", "audit", "wire"]);
    assert_absent("audit", &["governance", "firmware-refs", "policy", "wire"]);
}
