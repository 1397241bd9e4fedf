//! A fake Intel: roots, PCK certificates, collateral and quotes of TDX (DCAP quote format 4 and 5, PCS API v4, Intel SGX
//! PCK certificate and CRL profile 1.5).

mod authority;
mod body;
mod collateral;
mod machine;
mod pck;
mod qe;
mod quote;

pub use authority::{IntelAuthority, IntelKeys, PckCa, PckChain, intel_name};
pub use body::{SEPT_VE_DISABLE, TdBody};
pub use collateral::{
    Collateral, CollateralFields, IsvTcb, IsvTcbLevel, QeIdentity, TcbComponent, TcbComponents, TcbInfo, TcbLevel,
    TdxModule, TdxModuleIdentity, sign_text,
};
pub use machine::TdxMachine;
pub use pck::{PckFields, PlatformConfiguration, SGX_EXTENSIONS};
pub use qe::QeReportFields;
pub use quote::{QuoteSigning, TdQuoteFields};
