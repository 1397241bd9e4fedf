//! TCB Info: what every combination of security versions of one kind of platform is worth (PCS API v4, "Get TDX TCB
//! Info" and "Get SGX TCB Info"; version 3 of the structure).

use serde::Deserialize;

use super::{
    json::{self, Hex, Instant, capped},
    pck::PckExtensions,
    quote::TeeType,
    tcb_level::{IsvLevelText, IsvLevels, Standing},
};
use crate::{EvidenceDenial, time::UnixSeconds};

/// Name in denials.
pub(super) const TCB_INFO: &str = "TCB info";
/// Name of the TDX module in denials.
pub(super) const MODULE: &str = "TDX module";
const PLATFORM: &str = "platform";

/// TCB Info of one FMSPC, for SGX or TDX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcbInfo {
    /// What it is for.
    pub tee_type: TeeType,
    /// When Intel issued it.
    pub issued_at: UnixSeconds,
    /// When the next is due at the latest.
    pub next_update: UnixSeconds,
    /// Kind of platform.
    pub fmspc: [u8; 6],
    /// Provisioning certification enclave.
    pub pce_id: [u8; 2],
    /// Grows with every TCB recovery.
    pub tcb_evaluation_data_number: u32,
    /// The TDX 1.0 module; absent for SGX.
    pub(super) module: Option<ModuleIdentity>,
    /// TDX modules by version.
    pub(super) modules: Vec<(u8, ModuleIdentity, IsvLevels)>,
    levels: Vec<TcbLevel>,
}

/// Who signed a TDX module, and with which attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleIdentity {
    /// MRSIGNERSEAM.
    pub mr_signer: [u8; 48],
    /// SEAMATTRIBUTES.
    pub attributes: [u8; 8],
}

/// One level: the security versions that reach it and what they are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TcbLevel {
    sgx: [u8; 16],
    tdx: [u8; 16],
    pce_svn: u16,
    standing: Standing,
}

/// What a platform's security versions reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlatformStanding<'a> {
    /// By the components of the PCK certificate alone.
    pub(super) sgx: &'a Standing,
    /// By those of the TD report too; for SGX the same.
    pub(super) all: &'a Standing,
}

impl TcbInfo {
    /// Reads the text, whose signature is verified elsewhere.
    pub(super) fn read(text: &str) -> Result<Self, EvidenceDenial> {
        let text: TcbInfoText = json::read(TCB_INFO, text)?;
        let field = |field, got: String, accepted| EvidenceDenial::CollateralField {
            structure: TCB_INFO,
            field,
            got: got.escape_default().take(64).collect(),
            accepted,
        };
        if text.version != 3 {
            return Err(field("version", text.version.to_string(), "3"));
        }
        let tee_type = match text.id.as_str() {
            "SGX" => TeeType::Sgx,
            "TDX" => TeeType::Tdx,
            _ => return Err(field("id", text.id, "SGX or TDX")),
        };
        if text.tcb_type != 0 {
            return Err(field("tcbType", text.tcb_type.to_string(), "0"));
        }
        let module = text.tdx_module.map(ModuleText::identity);
        if module.is_some() != (tee_type == TeeType::Tdx) {
            return Err(field("tdxModule", "present or not".into(), "present for TDX, absent for SGX"));
        }
        let modules =
            text.tdx_module_identities.into_iter().map(NamedModuleText::read).collect::<Result<Vec<_>, _>>()?;
        let repeated = modules.iter().enumerate().any(|(at, module)| modules.iter().take(at).any(|m| m.0 == module.0));
        if repeated || (tee_type == TeeType::Sgx && !modules.is_empty()) {
            return Err(field("tdxModuleIdentities", "others".into(), "each once, and only for TDX"));
        }
        Ok(Self {
            tee_type,
            issued_at: text.issue_date.0,
            next_update: text.next_update.0,
            fmspc: text.fmspc.0,
            pce_id: text.pce_id.0,
            tcb_evaluation_data_number: text.tcb_evaluation_data_number,
            module,
            modules,
            levels: TcbLevel::read_all(text.tcb_levels, tee_type)?,
        })
    }

    /// Identity and levels of the TDX module of this version (TEE_TCB_SVN\[1\]).
    pub(super) fn module(&self, version: u8) -> Result<(&ModuleIdentity, &IsvLevels), EvidenceDenial> {
        let found = self.modules.iter().find(|(of, _, _)| *of == version);
        found.map(|(_, identity, levels)| (identity, levels)).ok_or(EvidenceDenial::TdxModuleUnknown { version })
    }

