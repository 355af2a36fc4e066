//! What was measured on.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Result;

use crate::report::Report;
use crate::wire::Wire;
use crate::world::{SETTINGS, SHORT};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;

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
         beside each other; times are a client's, over a unix socket, with the answer read to its end and thrown away; threads \
         of the scheduler's idle class keep the processors awake",
        sizes.runs
    ));
    Ok(())
}

/// Load of the last minute, which a quiet machine has below one: at the start, before anything is measured, and then ours.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// While this lives, no processor goes to sleep: a thread for each turns round when nothing else wants to run. Client and server wake
/// each other for every statement, and a virtual machine may take a millisecond to wake a processor that sleeps: ten times what is
/// measured, on both sides.
pub struct Awake {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Awake {
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..processors)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    let parameters = libc::sched_param { sched_priority: 0 };
                    // SAFETY: of this thread only; the parameters outlive the call.
                    let idle = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters) } == 0;
                    while idle && !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        Awake { stop, threads }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It does not panic; and if it did, nothing would be lost.
            let _ = thread.join();
        }
    }
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
