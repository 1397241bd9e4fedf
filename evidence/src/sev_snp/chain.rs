//! From a pinned ARK to the key that signs reports, verified once and used for many reports; and one report under it.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ParsedPublicKey};

use super::{
    fields::SigningKey,
    product::{Product, ProductLine},
    report::SnpReport,
    roots::{SnpRoots, genuine_ark, genuine_ask},
    tcb::{TcbVersion, Tcbs},
    vek::{Role, VekClaims, VekIdentity},
};
use crate::{
    EvidenceDenial,
    anchors::RootPin,
    digest::Sha256Digest,
    tee::PlatformId,
    time::UnixSeconds,
    x509::{Certificate, Crl},
};

/// What is known of certificates that AMD took back.
#[derive(Clone, Copy, Debug)]
pub enum Revocation<'a> {
    /// The ARK's revocation list, DER.
    List(&'a [u8]),
    /// None is at hand. The chain can be looked at; no appraisal accepts it.
    Unjudged,
}

/// An endorsement key that a pinned ARK vouches for. Made only by [`VerifiedVek::verify`].
pub struct VerifiedVek {
    key: ParsedPublicKey,
    identity: VekIdentity,
    product: Product,
    tcb: TcbVersion,
    root: RootPin,
    is_simulated: bool,
    /// Of certificate and key: leaf, ASK or ASVK, ARK.
    digests: [[Sha256Digest; 2]; 3],
    /// Validity of the same three.
    validity: [(UnixSeconds, UnixSeconds); 3],
    list: Option<RevocationList>,
}

/// The revocation list that a chain was judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// SHA-256 of its DER.
    pub digest: Sha256Digest,
    /// When it was issued.
    pub this_update: UnixSeconds,
    /// When the next one is due at the latest.
    pub next_update: UnixSeconds,
}

impl VerifiedVek {
    /// Judges a leaf (VCEK or VLEK), DER, up to a root that is pinned for its product line (S3, S4, and what of S5
    /// is the leaf's alone). Where no issuer or root is offered, AMD's own are used; there is none for VLEKs.
    ///
    /// # Errors
    /// The first denial, with the position of its certificate: 0 the leaf, 1 the ASK or ASVK, 2 the ARK. Signatures
    /// are judged before anything that they cover.
    pub fn verify(
        leaf: &[u8],
        intermediate: Option<&[u8]>,
        root: Option<&[u8]>,
        revocation: Revocation<'_>,
        roots: &SnpRoots<'_>,
        now: UnixSeconds,
    ) -> Result<Self, EvidenceDenial> {
        let leaf = Certificate::read(leaf)?;
        let issuer_role = Role::of(leaf.issuer, 0)?;
        let (line, leaf_role) = match issuer_role {
            Role::Ask(line) => (line, Role::Vcek),
            Role::Asvk(line) => (line, Role::Vlek),
            Role::Ark(_) | Role::Vcek | Role::Vlek => return unmet(0, "an issuer SEV-* or SEV-VLEK-*"),
        };
        let known_issuer = (leaf_role == Role::Vcek).then(|| genuine_ask(line));
        let issuer = intermediate.or(known_issuer).ok_or(EvidenceDenial::Missing { part: "ASVK certificate" })?;
        let (issuer, root) = (Certificate::read(issuer)?, Certificate::read(root.unwrap_or(genuine_ark(line)))?);
        let (pin, is_simulated) = pinned(&root, line, roots)?;
        judge_signature(&issuer, &root, 1)?;
        judge_signature(&leaf, &issuer, 0)?;
        let chain = [&leaf, &issuer, &root];
        for ((position, certificate), role) in chain.iter().enumerate().zip([leaf_role, issuer_role, Role::Ark(line)]) {
            judge_place(certificate, role, position)?;
        }
        let list = judge_revocation(revocation, &issuer, &root, now)?;
        let VekClaims { identity, product, tcb, point } = VekClaims::read(&leaf, leaf_role, line)?;
        let key = ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
            .map_err(|_| EvidenceDenial::KeyUnusable { what: "not a point of P-384" })?;
        let verified = Self {
            key,
            identity,
            product,
            tcb,
            root: pin,
            is_simulated,
            digests: chain.map(|certificate| [certificate.digest(), certificate.key_digest()]),
            validity: chain.map(|certificate| (certificate.not_before, certificate.not_after)),
            list,
        };
        verified.current(roots, now)?;
        Ok(verified)
    }

