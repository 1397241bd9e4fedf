//! Our sets as CoRIM: one CoMID of reference triples under the profile of the set's hardware.

use ciborium::Value;
use evidence::{
    cbor,
    cose::SigningKey,
    digest::{Digest, HashAlg},
    sev_snp::TcbVersion,
};

use super::{TAG_COMID, TAG_COSE_SIGN1, TAG_UNSIGNED, envelope, profile::Profile, snp as keys, tdx as labels};
use crate::document::{
    Accepted, SetDocument, TpmDocument,
    snp::{IdBlock, SnpDocument, SnpPlatforms, TcbFloor},
    tdx::TdxDocument,
};
use crate::exchange::{Exported, ImportDenial, Losses};
use crate::fields::BitRule;
use crate::set::ReferenceValueSet;

/// Class of the TPM environment: the UUID that Parsec's profile uses in its own examples.
const TPM_CLASS: [u8; 16] =
    [0xcd, 0x1f, 0x0e, 0x55, 0x26, 0xf9, 0x46, 0x0d, 0xb9, 0xd8, 0xf7, 0xfd, 0xe1, 0x71, 0x78, 0x7c];

/// Writes a set as an unsigned CoRIM. Its values, its name, version and time are in it; what CoRIM's profiles cannot
/// say is listed.
///
/// # Errors
/// [`ImportDenial::Inexpressible`] for a set that no one profile can say, [`ImportDenial::Empty`] for one of which
/// nothing could be said.
pub fn export(set: &ReferenceValueSet) -> Result<Exported, ImportDenial> {
    let mut losses = Losses::default();
    let bytes = encoded(&unsigned(set.document(), &mut losses)?)?;
    Ok(Exported { bytes, losses: losses.into_vec() })
}

/// The same in a COSE_Sign1 by `key`, `signer` naming its owner.
///
/// # Errors
/// As [`export`].
pub fn export_signed(set: &ReferenceValueSet, key: &SigningKey, signer: &str) -> Result<Exported, ImportDenial> {
    let exported = export(set)?;
    let document = set.document();
    let meta = map([(0, map([(0, Value::from(signer))])), (1, validity(document))]);
    let header = encoded(&map([
        (envelope::ALG, Value::from(-8)),
        (envelope::CONTENT, Value::from(envelope::CONTENT_TYPE)),
        (4, Value::Bytes(key.public().kid().0.to_vec())),
        (envelope::META, Value::Bytes(encoded(&meta)?)),
    ]))?;
    let signature = key.sign_raw(&envelope::to_be_signed(&header, &exported.bytes)?);
    let parts = vec![Value::Bytes(header), map([]), Value::Bytes(exported.bytes), Value::Bytes(signature)];
    let bytes = encoded(&tag(TAG_COSE_SIGN1, Value::Array(parts)))?;
    Ok(Exported { bytes, losses: exported.losses })
}

fn unsigned(document: &SetDocument, losses: &mut Losses) -> Result<Value, ImportDenial> {
    let (profile, environment, measurements) = match (&document.tpm, &document.snp, &document.tdx) {
        (Some(tpm), None, None) => (Profile::Tpm, tpm_class(), pcrs(tpm, losses)),
        (None, Some(snp), None) => (Profile::Snp, snp_class(), snp_values(snp, losses)),
        (None, None, Some(tdx)) => (Profile::Tdx, tdx_class(), tdx_values(tdx, losses)),
        (_, _, _) => {
            return Err(ImportDenial::inexpressible("set", "values of a vTPM and its TEE: a CoRIM has one profile"));
        }
    };
    if measurements.is_empty() {
        return Err(ImportDenial::Empty);
    }
    losses.add("environment", "the set's environment is not in the file: who imports it says where it holds");
    let triple = Value::Array(vec![environment, Value::Array(measurements)]);
    let comid = map([
        (1, map([(0, Value::from(document.id.as_str())), (1, Value::from(document.version))])),
        (2, Value::Array(vec![map([(0, Value::from(document.domain.as_str())), (2, Value::Array(vec![0.into()]))])])),
        (4, map([(0, Value::Array(vec![triple]))])),
    ]);
    let corim = map([
        (0, Value::from(format!("{}-{}", document.id, document.version))),
        (1, Value::Array(vec![tag(TAG_COMID, Value::Bytes(encoded(&comid)?))])),
        (3, profile.written()),
        (4, validity(document)),
    ]);
    Ok(tag(TAG_UNSIGNED, corim))
}

