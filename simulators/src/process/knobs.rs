//! What the control socket may change.

use serde::Deserialize;

use crate::{
    amd::{EndorsementKey, SigningKey, SnpMachine, Tcb},
    ccel::{EV_IPL, Event},
    intel::TdxMachine,
};

/// Changes; what is left out stays. Byte fields are hex, numbers are JSON numbers. Unknown keys are refused, and so are
/// those of the other vendor.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knobs {
    snp: Option<SnpKnobs>,
    tdx: Option<TdxKnobs>,
    /// 48 bytes: MEASUREMENT of an SNP guest, MRTD of a trust domain.
    measurement: Option<String>,
    /// SNP: the level of the whole machine, its endorsement key included.
    tcb: Option<TcbKnob>,
}

/// Fields of SNP reports.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnpKnobs {
    version: Option<u32>,
    guest_svn: Option<u32>,
    policy: Option<u64>,
    vmpl: Option<u32>,
    platform_info: Option<u64>,
    family_id: Option<String>,
    image_id: Option<String>,
    host_data: Option<String>,
    id_key_digest: Option<String>,
    author_key_digest: Option<String>,
    report_id: Option<String>,
    report_id_ma: Option<String>,
    chip_id: Option<String>,
    current_tcb: Option<String>,
    reported_tcb: Option<String>,
    committed_tcb: Option<String>,
    launch_tcb: Option<String>,
    /// A CSP_ID: sign with its VLEK; the empty string: with the VCEK again.
    vlek_csp_id: Option<String>,
    provides_certificates: Option<bool>,
}

/// Fields of TD quotes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TdxKnobs {
    version: Option<u16>,
    td_attributes: Option<u64>,
    xfam: Option<u64>,
    tee_tcb_svn: Option<String>,
    tee_tcb_svn_2: Option<String>,
    mr_seam: Option<String>,
    mr_signer_seam: Option<String>,
    mr_config_id: Option<String>,
    mr_owner: Option<String>,
    mr_owner_config: Option<String>,
    mr_service_td: Option<String>,
    qe_isv_svn: Option<u16>,
    pck_components: Option<String>,
    pcesvn: Option<u16>,
    ppid: Option<String>,
    /// Event data, extended to RTMR3 and appended to the log.
    runtime_event: Option<String>,
    trailing_zeros: Option<u16>,
}

/// Security patch levels.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TcbKnob {
    #[serde(default)]
    fmc: u8,
    boot_loader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

impl Knobs {
    /// Applies all to an SNP machine.
    pub fn apply_snp(&self, machine: &mut SnpMachine) -> Result<(), String> {
        if self.tdx.is_some() {
            return Err("tdx: this is an SNP machine".to_owned());
        }
        if let Some(TcbKnob { fmc, boot_loader, tee, snp, microcode }) = self.tcb {
            machine.set_tcb(Tcb { fmc, boot_loader, tee, snp, microcode });
        }
        bytes("measurement", self.measurement.as_deref(), &mut machine.fields.measurement)?;
        match &self.snp {
            Some(knobs) => knobs.apply(machine),
            None => Ok(()),
        }
    }

    /// Applies all to a TDX machine.
    pub fn apply_tdx(&self, machine: &mut TdxMachine) -> Result<(), String> {
        if self.snp.is_some() || self.tcb.is_some() {
            return Err("snp, tcb: this is a TDX machine".to_owned());
        }
        bytes("measurement", self.measurement.as_deref(), &mut machine.quote.body.mr_td)?;
        match &self.tdx {
            Some(knobs) => knobs.apply(machine),
            None => Ok(()),
        }
    }
}