    /// Is all of the chain still pinned, not revoked and valid at `now`, and the revocation list still the newest?
    ///
    /// # Errors
    /// [`EvidenceDenial::ChainUnanchored`], [`EvidenceDenial::Revoked`], [`EvidenceDenial::CertificateValidity`] or
    /// [`EvidenceDenial::CertificateListValidity`].
    pub fn current(&self, roots: &SnpRoots<'_>, now: UnixSeconds) -> Result<(), EvidenceDenial> {
        let [_, _, [root, _]] = self.digests;
        if roots.pinned(self.product.line(), &self.root).is_none() {
            return Err(EvidenceDenial::ChainUnanchored { position: 2, sha256: root });
        }
        for digest in self.digests.iter().flatten() {
            roots.refuse_revoked(*digest)?;
        }
        for (position, (not_before, not_after)) in self.validity.into_iter().enumerate() {
            if now < not_before || not_after < now {
                return Err(EvidenceDenial::CertificateValidity { position, not_before, not_after, now });
            }
        }
        match self.list {
            Some(RevocationList { this_update, next_update, .. }) if now < this_update || next_update < now => {
                Err(EvidenceDenial::CertificateListValidity { this_update, next_update, now })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Verifies one report by this key: signature (S6), then what certificate and report must agree on (S4, S5), then
    /// what no guest may be (S2 of the host, S8 debug and migration, S9 unknown bits).
    ///
    /// # Errors
    /// The first denial.
    pub fn authenticate<'a>(&self, report: &SnpReport<'a>) -> Result<AuthenticReport<'a>, EvidenceDenial> {
        self.key
            .verify_sig(report.signed(), report.signature())
            .map_err(|_| EvidenceDenial::SignatureInvalid { over: "ATTESTATION_REPORT" })?;
        self.judge_signing_key(report)?;
        if let Some(cpuid) = report.cpuid.filter(|cpuid| !cpuid.is_of(self.product)) {
            return Err(EvidenceDenial::SnpProductMismatch { report: cpuid, vek: self.product });
        }
        let tcbs = self.judge_tcb(report)?;
        self.judge_chip(report)?;
        judge_guest(report)?;
        Ok(AuthenticReport { report: *report, product: self.product, tcbs })
    }

    fn judge_signing_key(&self, report: &SnpReport<'_>) -> Result<(), EvidenceDenial> {
        let got = report.key_info.signing_key();
        let is_same = match &self.identity {
            VekIdentity::Chip(_) => got == SigningKey::Vcek && !report.key_info.masks_chip_key(),
            VekIdentity::Provider(_) => got == SigningKey::Vlek,
        };
        if is_same { Ok(()) } else { Err(EvidenceDenial::SnpSigningKey { report: got, vek: self.identity.kind() }) }
    }

    fn judge_tcb(&self, report: &SnpReport<'_>) -> Result<Tcbs, EvidenceDenial> {
        let read = |field, bytes| TcbVersion::read(self.product.line(), field, bytes);
        let tcbs = Tcbs {
            current: read("CURRENT_TCB", report.current_tcb)?,
            reported: read("REPORTED_TCB", report.reported_tcb)?,
            committed: read("COMMITTED_TCB", report.committed_tcb)?,
            launch: read("LAUNCH_TCB", report.launch_tcb)?,
        };
        let both = tcbs.reported.components().zip(self.tcb.components());
        for ((component, reported), (_, vek)) in both {
            if reported != vek {
                return Err(EvidenceDenial::SnpTcbMismatch { component, report: reported, vek });
            }
        }
        Ok(tcbs)
    }

    fn judge_chip(&self, report: &SnpReport<'_>) -> Result<(), EvidenceDenial> {
        let VekIdentity::Chip(hwid) = &self.identity else { return Ok(()) };
        if *report.chip_id == [0; 64] {
            return Err(EvidenceDenial::SnpChipIdMasked);
        }
        let (id, rest) = report.chip_id.split_at_checked(hwid.len()).unwrap_or((report.chip_id, &[]));
        if *id == **hwid && rest.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            let report = hex::encode(report.chip_id);
            Err(EvidenceDenial::SnpChipIdMismatch { report, vek: hex::encode(hwid) })
        }
    }

