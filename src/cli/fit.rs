//! The command `fit`.

use super::{Global, Outcome};

/// Arguments of `fit`.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) fn run(_args: Args, _global: &Global) -> anyhow::Result<Outcome> {
    anyhow::bail!("not written yet")
}
