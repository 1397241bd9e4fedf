//! Predicted PCRs against what others calculate or measured: `systemd-measure`, `osslsigncode`, and the event logs of
//! the corpus. Where one is not there, says so in one line.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use evidence::{
    digest::HashAlg,
    event_log::{CcEventLog, Event, EventLog, EventType},
};
use firmware_refs::compute::{
    tdx::{SeparatorIn, from_cc_log, rtmr1},
    tpm::{PHASES, PeImage, SecureBoot, SecureBootVariables, SignatureDatabase, Uki, from_event_log, pcr7},
};
use tests::pe_image::EfiImage;

const SYSTEMD_MEASURE: &str = "/usr/lib/systemd/systemd-measure";

#[test]
fn pcr11_is_the_one_of_systemd_measure() {
    let Ok(version) = Command::new(SYSTEMD_MEASURE).arg("--version").output() else {
        println!("skipped: systemd-measure is not installed");
        return;
    };
    let version = String::from_utf8(version.stdout).unwrap();
    let version = version.split_whitespace().nth(1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kernel = EfiImage::new(&[(".text", &[7; 5000])]).build();
    let all: [(&str, &[u8]); 7] = [
        (".linux", &kernel),
        (".osrel", b"ID=debian\n"),
        (".cmdline", b"root=/dev/vda quiet"),
        (".initrd", &[8; 70_001]),
        (".splash", b"BM"),
        (".dtb", b"tree"),
        (".pcrpkey", b"a key"),
    ];
    let mut compared = 0;
    for count in 1..=all.len() {
        // in another order than the stub's
        let sections: Vec<_> = all[..count].iter().rev().copied().collect();
        let image = EfiImage::unified(version, &sections).build();
        let uki = Uki::parse(&image).unwrap();
        for alg in [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512] {
            let theirs = systemd_measure(folder.path(), &sections, alg);
            for phases in 0..=PHASES.len() {
                let phases = &PHASES[..phases];
                let ours = uki.pcr11(alg, phases).value.hex();
                assert_eq!(Some(&ours), theirs.get(&phases.join(":")), "{alg} {count} {phases:?}");
                compared += 1;
            }
        }
    }
    println!("equal: {compared} values of PCR 11, systemd-measure {version}");
}

/// PCR 11 by path of phases.
fn systemd_measure(folder: &Path, sections: &[(&str, &[u8])], alg: HashAlg) -> BTreeMap<String, String> {
    let mut command = Command::new(SYSTEMD_MEASURE);
    command.args(["calculate", "--json=short", &format!("--bank={alg}"), "--phase=:"]);
    for count in 1..=PHASES.len() {
        command.arg(format!("--phase={}", PHASES[..count].join(":")));
    }
    for (name, contents) in sections {
        let path = folder.join(&name[1..]);
        fs::write(&path, contents).unwrap();
        command.arg(format!("--{}={}", &name[1..], path.display()));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = document[alg.name()].as_array().unwrap();
    let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(row, "phase").trim_matches(':').to_owned(), text(row, "hash"))).collect()
}

/// Images that Debian's packages install where they do, and one made and signed here.
#[test]
fn authenticode_hashes_are_those_of_osslsigncode() {
    if Command::new("osslsigncode").arg("--version").output().is_err() {
        println!("skipped: osslsigncode is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made.efi");
    let image = EfiImage::new(&[(".text", &[7; 5000]), (".data", b"data")]);
    fs::write(&made, image.build()).unwrap();
    let signed = sign(folder.path(), &made);
    let bare = authenticode(&made);
    assert_eq!((authenticode(&signed), osslsigncode(&signed)), (bare.clone(), Some(bare)));
    let folders = ["/usr/lib/systemd/boot/efi", "/boot", "/usr/lib/shim"].map(Path::new);
    let installed = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let mut compared = 1;
    for path in installed.map(|entry| entry.unwrap().path()) {
        let is_image = fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"MZ"));
        let theirs = is_image.then(|| osslsigncode(&path)).flatten();
        if let Some(theirs) = theirs {
            assert_eq!(authenticode(&path), theirs, "{path:?}");
            compared += 1;
        }
    }
    println!("equal: Authenticode hashes of {compared} images");
}

fn authenticode(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    PeImage::parse(&bytes).unwrap().authenticode(HashAlg::Sha256).unwrap().hex()
}

/// The hash that it calculates of a signed image.
fn osslsigncode(path: &Path) -> Option<String> {
    let output = Command::new("osslsigncode").arg("verify").arg("-in").arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, rest) = text.split_once("Calculated message digest : ")?;
    Some(rest.split_whitespace().next()?.to_lowercase())
}

fn sign(folder: &Path, image: &Path) -> PathBuf {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["signer".into()]).unwrap().self_signed(&key).unwrap();
    let [key_file, certificate_file, signed] =
        ["key.pem", "certificate.pem", "signed.efi"].map(|name| folder.join(name));
    fs::write(&key_file, key.serialize_pem()).unwrap();
    fs::write(&certificate_file, certificate.pem()).unwrap();
    let output = Command::new("osslsigncode")
        .args(["sign", "-h", "sha256", "-certs"])
        .arg(&certificate_file)
        .arg("-key")
        .arg(&key_file)
        .arg("-in")
        .arg(image)
        .arg("-out")
        .arg(&signed)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    signed
}