    /// What the platform's security versions reach (QVL 4.1.2.4.17.1 to .3). `tee_tcb_svn` for TDX alone.
    pub(super) fn standing(
        &self,
        pck: &PckExtensions,
        tee_tcb_svn: Option<&[u8; 16]>,
    ) -> Result<PlatformStanding<'_>, EvidenceDenial> {
        let missing = EvidenceDenial::TcbLevelMissing { of: PLATFORM };
        let mut reached = self
            .levels
            .iter()
            .filter(|level| reaches(&pck.tcb_components, &level.sgx, 0) && pck.pce_svn >= level.pce_svn)
            .peekable();
        let sgx = reached.peek().map(|level| &level.standing).ok_or_else(|| missing.clone())?;
        let Some(svn) = tee_tcb_svn else { return Ok(PlatformStanding { sgx, all: sgx }) };
        // versions 0 and 1 are the module's own, judged by its identity where it has one
        let [_, module_version, ..] = *svn;
        let start = if module_version == 0 { 0 } else { 2 };
        let all = reached.find(|level| reaches(svn, &level.tdx, start)).map(|level| &level.standing).ok_or(missing)?;
        Ok(PlatformStanding { sgx, all })
    }

    /// Components 0 and 2 of the greatest level: the newest TDX 1.0 module and microcode.
    pub(super) fn newest_tdx(&self) -> (u8, u8) {
        self.levels.first().map_or((u8::MAX, u8::MAX), |level| {
            let [module, _, microcode, ..] = level.tdx;
            (module, microcode)
        })
    }
}

/// Whether every component from `start` on is at least the level's.
fn reaches(got: &[u8; 16], level: &[u8; 16], start: usize) -> bool {
    got.iter().zip(level).skip(start).all(|(got, level)| got >= level)
}

impl TcbLevel {
    /// All levels, greatest first, none twice.
    fn read_all(texts: Vec<TcbLevelText>, tee_type: TeeType) -> Result<Vec<Self>, EvidenceDenial> {
        let malformed = |what| EvidenceDenial::Malformed { structure: TCB_INFO, offset: 0, what };
        let mut levels = Vec::with_capacity(texts.len());
        for text in texts {
            let tdx = match (text.tcb.tdxtcbcomponents, tee_type) {
                (Some(components), TeeType::Tdx) => components.map(|component| component.svn),
                (None, TeeType::Sgx) => [0; 16],
                _ => return Err(malformed("tdxtcbcomponents in levels of TDX, and only there")),
            };
            levels.push(Self {
                sgx: text.tcb.sgxtcbcomponents.map(|component| component.svn),
                tdx,
                pce_svn: text.tcb.pcesvn,
                standing: Standing::read(TCB_INFO, &text.tcb_status, text.advisory_ids)?,
            });
        }
        let key = |level: &Self| (level.sgx, level.tdx, level.pce_svn);
        levels.sort_by_key(|level| std::cmp::Reverse(key(level)));
        let repeated = levels.windows(2).any(|pair| matches!(pair, [a, b] if key(a) == key(b)));
        if levels.is_empty() || repeated { Err(malformed("levels, none twice")) } else { Ok(levels) }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfoText {
    id: String,
    version: u32,
    issue_date: Instant,
    next_update: Instant,
    fmspc: Hex<6>,
    pce_id: Hex<2>,
    tcb_type: u32,
    tcb_evaluation_data_number: u32,
    tdx_module: Option<ModuleText>,
    #[serde(default, deserialize_with = "capped")]
    tdx_module_identities: Vec<NamedModuleText>,
    #[serde(deserialize_with = "capped")]
    tcb_levels: Vec<TcbLevelText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModuleText {
    mrsigner: Hex<48>,
    attributes: Hex<8>,
    /// SEAMATTRIBUTES must be zero as a whole (QVL 4.1.2.4.11.2), so the mask is not applied.
    #[serde(rename = "attributesMask")]
    _attributes_mask: Hex<8>,
}

impl ModuleText {
    const fn identity(self) -> ModuleIdentity {
        ModuleIdentity { mr_signer: self.mrsigner.0, attributes: self.attributes.0 }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamedModuleText {
    id: String,
    #[serde(flatten)]
    module: ModuleText,
    #[serde(deserialize_with = "capped")]
    tcb_levels: Vec<IsvLevelText>,
}

impl NamedModuleText {
    fn read(self) -> Result<(u8, ModuleIdentity, IsvLevels), EvidenceDenial> {
        // TDX_ and the version in two hexadecimal digits
        let digits = self.id.strip_prefix("TDX_").filter(|digits| digits.len() == 2);
        let version = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|version| *version != 0);
        let version = version.ok_or_else(|| EvidenceDenial::CollateralField {
            structure: TCB_INFO,
            field: "id of a TDX module identity",
            got: self.id.escape_default().take(64).collect(),
            accepted: "TDX_ and two hexadecimal digits",
        })?;
        Ok((version, self.module.identity(), IsvLevels::read(MODULE, self.tcb_levels)?))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcbLevelText {
    tcb: TcbText,
    #[serde(rename = "tcbDate")]
    _tcb_date: Instant,
    tcb_status: String,
    #[serde(rename = "advisoryIDs", default, deserialize_with = "capped")]
    advisory_ids: Vec<String>,
}

#[derive(Deserialize)]
struct TcbText {
    sgxtcbcomponents: [ComponentText; 16],
    pcesvn: u16,
    tdxtcbcomponents: Option<[ComponentText; 16]>,
}

#[derive(Deserialize)]
struct ComponentText {
    svn: u8,
}
