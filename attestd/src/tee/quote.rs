//! As much of a TDX quote as is needed to cut it at its end: the kernel gives a buffer that may be longer.
//!
//! Intel TDX DCAP Quoting Library API, A.3 (version 4) and A.4 (version 5). The verifier reads the rest, and refuses
//! trailing bytes.

use std::ops::Range;

use super::error::TeeError;

/// Quote header.
const HEADER_BYTES: usize = 48;
/// TDREPORT body of TDX 1.0 and of 1.5.
const BODY_1_0_BYTES: usize = 584;
const BODY_1_5_BYTES: usize = 648;
/// REPORTDATA within either body.
const REPORT_DATA: Range<usize> = 520..584;

/// Where the quote ends, and where its report data is.
///
/// # Errors
/// [`TeeError::Malformed`] when it is no quote of a TD, or shorter than it says.
pub(super) fn declared(bytes: &[u8]) -> Result<(usize, Range<usize>), TeeError> {
    let (body, body_bytes) = match u16_at(bytes, 0)? {
        4 => (HEADER_BYTES, BODY_1_0_BYTES),
        5 => {
            // Type (u16) and size (u32) of the body come before it.
            let body_bytes = match u16_at(bytes, HEADER_BYTES)? {
                2 => BODY_1_0_BYTES,
                3 => BODY_1_5_BYTES,
                other => return Err(malformed(format!("body type {other} is not a TD's"))),
            };
            let said = u32_at(bytes, HEADER_BYTES.saturating_add(2))?;
            if said != body_bytes {
                return Err(malformed(format!("body of {said} bytes, its type has {body_bytes}")));
            }
            (HEADER_BYTES.saturating_add(6), body_bytes)
        }
        other => return Err(malformed(format!("quote version {other}"))),
    };
    let signature_length = body.saturating_add(body_bytes);
    let end = signature_length.saturating_add(4).saturating_add(u32_at(bytes, signature_length)?);
    if end > bytes.len() {
        return Err(malformed(format!("{} bytes, it says {end}", bytes.len())));
    }
    Ok((end, body.saturating_add(REPORT_DATA.start)..body.saturating_add(REPORT_DATA.end)))
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, TeeError> {
    let field = bytes.get(offset..).and_then(<[u8]>::first_chunk::<2>);
    field.map(|field| u16::from_le_bytes(*field)).ok_or_else(|| malformed("it ends early".to_owned()))
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<usize, TeeError> {
    let field = bytes.get(offset..).and_then(<[u8]>::first_chunk::<4>);
    let value = field.map(|field| u32::from_le_bytes(*field)).and_then(|value| usize::try_from(value).ok());
    value.ok_or_else(|| malformed("it ends early".to_owned()))
}

fn malformed(why: String) -> TeeError {
    TeeError::Malformed { what: "quote", why }
}

#[cfg(test)]
mod tests {
    use super::super::reports::{RawReport, TeeKind, TeeReport};
    use super::*;

    /// A quote in form, signed by nobody; `version` 4, or 5 with a body of TDX 1.5.
    fn quote(version: u16, data: &[u8; 64]) -> Vec<u8> {
        let mut bytes = version.to_le_bytes().to_vec();
        bytes.resize(HEADER_BYTES, 0);
        let body_bytes = if version == 5 { BODY_1_5_BYTES } else { BODY_1_0_BYTES };
        if version == 5 {
            bytes.extend(3u16.to_le_bytes());
            bytes.extend(u32::try_from(body_bytes).unwrap().to_le_bytes());
        }
        let mut body = vec![0; body_bytes];
        body[REPORT_DATA].copy_from_slice(data);
        bytes.extend(body);
        bytes.extend(10u32.to_le_bytes());
        bytes.extend([0xaa; 10]);
        bytes
    }

    fn accept(outblob: Vec<u8>) -> Result<TeeReport, TeeError> {
        let raw =
            RawReport { provider: "tdx_guest".to_owned(), outblob, auxblob: Vec::new(), manifestblob: Vec::new() };
        TeeReport::accept(TeeKind::Tdx, raw, &[7; 64])
    }

    #[test]
    fn what_is_behind_the_declared_end_is_cut_off() {
        for version in [4, 5] {
            let exact = quote(version, &[7; 64]);
            let padded = [exact.as_slice(), &[0; 3000]].concat();
            assert_eq!(accept(exact.clone()).unwrap().report(), exact);
            assert_eq!(accept(padded).unwrap().report(), exact);
        }
    }

    #[test]
    fn one_defect_each_is_refused() {
        let short = |version| {
            let mut bytes = quote(version, &[7; 64]);
            bytes.pop();
            bytes
        };
        let with = |version, offset: usize, byte| {
            let mut bytes = quote(version, &[7; 64]);
            bytes[offset] = byte;
            bytes
        };
        let malformed =
            [short(4), short(5), with(4, 0, 3), with(5, 48, 1), with(5, 50, 0), vec![4], Vec::new(), with(4, 634, 1)];
        for (n, bytes) in malformed.into_iter().enumerate() {
            assert_eq!(accept(bytes).unwrap_err().code(), "fault.tee_malformed", "defect {n}");
        }
        assert_eq!(accept(quote(4, &[8; 64])).unwrap_err(), TeeError::Raced);
    }

    #[test]
    fn every_prefix_of_a_quote_is_refused() {
        for version in [4, 5] {
            let genuine = quote(version, &[7; 64]);
            for length in 0..genuine.len() {
                accept(genuine[..length].to_vec()).unwrap_err();
            }
        }
    }
}
