//! `skerry simulate` (being written)
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SimulateArgs {}
pub(crate) fn run(_: &SimulateArgs, _: bool) -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("not built") }
