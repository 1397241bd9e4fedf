//! The PCK certificate chain of a quote: what says on which platform, with which security versions, the quoting
//! enclave ran (Intel SGX PCK Certificate and CRL specification §1.3).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use der::{
    Decode as _, Reader as _, SliceReader, Tag,
    asn1::{ObjectIdentifier, OctetStringRef},
};

use super::{
    chain::{self, Signatures, Window},
    pem,
    quote::Quote,
    roots::{RootAnchor, TdxRoots},
    verified_collateral::VerifiedCollateral,
};
use crate::{
    EvidenceDenial,
    digest::Sha256Digest,
    time::UnixSeconds,
    x509::{Certificate, SubjectKey},
};

/// What Intel certified of a platform: SGX Extensions, 1.2.840.113741.1.13.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PckExtensions {
    /// `.1`: the platform's provisioning id.
    pub ppid: [u8; 16],
    /// `.2.1` to `.2.16`: security versions of the TCB's components.
    pub tcb_components: [u8; 16],
    /// `.2.17`: security version of the provisioning certification enclave.
    pub pce_svn: u16,
    /// `.2.18`: the components as the processor states them.
    pub cpu_svn: [u8; 16],
    /// `.3`.
    pub pce_id: [u8; 2],
    /// `.4`: family, model, stepping, platform type and custom SKU.
    pub fmspc: [u8; 6],
}

/// A PCK chain verified to a pinned root. Kept by [`VerifiedPck::digest`]; judged again by
/// [`VerifiedPck::current`].
#[derive(Debug)]
pub struct VerifiedPck {
    /// The chain as it stood in the quote.
    chain: Box<[u8]>,
    digest: Sha256Digest,
    key: ParsedPublicKey,
    extensions: PckExtensions,
    anchor: RootAnchor,
    window: Window,
    /// SHA-256 of every certificate and key.
    digests: Vec<Sha256Digest>,
    /// Issuer's Name, as it stands.
    pub(super) issuer: Vec<u8>,
    /// Of the PCK certificate, without leading zeros.
    pub(super) serial: Vec<u8>,
    /// SHA-256 of the PCK certificate.
    pub(super) certificate: Sha256Digest,
    /// Of the intermediate: serial without leading zeros, and SHA-256.
    pub(super) intermediate: (Vec<u8>, Sha256Digest),
}

impl VerifiedPck {
    /// X2 but for revocation: PCK certificate, intermediate and pinned root, in this order, in PEM.
    ///
    /// # Errors
    /// [`EvidenceDenial`] for the first certificate that does not fit its place.
    pub fn verify(pem_chain: &[u8], roots: &TdxRoots<'_>, now: UnixSeconds) -> Result<Self, EvidenceDenial> {
        Self::verify_with(pem_chain, Signatures::default(), roots, now)
    }

    /// The same beside collateral that was verified, in whose chains the authorities' certificates mostly stand too:
    /// their signatures are not verified again.
    ///
    /// # Errors
    /// As [`VerifiedPck::verify`].
    pub fn verify_beside(
        collateral: &VerifiedCollateral,
        pem_chain: &[u8],
        roots: &TdxRoots<'_>,
        now: UnixSeconds,
    ) -> Result<Self, EvidenceDenial> {
        Self::verify_with(pem_chain, collateral.signatures().clone(), roots, now)
    }

    fn verify_with(
        pem_chain: &[u8],
        mut signatures: Signatures,
        roots: &TdxRoots<'_>,
        now: UnixSeconds,
    ) -> Result<Self, EvidenceDenial> {
        let [leaf, intermediate, root] = pem::read_chain(pem_chain)?;
        let leaf = Certificate::read(&leaf)?;
        let intermediate = Certificate::read(&intermediate)?;
        let root = Certificate::read(&root)?;
        let certificates = [(&leaf, chain::PCK), (&intermediate, chain::PCK_CA), (&root, chain::ROOT_CA)];
        let verified = chain::verify(&certificates, false, &mut signatures, roots, now)?;
        Ok(Self {
            chain: pem_chain.into(),
            digest: Sha256Digest::of(pem_chain),
            key: p256_key(&leaf)?,
            extensions: PckExtensions::read(&leaf)?,
            anchor: verified.anchor,
            window: verified.window,
            digests: verified.digests,
            issuer: leaf.issuer.to_vec(),
            serial: leaf.serial_digits().to_vec(),
            certificate: leaf.digest(),
            intermediate: (intermediate.serial_digits().to_vec(), intermediate.digest()),
        })
    }

    /// Whether it still holds: all certificates valid at `now`, the root still pinned in `roots`, nothing of it taken
    /// back.
    ///
    /// # Errors
    /// [`EvidenceDenial::CertificateValidity`], [`EvidenceDenial::ChainUnanchored`] or [`EvidenceDenial::Revoked`].
    pub fn current(&self, roots: &TdxRoots<'_>, now: UnixSeconds) -> Result<(), EvidenceDenial> {
        if !self.window.contains(now) {
            let (not_before, not_after) = (self.window.from, self.window.until);
            return Err(EvidenceDenial::CertificateValidity { position: 0, not_before, not_after, now });
        }
        let unanchored = EvidenceDenial::ChainUnanchored { position: 2, sha256: self.anchor.certificate };
        roots.hold(&self.anchor).ok_or(unanchored)?;
        self.digests.iter().try_for_each(|digest| roots.refuse_revoked(*digest))
    }

