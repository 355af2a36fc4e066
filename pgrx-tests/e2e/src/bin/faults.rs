//! `faults`: what happens to servers, under load, and what devices hold afterwards. See the library's `faults` module.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use snapsync_e2e::faults::app::Outcome;
use snapsync_e2e::faults::kinds::{self, Fault, SELECTION};
use snapsync_e2e::verdict::Verdict;

/// Does to servers what happens to them; afterwards every device must hold what its role may SELECT.
#[derive(Parser)]
struct Arguments {
    /// which; several times for several (default: a selection)
    #[arg(long, value_enum)]
    fault: Vec<Fault>,
    /// how often each
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// of the first run; repeats the writers' choices, not the server's timing
    #[arg(long)]
    seed: Option<u64>,
    /// succeed when devices were wrong: shows that the check notices
    #[arg(long)]
    expect_losses: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    let faults = if arguments.fault.is_empty() { SELECTION.to_vec() } else { arguments.fault.clone() };
    let mut verdict = Verdict::default();
    for fault in faults {
        let mut all = Outcome::default();
        let mut failed = Vec::new();
        for run in 0..arguments.runs {
            let seed = seed + 10 * run;
            match kinds::run(fault, seed) {
                Ok(outcome) => {
                    if outcome.wrong > 0 {
                        println!(
                            "  {fault:?}, seed {seed}: {} of {} devices are wrong",
                            outcome.wrong, outcome.devices
                        );
                        outcome.difference.samples.iter().take(4).for_each(|sample| println!("    {sample}"));
                    }
                    all.add(outcome);
                }
                Err(e) => failed.push(format!("  {fault:?}, seed {seed}: {e:#}")),
            }
        }
        failed.iter().for_each(|line| println!("{line}"));
        let what = format!(
            "{fault:?} (seed {seed}, {} runs): {} of {} devices are wrong ({} rows lost, {} ghosts, {} stale), {} collections replaced",
            arguments.runs,
            all.wrong,
            all.devices,
            all.difference.lost,
            all.difference.ghosts,
            all.difference.wrong,
            all.replaced
        );
        verdict.check(failed.is_empty() && all.devices > 0 && (all.wrong > 0) == arguments.expect_losses, what);
    }
    Ok(verdict.close())
}