fn corpus() -> Option<PathBuf> {
    let folder = std::env::var_os("ATTEST_CORPUS").map(|folder| PathBuf::from(folder).join("eventlog"));
    if folder.is_none() {
        println!("skipped: ATTEST_CORPUS is not set");
    }
    folder
}

/// Name and data of UEFI_VARIABLE_DATA.
fn variable<'a>(event: &Event<'a>) -> Option<(String, &'a [u8])> {
    let data = event.data();
    let number = |at: usize| usize::try_from(u64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?)).ok();
    let name = data.get(32..32 + 2 * number(16)?)?;
    let units: Vec<u16> = name.chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    let rest = &data[32 + name.len()..];
    Some((String::from_utf16(&units).ok()?, rest.get(..number(24)?)?))
}

/// From the variables in a machine's log, the events that it had.
#[test]
fn pcr7_is_the_one_that_machines_measured() {
    let Some(folder) = corpus() else { return };
    let (mut whole, mut beginnings) = (0, 0);
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let bytes = if path.is_file() { fs::read(&path).unwrap() } else { continue };
        let Ok(log) = EventLog::parse(&bytes) else { continue };
        let alg = HashAlg::Sha256;
        if !log.has_bank(alg) {
            continue;
        }
        let events: Vec<_> = log.measured(7, alg).collect();
        let configured: BTreeMap<String, &[u8]> = events
            .iter()
            .filter(|(event, _)| event.kind() == EventType::EfiVariableDriverConfig)
            .filter_map(|(event, _)| variable(event))
            .collect();
        let names: Vec<_> = configured.keys().map(String::as_str).collect();
        if names != ["KEK", "PK", "SecureBoot", "db", "dbx"] {
            continue;
        }
        let database = |name| SignatureDatabase::parse(configured[name]).unwrap();
        let state = match configured["SecureBoot"] {
            [1] => SecureBoot::On,
            [0] => SecureBoot::Off,
            _ => SecureBoot::Absent,
        };
        let variables =
            SecureBootVariables { pk: database("PK"), kek: database("KEK"), db: database("db"), dbx: database("dbx") };
        let of_db = |name: &str, event: &Event<'_>| event.kind() == EventType::EfiVariableAuthority && name == "db";
        let authorities: Vec<&[u8]> = events
            .iter()
            .filter_map(|(event, _)| variable(event).filter(|(name, _)| of_db(name, event)))
            .filter_map(|(_, data)| data.get(16..))
            .collect();
        // a loader may use the name for a certificate of its own
        let ours = pcr7(alg, state, &variables, &authorities).or_else(|_| pcr7(alg, state, &variables, &[])).unwrap();
        let measured: Vec<_> = events.iter().map(|(_, digest)| *digest).collect();
        let predicted: Vec<_> = ours.events.iter().map(|event| event.digest).collect();
        if predicted.len() == measured.len() {
            assert_eq!(Some(ours.value), log.replay(alg).unwrap().value(7), "{path:?}");
            whole += 1;
        } else {
            // so do measurements of shim's, after these
            assert!(measured.starts_with(&predicted[..6]), "{path:?}");
            beginnings += 1;
        }
    }
    assert!(whole >= 1 && whole + beginnings >= 3, "{whole} {beginnings}");
    println!("equal: PCR 7 of {whole} logs, and its variables of {beginnings} more");
}

#[test]
fn registers_of_a_log_are_those_that_it_leads_to() {
    let Some(folder) = corpus() else { return };
    let bytes = fs::read(folder.join("CCEL_data_ovmf.bin")).unwrap();
    let log = CcEventLog::parse(&bytes).unwrap();
    let replayed = log.replay().unwrap();
    let values = from_cc_log(&bytes).unwrap();
    assert_eq!(values.iter().map(|value| value.value).collect::<Vec<_>>(), replayed);
    // a kernel that QEMU handed to the firmware: RTMR 1 follows from its hash
    let kernel = log.measured(1).find(|(event, _)| event.kind() == EventType::EfiBootServicesApplication).unwrap().1;
    assert_eq!(rtmr1(kernel, SeparatorIn::Rtmr0).value, replayed[1]);
    let bytes = fs::read(folder.join("arch-linux-workstation.bin")).unwrap();
    let log = EventLog::parse(&bytes).unwrap();
    for value in from_event_log(&bytes, HashAlg::Sha256).unwrap() {
        let evidence::register::Register::Pcr(pcr) = value.register.into() else { panic!("a PCR") };
        assert_eq!(log.replay(HashAlg::Sha256).unwrap().value(pcr), Some(value.value));
        assert!(pcr <= 7);
    }
    assert!(from_event_log(&bytes[..bytes.len() - 1], HashAlg::Sha256).is_err());
}
