//! `instructions`: how many instructions a pulled row takes. For regressions of the JSON writer: the same on a noisy machine.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use snapsync_bench::instructions::{as_json, count, markdown, table};
use snapsync_bench::marks;
use snapsync_bench::world::{World, SETTINGS};
use snapsync_e2e::cluster::Cluster;

#[derive(Parser)]
struct Arguments {
    /// write the counts here
    #[arg(long)]
    json: Option<PathBuf>,
    /// put the table here, between the lines `<!-- instructions -->` and `<!-- /instructions -->` of a file that has them
    #[arg(long)]
    markdown: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut cluster = Cluster::start(SETTINGS)?;
    World::roles(&cluster)?;
    let counted = count(&mut cluster)?;
    drop(cluster);
    print!("{}", table(&counted));
    if let Some(path) = arguments.json {
        fs::write(path, format!("{:#}\n", as_json(&counted)))?;
    }
    if let Some(path) = arguments.markdown {
        marks::replace(&path, "instructions", &markdown(&counted))?;
    }
    Ok(ExitCode::SUCCESS)
}
