//! `/dev/sev-guest`, for kernels without configfs-tsm.
//!
//! Only the plain report is asked for. The extended one comes with a certificate table that the host wrote, and the
//! crate in between follows the table's offsets and lengths without bounds: a host could make this process read where it
//! must not. The certificates come through configfs-tsm instead, or from the verifier's own store.

use std::fs::File;

use sev::error::UserApiError;
use sev::firmware::guest::Firmware;

use super::error::TeeError;
use super::reports::{REPORT_DATA_BYTES, RawReport, TeeKind, TeeReports};

/// The only place that the crate opens.
pub const PLACE: &str = "/dev/sev-guest";

/// The guest's own device.
#[derive(Debug)]
pub struct SevGuest {
    privlevel: u32,
}

impl SevGuest {
    /// Reports for this VMPL, 0 unless configured.
    #[must_use]
    pub fn new(privlevel: Option<u32>) -> Self {
        Self { privlevel: privlevel.unwrap_or(0) }
    }
}

fn refused(error: UserApiError) -> TeeError {
    if let UserApiError::IOError(error) = error {
        return TeeError::of_io("asking", PLACE, &error);
    }
    TeeError::Refused { why: error.to_string() }
}

impl TeeReports for SevGuest {
    fn report(&mut self, data: &[u8; REPORT_DATA_BYTES]) -> Result<RawReport, TeeError> {
        let mut firmware = Firmware::open().map_err(|error| TeeError::of_io("opening", PLACE, &error))?;
        let outblob = firmware.get_report(None, Some(*data), Some(self.privlevel)).map_err(refused)?;
        let provider = TeeKind::SevSnp.provider().to_owned();
        Ok(RawReport { provider, outblob, auxblob: Vec::new(), manifestblob: Vec::new() })
    }

    fn probe(&mut self) -> Result<(), TeeError> {
        File::open(PLACE).map(drop).map_err(|error| TeeError::of_io("opening", PLACE, &error))
    }
}
