//! What a PCK certificate says of its platform.

use der::oid::ObjectIdentifier;

use super::{
    IntelAuthority, PckCa,
    authority::{DAY, YEAR},
};
use crate::{asn1, x509::Extension};

/// Fields of a PCK certificate.
#[derive(Clone, Debug)]
pub struct PckFields {
    /// The CA that issues it.
    pub ca: PckCa,
    /// Serial number, 20 bytes big-endian.
    pub serial: Vec<u8>,
    /// notBefore, Unix seconds.
    pub not_before: u64,
    /// notAfter, Unix seconds.
    pub not_after: u64,
    /// Platform Provisioning ID.
    pub ppid: [u8; 16],
    /// SGX TCB component SVNs; CPUSVN is written from them.
    pub components: [u8; 16],
    /// PCE's SVN.
    pub pcesvn: u16,
    /// PCE's identity.
    pub pceid: [u8; 2],
    /// Family-Model-Stepping-Platform-CustomSKU.
    pub fmspc: [u8; 6],
    /// 0 standard, 1 scalable, 2 scalable with integrity.
    pub sgx_type: u8,
    /// Platform CA only: instance and configuration.
    pub configuration: Option<PlatformConfiguration>,
}

/// The last two fields of a Platform CA's PCK.
#[derive(Clone, Copy, Debug)]
pub struct PlatformConfiguration {
    /// Platform instance id.
    pub instance_id: [u8; 16],
    /// Packages may be added later.
    pub dynamic_platform: bool,
    /// Keys are cached by the registration authority.
    pub cached_keys: bool,
    /// Simultaneous multithreading.
    pub smt_enabled: bool,
}

impl PckFields {
    /// A TDX platform at its up-to-date level; the certificate is three months old and good for seven years.
    pub fn new(authority: &IntelAuthority) -> Self {
        let not_before = authority.now.saturating_sub(90 * DAY);
        Self {
            ca: PckCa::Platform,
            serial: [&[0x28], [0x14; 19].as_slice()].concat(),
            not_before,
            not_after: not_before.saturating_add(7 * YEAR),
            ppid: [0x27; 16],
            components: [4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
            pcesvn: 13,
            pceid: [0, 0],
            fmspc: [0x90, 0xc0, 0x6f, 0, 0, 0],
            sgx_type: 1,
            configuration: Some(PlatformConfiguration {
                instance_id: [0x05; 16],
                dynamic_platform: true,
                cached_keys: true,
                smt_enabled: true,
            }),
        }
    }

    /// The SGX extensions (PCK certificate profile 1.5, 1.3.5).
    pub fn sgx_extensions(&self) -> Extension {
        let mut levels: Vec<Vec<u8>> =
            (1_u8..).zip(self.components).map(|(index, svn)| pair(&[2, index], asn1::small(u64::from(svn)))).collect();
        levels.push(pair(&[2, 17], asn1::small(u64::from(self.pcesvn))));
        levels.push(pair(&[2, 18], asn1::octets(&self.components)));
        let mut parts = vec![
            pair(&[1], asn1::octets(&self.ppid)),
            pair(&[2], asn1::sequence(&levels)),
            pair(&[3], asn1::octets(&self.pceid)),
            pair(&[4], asn1::octets(&self.fmspc)),
            pair(&[5], asn1::tlv(0x0a, &[self.sgx_type])),
        ];
        if let Some(configuration) = self.configuration {
            parts.push(pair(&[6], asn1::octets(&configuration.instance_id)));
            let flags = [configuration.dynamic_platform, configuration.cached_keys, configuration.smt_enabled];
            let flags: Vec<Vec<u8>> =
                (1_u8..).zip(flags).map(|(index, flag)| pair(&[7, index], asn1::boolean(flag))).collect();
            parts.push(pair(&[7], asn1::sequence(&flags)));
        }
        Extension { oid: SGX_EXTENSIONS, critical: false, value: asn1::sequence(&parts) }
    }
}

/// SEQUENCE of the object identifier SGX_EXTENSIONS.`arcs` and a value.
fn pair(arcs: &[u8], value: Vec<u8>) -> Vec<u8> {
    let identifier = [SGX_EXTENSIONS.as_bytes(), arcs].concat();
    asn1::sequence(&[asn1::tlv(0x06, &identifier), value])
}

/// The extension that holds them all.
pub const SGX_EXTENSIONS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");