    /// Whether its root is pinned as a simulated one only; `None` when it is not pinned.
    #[must_use]
    pub fn is_simulated(&self, roots: &TdxRoots<'_>) -> Option<bool> {
        roots.hold(&self.anchor)
    }

    /// Whether `quote` carries this very chain.
    #[must_use]
    pub fn is_of(&self, quote: &Quote<'_>) -> bool {
        *self.chain == *quote.pck_chain
    }

    /// SHA-256 of the chain as it stood in the quote.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// Common name of the authority that issued the PCK certificate.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when its issuer's Name does not read, which it did when the chain was verified.
    pub fn authority(&self) -> Result<String, EvidenceDenial> {
        chain::common_name(&self.issuer).map(str::to_owned)
    }

    /// What Intel certified of the platform.
    #[must_use]
    pub const fn extensions(&self) -> &PckExtensions {
        &self.extensions
    }

    pub(super) const fn anchor(&self) -> &RootAnchor {
        &self.anchor
    }

    pub(super) fn verify_signature(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

/// The key of a certificate, for signatures of r and s in 32 bytes each.
pub(super) fn p256_key(certificate: &Certificate<'_>) -> Result<ParsedPublicKey, EvidenceDenial> {
    let unusable = EvidenceDenial::KeyUnusable { what: "not a point on P-256" };
    match certificate.subject_key()? {
        SubjectKey::Ecc { curve: crate::x509::CURVE_P256, point } => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| unusable)
        }
        SubjectKey::Ecc { .. } | SubjectKey::Rsa { .. } => Err(unusable),
    }
}

impl PckExtensions {
    fn read(certificate: &Certificate<'_>) -> Result<Self, EvidenceDenial> {
        let found = certificate.extensions.vendor(SGX_EXTENSIONS);
        let value = found.ok_or(EvidenceDenial::Missing { part: "SGX Extensions in the PCK certificate" })?;
        let fields = Fields::read(value).map_err(|error| {
            let offset = error.position().and_then(|at| usize::try_from(u32::from(at)).ok()).unwrap_or(0);
            EvidenceDenial::Malformed { structure: "SGX Extensions", offset, what: "DER of them, none twice" }
        })?;
        fields.complete().ok_or(EvidenceDenial::Missing { part: "a field of the SGX Extensions" })
    }
}

/// Fields as they are found; each must come once.
#[derive(Default)]
struct Fields {
    ppid: Option<[u8; 16]>,
    tcb_components: [Option<u8>; 16],
    pce_svn: Option<u16>,
    cpu_svn: Option<[u8; 16]>,
    pce_id: Option<[u8; 2]>,
    fmspc: Option<[u8; 6]>,
}

impl Fields {
    fn read(value: &[u8]) -> der::Result<Self> {
        let mut fields = Self::default();
        let mut reader = SliceReader::new(value)?;
        reader.sequence(|body| {
            while !body.is_finished() {
                body.sequence(|pair| fields.read_field(pair))?;
            }
            Ok::<_, der::Error>(())
        })?;
        reader.finish()?;
        Ok(fields)
    }

    fn read_field(&mut self, pair: &mut SliceReader<'_>) -> der::Result<()> {
        match ObjectIdentifier::decode(pair)? {
            PPID => once(&mut self.ppid, octets(pair)?),
            TCB => pair.sequence(|components| {
                while !components.is_finished() {
                    components.sequence(|component| self.read_component(component))?;
                }
                Ok::<_, der::Error>(())
            }),
            PCE_ID => once(&mut self.pce_id, octets(pair)?),
            FMSPC => once(&mut self.fmspc, octets(pair)?),
            // SGX type, platform instance id and configuration, which decide nothing here
            _ => pair.tlv_bytes().map(|_| ()),
        }
    }

    fn read_component(&mut self, component: &mut SliceReader<'_>) -> der::Result<()> {
        let oid = ObjectIdentifier::decode(component)?;
        match oid.parent().filter(|parent| *parent == TCB).and_then(|_| oid.arcs().last()) {
            Some(17) => once(&mut self.pce_svn, u16::decode(component)?),
            Some(18) => once(&mut self.cpu_svn, octets(component)?),
            Some(number) => {
                let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
                let slot = index.and_then(|index| self.tcb_components.get_mut(index));
                once(slot.ok_or_else(|| Tag::ObjectIdentifier.value_error())?, u8::decode(component)?)
            }
            None => Err(Tag::ObjectIdentifier.value_error().into()),
        }
    }

    fn complete(self) -> Option<PckExtensions> {
        let mut tcb_components = [0; 16];
        for (to, from) in tcb_components.iter_mut().zip(self.tcb_components) {
            *to = from?;
        }
        Some(PckExtensions {
            ppid: self.ppid?,
            tcb_components,
            pce_svn: self.pce_svn?,
            cpu_svn: self.cpu_svn?,
            pce_id: self.pce_id?,
            fmspc: self.fmspc?,
        })
    }
}

fn octets<const N: usize>(reader: &mut SliceReader<'_>) -> der::Result<[u8; N]> {
    let octets = <&OctetStringRef>::decode(reader)?;
    <[u8; N]>::try_from(octets.as_bytes()).map_err(|_| Tag::OctetString.length_error().into())
}

fn once<T>(slot: &mut Option<T>, value: T) -> der::Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Tag::Sequence.value_error().into()),
    }
}

const SGX_EXTENSIONS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");
const PPID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.1");
const TCB: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2");
const PCE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.3");
const FMSPC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.4");
