//! `abuse`: the catalogue of bad input.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use snapsync_e2e::abuse;
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::verdict::Verdict;

/// Bad input is refused with SQLSTATE and hint, changes nothing, and leaves the backend alive.
#[derive(Parser)]
struct Arguments {}

fn main() -> Result<ExitCode> {
    Arguments::parse();
    let cluster = Cluster::start(&[])?;
    let mut verdict = Verdict::default();
    abuse::run(&cluster, &mut verdict)?;
    drop(cluster);
    Ok(verdict.close())
}
