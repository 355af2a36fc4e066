//! `model-check`: concurrent writers against replicas built from pull answers. See the library's `model` module.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::model::pullers::Report;
use snapsync_e2e::model::run::{run, Options, Summary};
use snapsync_e2e::naive::Cursor;
use snapsync_e2e::replica::{Applied, Difference};
use snapsync_e2e::verdict::Verdict;

/// Writers write at random while replicas pull; at the end every replica must equal the tables.
#[derive(Parser)]
struct Arguments {
    /// transactions that must commit
    #[arg(long, default_value_t = 60_000)]
    transactions: u64,
    /// repeats the writers' choices (not the server's timing)
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 6)]
    writers: usize,
    #[arg(long, default_value_t = 4)]
    pullers: usize,
    /// the cursor under test; all but snapsync are expected to lose rows
    #[arg(long, value_enum, default_value = "snapsync")]
    cursor: Cursor,
    /// no two-phase commits: each holds cursors back until it is resolved, by its nature
    #[arg(long)]
    no_prepared: bool,
    /// succeed when rows were lost: shows that the check catches a cursor that loses
    #[arg(long)]
    expect_losses: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("model check: cursor {:?}, seed {seed}, {} transactions", arguments.cursor, arguments.transactions);
    let cluster = Cluster::start(&[])?;
    let options = Options {
        transactions: arguments.transactions,
        seed,
        writers: arguments.writers,
        pullers: arguments.pullers,
        cursor: arguments.cursor,
        prepare: !arguments.no_prepared,
    };
    let mut verdict = Verdict::default();
    let summary = run(&cluster, &options, &mut verdict)?;
    judge(&options, &summary, arguments.expect_losses, &mut verdict);
    drop(cluster);
    Ok(verdict.close())
}

fn judge(options: &Options, summary: &Summary, expect_losses: bool, verdict: &mut Verdict) {
    let mut applied = Applied::default();
    let (mut closing, mut exact) = (Difference::default(), Difference::default());
    let (mut pulls, mut repeatable, mut exact_checks) = (0, 0, 0);
    let (mut pages, mut lost) = (0, 0);
    for (i, report) in summary.reports.iter().enumerate() {
        print_puller(i, report);
        applied += report.applied;
        closing.add(report.closing.clone());
        exact.add(report.exact.clone());
        pulls += report.pulls;
        repeatable += report.pulls_repeatable_read;
        exact_checks += report.exact_checks;
        pages += report.pages;
        lost += report.pages_lost;
    }
    println!(
        "{:.1} s, pulls {pulls} ({repeatable} REPEATABLE READ, {pages} pages, {lost} of them lost), rows delivered {}, resend factor {:.3}, deletions {} \
         ({} of unknown ids), created again {}, resets {} ({} rows)",
        summary.seconds,
        applied.rows,
        resend_factor(&applied),
        applied.deleted,
        applied.deleted_unknown,
        applied.created_again,
        applied.resets,
        applied.reset_rows
    );
    for sample in closing.samples.iter().chain(&exact.samples) {
        println!("  {sample}");
    }
    println!("lost {}, ghosts {}, wrong values {}", closing.lost, closing.ghosts, closing.wrong);
    verdict.check(summary.reports.len() == options.pullers, "every puller came to its end");
    if expect_losses {
        let caught = format!("the check catches {:?}: {} differences", options.cursor, closing.total());
        verdict.check(!closing.is_empty(), caught);
        return;
    }
    verdict.check(
        closing.is_empty() && !summary.reports.is_empty(),
        format!("every replica equals the tables ({} pullers)", options.pullers),
    );
    if options.cursor == Cursor::Snapsync {
        verdict.check(
            // (A short run may have none.)
            exact.is_empty() && (exact_checks > 0 || options.transactions < 2000),
            format!("a pull equals SELECT in one snapshot, while writers run ({exact_checks} comparisons)"),
        );
    }
}

/// Rows sent without a reset, for each that told the client something new.
fn resend_factor(applied: &Applied) -> f64 {
    (applied.rows - applied.reset_rows) as f64 / (applied.effective.max(1)) as f64
}

fn print_puller(i: usize, r: &Report) {
    println!(
        "puller {i}: {} pulls, {} rows held, {} delivered (first syncs {}), resend factor {:.3}, lost {}, ghosts {}, wrong {}, \
         slowest {:.0} ms",
        r.pulls,
        r.rows,
        r.applied.rows,
        r.first_sync_rows,
        resend_factor(&r.applied),
        r.closing.lost,
        r.closing.ghosts,
        r.closing.wrong,
        r.slowest.as_secs_f64() * 1000.0
    );
}
