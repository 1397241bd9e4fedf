//! Trust domains: Intel's profile (draft-cds-rats-intel-corim-profile-07).
//!
//! The draft gives the values' labels and no class for a trust domain; ours is vendor and model as below. MRTD is the
//! measurement of the TEE, RTMRs are integrity registers.

use std::collections::BTreeMap;

use evidence::{
    digest::{Digest, HashAlg},
    tdx::TcbStatus,
};

use super::{
    Values, add,
    model::{label, number, read_digests},
    profile::Profile,
};
use crate::document::{SetDocument, tdx::RtmrReference};
use crate::exchange::{ImportDenial, Losses, accepted, cbor::Item};
use crate::text::Text;

/// Class of a trust domain.
pub(super) const VENDOR: &str = "Intel Corporation";
pub(super) const MODEL: &str = "TDX TD";
/// Labels of measurement values: integrity registers (base draft), tee.mrtee, tee.tcb-eval-num, tee.tcbstatus.
pub(super) const REGISTERS: i128 = 14;
pub(super) const MRTEE: i128 = -83;
pub(super) const TCB_EVAL_NUM: i128 = -86;
pub(super) const TCB_STATUS: i128 = -88;
/// Tags and operators of expressions (draft §8.1): a number at least so high, a digest or text that is a member.
pub(super) const NUMERIC: u64 = 60_010;
const DIGESTS: u64 = 60_020;
const TEXTS: u64 = 60_021;
pub(super) const AT_LEAST: i128 = 2;
const MEMBER: i128 = 6;

#[derive(Default)]
struct Found {
    mrtd: BTreeMap<Digest, Text>,
    rtmr: BTreeMap<u8, BTreeMap<Digest, Text>>,
    evaluation: Option<u32>,
    status: Option<Vec<TcbStatus>>,
}

impl Values<'_> {
    pub(super) fn tdx(self, base: &mut SetDocument) -> Result<(), ImportDenial> {
        let tdx = base.tdx.as_mut().ok_or(ImportDenial::BaseLacks { section: "tdx" })?;
        let mut found = Found::default();
        for comid in self.comids {
            let source = self.origin.source(&format!(" tag {}", comid.id));
            for triple in &comid.triples {
                let environment = &triple.environment;
                if (environment.vendor, environment.model) != (Some(VENDOR), Some(MODEL)) || environment.narrowed {
                    return Err(Profile::Tdx.elsewhere(environment));
                }
                for measurement in &triple.measurements {
                    if let Some(key) = measurement.key {
                        return Err(ImportDenial::inexpressible(&format!("key {key}"), "a trust domain has no keys"));
                    }
                    if measurement.authorized {
                        self.losses.add("authorized-by", "the signer of the file decides, not this key");
                    }
                    for (name, value) in measurement.values.map("measurement values are a map")? {
                        found.value(name, value, &source, self.losses)?;
                    }
                }
            }
        }
        if found.mrtd.len() > 1 && found.rtmr.values().any(|known| known.len() > 1) {
            self.losses
                .add("registers", "several values of several registers: a set accepts every combination of them");
        }
        if !found.mrtd.is_empty() {
            tdx.mrtd = accepted(found.mrtd);
        }
        tdx.rtmr.retain(|rtmr| !found.rtmr.contains_key(&rtmr.index));
        tdx.event.retain(|event| !found.rtmr.contains_key(&event.rtmr));
        tdx.rtmr.extend(found.rtmr.into_iter().map(|(index, known)| RtmrReference { index, accept: accepted(known) }));
        tdx.rtmr.sort_by_key(|rtmr| rtmr.index);
        tdx.tcb_evaluation_floor = found.evaluation.unwrap_or(tdx.tcb_evaluation_floor);
        tdx.tcb_status = found.status.unwrap_or_else(|| std::mem::take(&mut tdx.tcb_status));
        Ok(())
    }
}

impl Found {
    fn value(
        &mut self,
        name: &Item<'_>,
        value: &Item<'_>,
        source: &Text,
        losses: &mut Losses,
    ) -> Result<(), ImportDenial> {
        let elsewhere = || ImportDenial::inexpressible(&label(name), "not a value that a set holds of a trust domain");
        match name.int().ok_or_else(elsewhere)? {
            MRTEE => {
                let digests = operand(value, DIGESTS, MEMBER)?.unwrap_or(value);
                sha384(digests, "MRTD", source, &mut self.mrtd, losses)
            }
            REGISTERS => {
                for (index, digests) in value.map("integrity registers are a map")? {
                    let rtmr = number(index).ok().and_then(|index| u8::try_from(index).ok()).filter(|rtmr| *rtmr < 4);
                    let rtmr = rtmr.ok_or_else(|| ImportDenial::inexpressible(&label(index), "not RTMR 0 to 3"))?;
                    let known = self.rtmr.entry(rtmr).or_default();
                    sha384(digests, &format!("RTMR {rtmr}"), source, known, losses)?;
                }
                Ok(())
            }
            TCB_EVAL_NUM => {
                let floor = match operand(value, NUMERIC, AT_LEAST)? {
                    Some(floor) => floor,
                    None => {
                        losses.add("tcb-eval-num", "one number alone: kept as a floor, which newer ones pass too");
                        value
                    }
                };
                let floor = u32::try_from(number(floor)?).map_err(|_| floor.wrong("a number of 32 bits expected"))?;
                self.evaluation = Some(self.evaluation.map_or(floor, |known| known.max(floor)));
                Ok(())
            }
            TCB_STATUS => {
                let names = operand(value, TEXTS, MEMBER)?.unwrap_or(value).array("TCB statuses are an array")?;
                let statuses = names.iter().map(|name| {
                    let read = name.text().and_then(TcbStatus::from_name);
                    read.ok_or_else(|| name.wrong("not a TCB status by Intel's name"))
                });
                let statuses = statuses.collect::<Result<Vec<_>, _>>()?;
                if self.status.as_ref().is_some_and(|known| *known != statuses) {
                    return Err(ImportDenial::inexpressible("tcbstatus", "two lists in one file"));
                }
                self.status = Some(statuses);
                Ok(())
            }
            _ => Err(elsewhere()),
        }
    }
}

/// The operand of an expression with this operator; `None` for a value without expression.
fn operand<'i, 'a>(value: &'i Item<'a>, tag: u64, wanted: i128) -> Result<Option<&'i Item<'a>>, ImportDenial> {
    let Some(expression) = value.tagged(tag) else { return Ok(None) };
    match expression.array("an expression is an array")? {
        [operator, operand] if operator.int() == Some(wanted) => Ok(Some(operand)),
        _ => Err(ImportDenial::inexpressible("expression", "an operator that a set cannot hold")),
    }
}

fn sha384(
    item: &Item<'_>,
    at: &str,
    source: &Text,
    known: &mut BTreeMap<Digest, Text>,
    losses: &mut Losses,
) -> Result<(), ImportDenial> {
    let (digests, others) = read_digests(item)?;
    let (fitting, rest): (Vec<_>, Vec<_>) = digests.into_iter().partition(|digest| digest.alg() == HashAlg::Sha384);
    for other in rest.iter().map(|digest| digest.alg().to_string()).chain(others) {
        losses.add(&format!("{at} {other}"), "digests of another algorithm, not used");
    }
    if fitting.is_empty() {
        return Err(ImportDenial::inexpressible(at, "no sha384 digest"));
    }
    fitting.into_iter().for_each(|digest| add(known, digest, source));
    Ok(())
}
