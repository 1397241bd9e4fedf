//! The PyPI package `spiffe`, unmodified, as a workload: the Python process is what runs under the lease.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::Bed;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spiffe/client.py");
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spiffe/client.txt");
const ID: &str = "spiffe://a.example/node/node-1/workload/billing";

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// A folder with the package and what it needs, by digest; nothing when the registry gives nothing of it at all.
fn packages(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let environment = folder.join("python");
    let made = run(Path::new("python3"), &["-m", "venv", &environment.display().to_string()]);
    assert!(made.status.success(), "python3 -m venv: {}", String::from_utf8_lossy(&made.stderr));
    let python = environment.join("bin/python");
    let packages = folder.join("packages");
    let target = packages.display().to_string();
    let options = ["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--retries", "1"];
    let digests = ["--timeout", "20", "--require-hashes", "--target", &target, "-r", PACKAGES];
    let installed = run(&python, &[&options[..], &digests].concat());
    if installed.status.success() {
        return Some((python, packages));
    }
    // Whoever is reached names the versions that there are; a wrong digest or a missing wheel is a failure of this test.
    let said = String::from_utf8_lossy(&installed.stderr);
    assert!(said.contains("(from versions: none)"), "pip install: {said}");
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pypi_package_gets_svids_and_bundles_of_both_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let Some((python, packages)) = packages(folder.path()) else {
        println!("PyPI cannot be reached: its package spiffe was not tried");
        return;
    };
    let bed = Bed::founded(30_000).await;
    let said = bed.mesh.folder("said").unwrap();
    let [python, packages, left] = [&python, &packages, &said].map(|path| path.display().to_string());
    let arguments = ["--label", "workload=billing", "--", &python, SCRIPT, &packages, &left];
    let mut execution = bed.mesh.exec("node-1", &arguments).unwrap();
    let mut output = String::new();
    let exit = execution.until(
        |seen| seen.is("exit"),
        |seen| {
            output.push_str(&seen.told());
            Ok(())
        },
    );
    bed.explained(exit.await);
    let told = std::fs::read(said.join("python")).unwrap_or_else(|error| panic!("{error}: {output}"));
    let told: Value = serde_json::from_slice(&told).unwrap();
    let domains = json!(["a.example", "b.example"]);
    for (what, wanted) in [
        ("x509", json!(ID)),
        ("x509_bundles", domains.clone()),
        ("jwt", json!(ID)),
        ("jwt_bundles", domains),
        ("validated", json!(ID)),
        ("verified", json!(ID)),
    ] {
        assert_eq!(told[what], wanted, "{what}");
    }
    for what in ["other_audience", "long_audience"] {
        assert!(told[what].as_str().unwrap().contains("INVALID_ARGUMENT"), "{what}: {}", told[what]);
    }
}
