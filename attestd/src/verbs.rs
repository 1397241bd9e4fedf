//! What the command line does beyond the library: print, and turn outcomes into exit codes.

pub(crate) mod artifacts;
pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod enrol;
pub(crate) mod evidence;
mod failure;
mod tree;

use attestd::cli::{DemoArgs, Outcome};

/// Tells the demo's story on stdout.
pub(crate) async fn demo(arguments: DemoArgs) -> anyhow::Result<Outcome> {
    attestd::demo::run(arguments, &mut std::io::stdout()).await?;
    Ok(Outcome::Done)
}
