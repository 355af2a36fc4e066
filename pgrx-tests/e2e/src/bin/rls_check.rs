//! `rls-check`: pulls under row-level security equal SELECT, and leak no id, while writers run.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::rls_live;
use snapsync_e2e::verdict::Verdict;

/// Users of several tenants pull while writers move rows between them.
#[derive(Parser)]
struct Arguments {
    /// transactions that must end
    #[arg(long, default_value_t = 5_000)]
    transactions: u64,
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("rls check: seed {seed}, {} transactions", arguments.transactions);
    let cluster = Cluster::start(&[])?;
    let mut verdict = Verdict::default();
    rls_live::run(&cluster, arguments.transactions, seed, &mut verdict)?;
    drop(cluster);
    Ok(verdict.close())
}