    /// The platform that its reports are of.
    #[must_use]
    pub fn platform(&self) -> PlatformId {
        match &self.identity {
            VekIdentity::Chip(hwid) => {
                let mut chip = Box::new([0; 64]);
                chip.iter_mut().zip(hwid.iter()).for_each(|(to, from)| *to = *from);
                PlatformId::AmdChip(chip)
            }
            VekIdentity::Provider(csp_id) => PlatformId::AmdVlek { csp_id: csp_id.clone() },
        }
    }

    /// Chip or provider.
    #[must_use]
    pub const fn identity(&self) -> &VekIdentity {
        &self.identity
    }

    /// The product it is certified as.
    #[must_use]
    pub const fn product(&self) -> Product {
        self.product
    }

    /// The TCB version that it is derived for.
    #[must_use]
    pub const fn tcb(&self) -> TcbVersion {
        self.tcb
    }

    /// Whether its root is pinned as a simulated one.
    #[must_use]
    pub const fn is_simulated(&self) -> bool {
        self.is_simulated
    }

    /// SHA-256 of the certificates: leaf, ASK or ASVK, ARK.
    #[must_use]
    pub const fn certificate_digests(&self) -> [Sha256Digest; 3] {
        let [[leaf, _], [issuer, _], [root, _]] = self.digests;
        [leaf, issuer, root]
    }

    /// When all three certificates are valid: latest notBefore, earliest notAfter.
    #[must_use]
    pub fn validity(&self) -> (UnixSeconds, UnixSeconds) {
        let [leaf, issuer, root] = self.validity;
        (leaf.0.max(issuer.0).max(root.0), leaf.1.min(issuer.1).min(root.1))
    }

    /// The revocation list that it was judged by; none for a chain that was only looked at.
    #[must_use]
    pub const fn revocation_list(&self) -> Option<&RevocationList> {
        self.list.as_ref()
    }
}

impl std::fmt::Debug for VerifiedVek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [leaf, ..] = self.certificate_digests();
        write!(f, "VerifiedVek({} of {}, {leaf})", self.identity.kind(), self.product)
    }
}

/// A report that a [`VerifiedVek`] signed and that agrees with its certificate. Made only by
/// [`VerifiedVek::authenticate`].
#[derive(Clone, Copy, Debug)]
pub struct AuthenticReport<'a> {
    report: SnpReport<'a>,
    product: Product,
    tcbs: Tcbs,
}

impl<'a> AuthenticReport<'a> {
    /// What was signed.
    #[must_use]
    pub const fn report(&self) -> &SnpReport<'a> {
        &self.report
    }

    /// The product it is of.
    #[must_use]
    pub const fn product(&self) -> Product {
        self.product
    }

    /// Its TCB versions, read by the product's layout.
    #[must_use]
    pub const fn tcbs(&self) -> &Tcbs {
        &self.tcbs
    }
}

