//! What was measured on.

use std::fs;

use anyhow::Result;

use super::report::Report;
use super::wire::Wire;
use super::world::{SETTINGS, SHORT};
use super::Sizes;
use crate::cluster::Cluster;

/// Settings that decide what the figures mean, also where they are PostgreSQL's own.
const SHOWN: &[&str] = &["fsync", "full_page_writes", "jit", "max_parallel_workers_per_gather", "work_mem"];

pub fn describe(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut admin = Wire::connect(&cluster.config("postgres"))?;
    let version = admin.text("SELECT split_part(version(), ',', 1)")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    report.condition(format!(
        "{}, {} processors, {:.0} GB of memory; Linux {}; {version}",
        processor(),
        std::thread::available_parallelism().map_or(0, usize::from),
        memory_gb(),
        kernel.split(['-', '+']).next().unwrap_or_default().trim(),
    ));
    let mut settings = Vec::new();
    for name in SETTINGS.iter().map(|(name, _)| name).chain(SHOWN) {
        settings.push(format!("`{name}` {}", admin.text(&format!("SHOW {name}"))?));
    }
    report.condition(format!("one private cluster; {}", settings.join(", ")));
    report.condition(format!(
        "tables of eight columns: id uuid, user_id uuid, title text ({SHORT} characters), done boolean, priority int, \
         amount numeric(12,2), created_at and updated_at timestamptz; primary key, index on user_id, policy \
         `user_id = (SELECT auth.uid())`, all rows the caller's; everything in shared_buffers"
    ));
    report.condition(format!(
        "both sides in turn, order turning, {} runs after one to warm up; medians, and quartiles of the ratio of runs \
         beside each other; times are a client's, over a unix socket, with the answer read to its end and thrown away",
        sizes.runs
    ));
    Ok(())
}

/// Load of the last minute, which a quiet machine has below one: at the start, before anything is measured, and then ours.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": a processor");
    name.trim_start_matches(['\t', ' ', ':']).to_owned()
}

fn memory_gb() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kb = text.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or("0 kB");
    kb.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1e6
}
