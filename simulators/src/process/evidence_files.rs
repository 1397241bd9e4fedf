//! Files for a verifier's operator: roots and endorsements, and evidence.

use std::path::{Path, PathBuf};

use super::{Device, Machine, ProcessError, doing};
use crate::{SimulatorError, amd::EndorsementKey, x509::certificate_pem};

/// Writes what a verifier must know of the vendor and the machine. SNP: `ark`, `ask`, `asvk` and `vcek` or `vlek` in PEM,
/// the leaf also as DER, `crl.der`. TDX: `root.pem`, `pck-platform-ca.pem`, `tcb-signing.pem`, `pck-chain.pem`,
/// `collateral.json`, `root-ca.crl`, `pck.crl`, `ccel.bin`. Returns the files' paths.
pub fn write_roots(device: &Device, out: &Path) -> Result<Vec<PathBuf>, ProcessError> {
    let files = device.with_machine(|machine| -> Result<Vec<(String, Vec<u8>)>, ProcessError> {
        Ok(match machine {
            Machine::Snp { machine, vek } => {
                let authority = &machine.authority;
                let leaf = match machine.endorsement_key {
                    EndorsementKey::Vcek => "vcek",
                    EndorsementKey::Vlek { .. } => "vlek",
                };
                vec![
                    pem("ark.pem", &authority.ark),
                    pem("ask.pem", &authority.ask),
                    pem("asvk.pem", &authority.asvk),
                    (format!("{leaf}.pem"), certificate_pem(&vek.certificate).into_bytes()),
                    (format!("{leaf}.der"), vek.certificate.clone()),
                    ("crl.der".to_owned(), authority.crl.clone()),
                ]
            }
            Machine::Tdx { machine, pck } => {
                let authority = &machine.authority;
                let collateral = machine.collateral()?;
                let crl = |text: &str| hex::decode(text).map_err(|_| SimulatorError::Text("CRL"));
                vec![
                    pem("root.pem", &authority.root),
                    pem("pck-platform-ca.pem", &authority.platform_ca),
                    pem("tcb-signing.pem", &authority.tcb_signing),
                    ("pck-chain.pem".to_owned(), pck.pem.clone().into_bytes()),
                    ("collateral.json".to_owned(), collateral.to_json()?.into_bytes()),
                    ("root-ca.crl".to_owned(), crl(&collateral.root_ca_crl)?),
                    ("pck.crl".to_owned(), crl(&collateral.pck_crl)?),
                    ("ccel.bin".to_owned(), machine.event_log.encode()),
                ]
            }
        })
    })?;
    write_all(out, files)
}

/// Writes evidence over `report_data` (up to 64 bytes): SNP `report.bin` and `certificates.bin`, TDX `quote.bin` and
/// `ccel.bin`. Returns the files' paths.
pub fn write_evidence(device: &Device, report_data: &[u8], out: &Path) -> Result<Vec<PathBuf>, ProcessError> {
    let blobs = device.report(report_data, None).map_err(ProcessError::State)?;
    let log = device.with_machine(|machine| match machine {
        Machine::Snp { .. } => None,
        Machine::Tdx { machine, .. } => Some(machine.event_log.encode()),
    });
    let files = match log {
        None => vec![("report.bin".to_owned(), blobs.outblob), ("certificates.bin".to_owned(), blobs.auxblob)],
        Some(log) => vec![("quote.bin".to_owned(), blobs.outblob), ("ccel.bin".to_owned(), log)],
    };
    write_all(out, files)
}

fn pem(name: &str, der: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), certificate_pem(der).into_bytes())
}

fn write_all(out: &Path, files: Vec<(String, Vec<u8>)>) -> Result<Vec<PathBuf>, ProcessError> {
    std::fs::create_dir_all(out).map_err(doing("making", out))?;
    let mut written = Vec::new();
    for (name, bytes) in files {
        let path = out.join(name);
        std::fs::write(&path, bytes).map_err(doing("writing", &path))?;
        written.push(path);
    }
    Ok(written)
}
