//! `bench`: what snapsync costs, against what one would do without it. A measurement: it fails only when an answer is wrong.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{bail, ensure, Result};
use clap::Parser;
use snapsync_bench::report::{heading, Report};
use snapsync_bench::world::{World, SETTINGS};
use snapsync_bench::{machine, marks, plot, Sizes, GROUPS};
use snapsync_e2e::cluster::Cluster;

#[derive(Parser)]
// What `make bench` passes first can be given again.
#[command(args_override_self = true)]
struct Arguments {
    /// only these groups of rows, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// runs of each side
    #[arg(long, default_value_t = 9)]
    runs: usize,
    /// small tables and short slices: to see that it works
    #[arg(long)]
    quick: bool,
    /// write everything that was measured here
    #[arg(long)]
    json: Option<PathBuf>,
    /// put the table here, between the lines `<!-- bench -->` and `<!-- /bench -->` of a file that has them
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// write the plots into this directory
    #[arg(long)]
    plots: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(unknown) = arguments.only.iter().find(|o| !GROUPS.iter().any(|(name, _)| name == o)) {
        let names: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
        bail!("there is no group {unknown}; there are {}", names.join(", "));
    }
    ensure!(arguments.runs > 0, "--runs must be positive");
    let sizes = if arguments.quick { Sizes::quick(arguments.runs) } else { Sizes::full(arguments.runs) };
    let begin = Instant::now();
    let load = machine::load();
    let _awake = machine::Awake::start();
    let cluster = Cluster::start(SETTINGS)?;
    World::roles(&cluster)?;
    let mut report = Report::default();
    machine::describe(&cluster, &sizes, &mut report)?;
    if arguments.quick {
        report.condition("small tables and short slices: these figures only show that the bench works");
    }
    println!("{}", heading());
    for (name, measure) in GROUPS {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|o| o == name) {
            continue;
        }
        let began = Instant::now();
        if let Err(e) = measure(&cluster, &sizes, &mut report) {
            return Err(e.context(format!("{name}\n{}", cluster.log_tail(10))));
        }
        eprintln!("# {name}: {:.0} s", began.elapsed().as_secs_f64());
    }
    ensure!(!cluster.crashed(), "a backend died\n{}", cluster.log_tail(30));
    drop(cluster);
    report.condition(format!(
        "measured in {:.0} minutes; the machine's load (1 minute) before it began: {load}",
        begin.elapsed().as_secs_f64() / 60.0
    ));
    println!("\n{}", report.table());
    println!("{} rows, {} of them miss their figure", report.rows.len(), report.missed());

    if let Some(path) = arguments.json {
        marks::write(&path, &format!("{:#}\n", report.json()))?;
    }
    if let Some(path) = arguments.markdown {
        marks::replace(&path, "bench", &report.markdown())?;
    }
    if let Some(directory) = arguments.plots {
        for p in &report.plots {
            marks::write(&directory.join(format!("{}.svg", p.name)), &plot::svg(p))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