/// VMPL, POLICY and PLATFORM_INFO that no guest we believe can have.
fn judge_guest(report: &SnpReport<'_>) -> Result<(), EvidenceDenial> {
    // the host's requests carry all ones; a guest has levels 0 to 3
    if report.vmpl > 3 {
        return Err(EvidenceDenial::SnpVmpl { got: report.vmpl });
    }
    if report.policy.allows_debug() {
        return Err(EvidenceDenial::SnpGuestPolicy { allows: "debugging by the host (bit 19)" });
    }
    if report.policy.allows_migration_agent() {
        return Err(EvidenceDenial::SnpGuestPolicy { allows: "a migration agent (bit 18)" });
    }
    match report.platform_info.unknown() {
        0 => Ok(()),
        bits => Err(EvidenceDenial::SnpPlatformInfo { bits }),
    }
}

/// The pin of a root, and whether it is of a simulated one.
fn pinned(root: &Certificate<'_>, line: ProductLine, roots: &SnpRoots<'_>) -> Result<(RootPin, bool), EvidenceDenial> {
    let by_certificate = RootPin::Certificate(root.digest());
    let by_key = RootPin::PublicKey(root.key_digest());
    if let Some(is_simulated) = roots.pinned(line, &by_certificate) {
        return Ok((by_certificate, is_simulated));
    }
    match roots.pinned(line, &by_key) {
        Some(is_simulated) if root.is_signed_by(root).is_ok() => Ok((by_key, is_simulated)),
        Some(_) | None => Err(EvidenceDenial::ChainUnanchored { position: 2, sha256: root.digest() }),
    }
}

fn judge_signature(
    certificate: &Certificate<'_>,
    issuer: &Certificate<'_>,
    position: usize,
) -> Result<(), EvidenceDenial> {
    if certificate.issuer != issuer.subject {
        return unmet(position, "the next certificate's subject as issuer");
    }
    certificate.is_signed_by(issuer).map_err(|what| EvidenceDenial::CertificateSignature { position, what })
}

/// Names, constraints and extensions of one place (AMD 57230 §2.1).
fn judge_place(certificate: &Certificate<'_>, role: Role, position: usize) -> Result<(), EvidenceDenial> {
    if Role::of(certificate.subject, position)? != role {
        return unmet(position, "the subject of its place: SEV-VCEK or SEV-VLEK, its issuer, the product line's ARK");
    }
    if let Some(oid) = certificate.extensions.unknown_critical {
        return Err(EvidenceDenial::CertificateExtension { position, oid: oid.to_string() });
    }
    if position == 0 {
        return Ok(());
    }
    let constraints = certificate.extensions.basic_constraints.as_ref().filter(|constraints| constraints.ca);
    let below = position.saturating_sub(1);
    let is_deep_enough = |allowed: Option<u8>| allowed.is_none_or(|allowed| usize::from(allowed) >= below);
    if !constraints.is_some_and(|constraints| is_deep_enough(constraints.path_len_constraint)) {
        return unmet(position, "basicConstraints with cA and room for the authorities below");
    }
    if !certificate.extensions.key_usage.as_ref().is_some_and(|usage| usage.key_cert_sign()) {
        return unmet(position, "keyUsage with keyCertSign");
    }
    Ok(())
}

/// ASK and ASVK are what the ARK can take back; leaves end by their TCB going out of use.
fn judge_revocation(
    revocation: Revocation<'_>,
    issuer: &Certificate<'_>,
    root: &Certificate<'_>,
    now: UnixSeconds,
) -> Result<Option<RevocationList>, EvidenceDenial> {
    let Revocation::List(der) = revocation else { return Ok(None) };
    let list = Crl::read(der)?;
    list.verify(root, now)?;
    list.refuse_listed(issuer)?;
    list.refuse_listed(root)?;
    let (this_update, next_update) = (list.this_update, list.next_update);
    Ok(Some(RevocationList { digest: list.digest(), this_update, next_update }))
}

fn unmet<T>(position: usize, what: &'static str) -> Result<T, EvidenceDenial> {
    Err(EvidenceDenial::CertificateConstraint { position, what })
}