fn validity(document: &SetDocument) -> Value {
    let time = |at: crate::text::Moment| tag(1, Value::from(at.at().0));
    map([(0, time(document.not_before)), (1, time(document.not_after))])
}

fn encoded(value: &Value) -> Result<Vec<u8>, ImportDenial> {
    cbor::to_vec(value).map_err(|e| ImportDenial::SetUnusable(e.into()))
}

fn map<const N: usize>(pairs: [(i128, Value); N]) -> Value {
    let label = |label: i128| i64::try_from(label).map_or(Value::Null, Value::from);
    Value::Map(pairs.into_iter().map(|(key, value)| (label(key), value)).collect())
}

fn tag(number: u64, value: Value) -> Value {
    Value::Tag(number, Box::new(value))
}

fn raw(bytes: &[u8]) -> Value {
    tag(560, Value::Bytes(bytes.to_vec()))
}

/// A measurement under a key, of one value.
fn measured(key: u64, label: i128, value: Value) -> Value {
    map([(0, Value::from(key)), (1, map([(label, value)]))])
}

fn digests(accept: &[Accepted]) -> Value {
    let number = |alg: HashAlg| match alg {
        HashAlg::Sha1 => Value::from("sha-1"),
        HashAlg::Sha256 => Value::from(1),
        HashAlg::Sha384 => Value::from(7),
        HashAlg::Sha512 => Value::from(8),
    };
    let one = |digest: &Digest| Value::Array(vec![number(digest.alg()), Value::Bytes(digest.as_bytes().to_vec())]);
    Value::Array(accept.iter().map(|accepted| one(&accepted.digest)).collect())
}

fn tpm_class() -> Value {
    map([(0, map([(0, tag(37, Value::Bytes(TPM_CLASS.to_vec())))]))])
}

fn snp_class() -> Value {
    map([(0, map([(0, tag(111, Value::Bytes(keys::CLASS.to_vec())))]))])
}

fn tdx_class() -> Value {
    map([(0, map([(1, Value::from(labels::VENDOR)), (2, Value::from(labels::MODEL))]))])
}

fn pcrs(tpm: &TpmDocument, losses: &mut Losses) -> Vec<Value> {
    losses.add("tpm.platforms, tpm.firmware, tpm.deny", "not in the profile");
    if !tpm.event.is_empty() {
        losses.add("tpm.event", "events are not in the profile: registers known by their log alone are left out");
    }
    if tpm.ima.is_some() {
        losses.add("tpm.ima", "files are not in the profile");
    }
    tpm.pcr.iter().map(|pcr| measured(u64::from(pcr.index), 2, digests(&pcr.accept))).collect()
}

fn tdx_values(tdx: &TdxDocument, losses: &mut Losses) -> Vec<Value> {
    losses.add("tdx.platforms, tdx.xfam, tdx.attributes, tdx.advisory", "not written: no label that means the same");
    losses.add("tdx.mrconfigid, tdx.mrowner, tdx.mrownerconfig, tdx.mrservicetd", "not in the profile");
    if !tdx.event.is_empty() {
        losses.add("tdx.event", "events are not in the profile: registers known by their log alone are left out");
    }
    let registers = tdx.rtmr.iter().map(|rtmr| (Value::from(rtmr.index), digests(&rtmr.accept))).collect::<Vec<_>>();
    let floor = Value::Array(vec![
        i64::try_from(labels::AT_LEAST).map_or(Value::Null, Value::from),
        Value::from(tdx.tcb_evaluation_floor),
    ]);
    let statuses = tdx.tcb_status.iter().map(|status| Value::from(status.name())).collect();
    let label = |label: i128| i64::try_from(label).map_or(Value::Null, Value::from);
    let mut values = vec![
        (label(labels::MRTEE), digests(&tdx.mrtd)),
        (label(labels::TCB_EVAL_NUM), tag(labels::NUMERIC, floor)),
        (label(labels::TCB_STATUS), Value::Array(statuses)),
    ];
    if !registers.is_empty() {
        values.push((label(labels::REGISTERS), Value::Map(registers)));
    }
    vec![map([(1, Value::Map(values))])]
}

