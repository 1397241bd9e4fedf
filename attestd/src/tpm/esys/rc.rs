//! Response codes, sorted by what must follow (TPM 2.0 Library Part 2, 6.6; TSS 2.0 Overview, 3.4).

use tss_esapi::constants::response_code::Tss2ResponseCode;

use crate::tpm::error::TpmError;

/// TPM_RC_PCR_CHANGED: a PCR, any PCR, was extended since the policy session looked.
pub(super) const PCR_CHANGED: u32 = 0x128;
/// TPM_RC_RETRY: the command was not started; also the first use of a dictionary-attack protected key after a start.
pub(super) const RETRY: u32 = 0x922;
/// TPM_RC_HANDLE (format one): no such handle.
pub(super) const HANDLE: u32 = 0x08B;
/// TPM_RC_ECC_POINT (format one): not a point of the curve.
pub(super) const ECC_POINT: u32 = 0x0A7;

const POLICY_FAIL: u32 = 0x09D;
const LOCKOUT: u32 = 0x921;
/// TPM_RC_OBJECT_MEMORY, SESSION_MEMORY, MEMORY, SESSION_HANDLES, OBJECT_HANDLES.
const EXHAUSTED: [u32; 5] = [0x902, 0x903, 0x904, 0x905, 0x906];

/// TSS2 layers (bits 16–23) whose codes were given by a TPM: the TPM itself and a resource manager speaking for it.
const TPM_LAYERS: [u32; 2] = [0, 11];
/// Codes of the libtss2 layers after which a context is of no further use: BAD_SEQUENCE, NO_CONNECTION, TRY_AGAIN,
/// IO_ERROR, INSUFFICIENT_RESPONSE, MALFORMED_RESPONSE, GENERAL_FAILURE.
const BROKEN: [u32; 7] = [0x07, 0x08, 0x09, 0x0A, 0x15, 0x16, 0x01];

/// The raw TSS2_RC; tss-esapi shows it only as text.
fn raw(code: Tss2ResponseCode) -> u32 {
    let text = match code {
        Tss2ResponseCode::Success => return 0,
        Tss2ResponseCode::FormatZero(code) => code.to_string(),
        Tss2ResponseCode::FormatOne(code) => code.to_string(),
    };
    text.rsplit_once("0x").and_then(|(_, hex)| u32::from_str_radix(hex, 16).ok()).unwrap_or(u32::MAX)
}

/// The response code without the number of the handle, session or parameter it is about (Part 2, 6.6.2).
pub(super) const fn base(rc: u32) -> u32 {
    if rc & 0x80 == 0 { rc } else { rc & 0xBF }
}

/// Sorts what tss-esapi returned for `command`.
pub(super) fn sort(command: &'static str, error: tss_esapi::Error) -> TpmError {
    let code = match error {
        tss_esapi::Error::WrapperError(kind) => {
            return TpmError::Malformed { command, what: kind.to_string() };
        }
        tss_esapi::Error::Tss2Error(code) => raw(code),
    };
    let (layer, rc) = ((code >> 16) & 0xFF, code & 0xFFFF);
    if !TPM_LAYERS.contains(&layer) {
        return if layer == 10 || BROKEN.contains(&rc) {
            TpmError::Unreachable { command, rc: code }
        } else {
            TpmError::Malformed { command, what: format!("TSS2_RC 0x{code:08x}") }
        };
    }
    match base(rc) {
        POLICY_FAIL => TpmError::PolicyNotMet { command },
        LOCKOUT => TpmError::Lockout { command },
        known if EXHAUSTED.contains(&known) => TpmError::HandlesExhausted { command, rc },
        _ => TpmError::Refused { command, rc },
    }
}
