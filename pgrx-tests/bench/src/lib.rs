//! The measurements of `make bench`: what `src/bin/bench.rs` runs. Each group makes a database of its own in
//! one private cluster, measures our way and the baseline in turn ([`sample`]), checks what is cheap to check, and adds
//! rows to the [`report`].

pub mod access;
pub mod advice;
pub mod connections;
pub mod ddl;
pub mod foreign;
pub mod held;
pub mod incremental;
pub mod instructions;
pub mod live;
pub mod machine;
pub mod marks;
pub mod memory;
pub mod plot;
pub mod pull;
pub mod push;
pub mod report;
pub mod request;
pub mod sample;
pub mod tracking;
pub mod wire;
pub mod world;

use std::time::Duration;

use anyhow::Result;

use report::Report;
use snapsync_e2e::cluster::Cluster;

/// How much of everything.
#[derive(Clone)]
pub struct Sizes {
    pub runs: usize,
    /// rows of a first pull
    pub first: u64,
    /// rows of the table that increments and pushes are measured on
    pub big: u64,
    /// rows of the pull whose memory is measured
    pub memory: u64,
    /// rows of a bulk statement
    pub bulk: u64,
    /// rows of a push
    pub push: u64,
    /// sizes of tables, for the plot
    pub tables: Vec<u64>,
    /// numbers of changes, for the plot
    pub changes: Vec<u64>,
    /// changes by other users, one in each transaction
    pub foreign: u64,
    /// how long one side of a comparison of throughput runs at a time
    pub slice: Duration,
    pub pullers: usize,
    pub writers: usize,
    pub idle: usize,
    /// numbers of synced tables that DDL is measured beside
    pub synced: Vec<usize>,
}

impl Sizes {
    pub fn full(runs: usize) -> Self {
        Sizes {
            runs,
            first: 300_000,
            big: 1_000_000,
            memory: 900_000,
            bulk: 100_000,
            push: 10_000,
            tables: vec![1_000, 10_000, 100_000, 1_000_000],
            changes: vec![1, 10, 100, 1_000, 10_000, 100_000],
            foreign: 100_000,
            slice: Duration::from_secs(2),
            pullers: 56,
            writers: 8,
            idle: 500,
            synced: vec![0, 10, 100, 1_000],
        }
    }

    /// Minutes become seconds, and figures indicative.
    pub fn quick(runs: usize) -> Self {
        Sizes {
            runs,
            first: 20_000,
            big: 50_000,
            memory: 50_000,
            bulk: 10_000,
            push: 1_000,
            tables: vec![1_000, 10_000, 50_000],
            changes: vec![1, 10, 100, 1_000],
            foreign: 10_000,
            slice: Duration::from_millis(200),
            pullers: 14,
            writers: 2,
            idle: 100,
            synced: vec![0, 10, 100],
        }
    }
}

/// A group of rows: its name for `--only`, and what measures it.
pub type Group = (&'static str, fn(&Cluster, &Sizes, &mut Report) -> Result<()>);

/// In the order of the table.
pub const GROUPS: &[Group] = &[
    ("first", pull::first),
    ("sizes", incremental::sizes),
    ("changes", incremental::changes),
    ("nothing", incremental::nothing),
    ("foreign", foreign::foreign),
    ("access", access::access),
    ("updates", tracking::updates),
    ("held", held::held),
    ("bulk", tracking::bulk),
    ("push", push::many),
    ("push-one", push::one),
    ("push-updates", push::updates),
    ("memory", memory::memory),
    ("connections", connections::connections),
    ("idle", connections::idle),
    ("advice", advice::advice),
    ("ddl", ddl::ddl),
    ("live", live::live),
];