fn snp_values(snp: &SnpDocument, losses: &mut Losses) -> Vec<Value> {
    let version = |key, text: String| measured(key, 0, map([(0, Value::from(text))]));
    let mut out: Vec<Value> =
        snp.report_versions.iter().map(|v| version(keys::REPORT_VERSION, v.to_string())).collect();
    out.push(measured(keys::GUEST_SVN, 1, tag(553, Value::from(snp.guest_svn))));
    let bits = [
        (keys::POLICY, "snp.policy", whole(&snp.policy.rules()), 1 << 17),
        (keys::PLATFORM_INFO, "snp.platform_info", whole(&snp.platform_info.rules()), 0),
    ];
    for (key, at, bits, always) in bits {
        match bits {
            Some(bits) => out.push(measured(key, 4, raw(&(bits | always).to_be_bytes()))),
            None => losses.add(at, "a bit that may be either: the profile has whole values alone"),
        }
    }
    out.extend(snp.family_id.iter().map(|id| measured(keys::FAMILY_ID, 4, raw(&id.0))));
    out.extend(snp.image_id.iter().map(|id| measured(keys::IMAGE_ID, 4, raw(&id.0))));
    out.extend(snp.vmpl.iter().map(|vmpl| measured(keys::VMPL, 4, raw(&vmpl.to_be_bytes()))));
    match &snp.platforms {
        SnpPlatforms::Any => {}
        SnpPlatforms::Listed { chip_id } => out.extend(chip_id.iter().map(|id| measured(keys::CHIP_ID, 4, raw(&id.0)))),
    }
    match &snp.id_block {
        IdBlock::None => losses.add("snp.id_block", "that there is none is not in the profile"),
        IdBlock::Signed { id_key, author_key } => {
            out.push(measured(keys::ID_KEY, 2, digests(id_key)));
            if !author_key.is_empty() {
                out.push(measured(keys::AUTHOR_KEY, 2, digests(author_key)));
            }
        }
    }
    if !snp.vlek_csp_ids.is_empty() {
        losses.add("snp.vlek_csp_ids", "not written: the class is that of a VCEK");
    }
    out.push(measured(keys::MEASUREMENT, 2, digests(&snp.measurement)));
    out.extend(snp.host_data.iter().map(|data| measured(keys::HOST_DATA, 4, raw(data.digest.as_bytes()))));
    out.extend(floors(snp, losses));
    out
}

/// Floors of the one product. With several, the profile could not say whose they are.
fn floors(snp: &SnpDocument, losses: &mut Losses) -> Vec<Value> {
    losses.add("snp.product", "its name, firmware floor and mitigations are not in the profile");
    let [product] = snp.product.as_slice() else {
        losses.add("snp.product TCB", "floors of several products: none is written");
        return Vec::new();
    };
    let tcb = |key, floor: TcbFloor| {
        let TcbFloor { fmc, boot_loader, tee, snp, microcode } = floor;
        let bits = TcbVersion { fmc, boot_loader, tee, snp, microcode }.to_bytes();
        measured(key, 1, tag(553, Value::from(u64::from_le_bytes(bits))))
    };
    vec![
        tcb(keys::REPORTED_TCB, product.reported),
        tcb(keys::COMMITTED_TCB, product.committed),
        tcb(keys::CURRENT_TCB, product.current),
        tcb(keys::LAUNCH_TCB, product.launch),
    ]
}

/// The field whose every bit is ruled; `None` where one may be either.
fn whole(rules: &[(&str, u32, BitRule)]) -> Option<u64> {
    rules.iter().try_fold(0u64, |bits, (_, bit, rule)| match rule {
        BitRule::Required => Some(bits | 1u64.wrapping_shl(*bit)),
        BitRule::Forbidden => Some(bits),
        BitRule::Any => None,
    })
}