impl SnpKnobs {
    fn apply(&self, machine: &mut SnpMachine) -> Result<(), String> {
        match self.vlek_csp_id.as_deref() {
            Some("") => {
                machine.endorsement_key = EndorsementKey::Vcek;
                machine.fields.key_info.signing_key = SigningKey::Vcek;
                machine.fields.chip_id = machine.chip_id;
            }
            Some(csp_id) => machine.use_vlek(csp_id),
            None => {}
        }
        let mut chip_id = machine.chip_id;
        bytes("chip_id", self.chip_id.as_deref(), &mut chip_id)?;
        if self.chip_id.is_some() {
            machine.set_chip_id(chip_id);
        }
        let fields = &mut machine.fields;
        number(self.version, &mut fields.version);
        number(self.guest_svn, &mut fields.guest_svn);
        number(self.policy, &mut fields.policy);
        number(self.vmpl, &mut fields.vmpl);
        number(self.platform_info, &mut fields.platform_info);
        number(self.provides_certificates, &mut machine.provides_certificates);
        bytes("family_id", self.family_id.as_deref(), &mut fields.family_id)?;
        bytes("image_id", self.image_id.as_deref(), &mut fields.image_id)?;
        bytes("host_data", self.host_data.as_deref(), &mut fields.host_data)?;
        bytes("id_key_digest", self.id_key_digest.as_deref(), &mut fields.id_key_digest)?;
        bytes("author_key_digest", self.author_key_digest.as_deref(), &mut fields.author_key_digest)?;
        bytes("report_id", self.report_id.as_deref(), &mut fields.report_id)?;
        bytes("report_id_ma", self.report_id_ma.as_deref(), &mut fields.report_id_ma)?;
        bytes("current_tcb", self.current_tcb.as_deref(), &mut fields.current_tcb)?;
        bytes("reported_tcb", self.reported_tcb.as_deref(), &mut fields.reported_tcb)?;
        bytes("committed_tcb", self.committed_tcb.as_deref(), &mut fields.committed_tcb)?;
        bytes("launch_tcb", self.launch_tcb.as_deref(), &mut fields.launch_tcb)
    }
}

impl TdxKnobs {
    fn apply(&self, machine: &mut TdxMachine) -> Result<(), String> {
        if let Some(event) = &self.runtime_event {
            let data = hex::decode(event).map_err(|error| format!("runtime_event: {error}"))?;
            let mut log = machine.event_log.clone();
            log.events.push(Event::of_data(4, EV_IPL, &data));
            machine.set_event_log(log);
        }
        if let Some(zeros) = self.trailing_zeros {
            machine.quote.trailing = vec![0; usize::from(zeros)];
        }
        bytes("ppid", self.ppid.as_deref(), &mut machine.pck.ppid)?;
        bytes("pck_components", self.pck_components.as_deref(), &mut machine.pck.components)?;
        number(self.pcesvn, &mut machine.pck.pcesvn);
        number(self.version, &mut machine.quote.version);
        number(self.qe_isv_svn, &mut machine.quote.qe.isv_svn);
        let body = &mut machine.quote.body;
        number(self.td_attributes, &mut body.td_attributes);
        number(self.xfam, &mut body.xfam);
        bytes("tee_tcb_svn", self.tee_tcb_svn.as_deref(), &mut body.tee_tcb_svn)?;
        bytes("tee_tcb_svn_2", self.tee_tcb_svn_2.as_deref(), &mut body.tee_tcb_svn_2)?;
        bytes("mr_seam", self.mr_seam.as_deref(), &mut body.mr_seam)?;
        bytes("mr_signer_seam", self.mr_signer_seam.as_deref(), &mut body.mr_signer_seam)?;
        bytes("mr_config_id", self.mr_config_id.as_deref(), &mut body.mr_config_id)?;
        bytes("mr_owner", self.mr_owner.as_deref(), &mut body.mr_owner)?;
        bytes("mr_owner_config", self.mr_owner_config.as_deref(), &mut body.mr_owner_config)?;
        bytes("mr_service_td", self.mr_service_td.as_deref(), &mut body.mr_service_td)
    }
}

fn number<T: Copy>(knob: Option<T>, field: &mut T) {
    if let Some(value) = knob {
        *field = value;
    }
}

fn bytes<const N: usize>(name: &str, knob: Option<&str>, field: &mut [u8; N]) -> Result<(), String> {
    if let Some(text) = knob {
        hex::decode_to_slice(text, field).map_err(|error| format!("{name}, {N} bytes: {error}"))?;
    }
    Ok(())
}
