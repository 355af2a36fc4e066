//! What it costs that nothing is lost: this build against one without the flush before an answer and without the locks that writers keep on the
//! log, in two clusters with `fsync` on. `make bench NAIVE=flush,locks` builds the other.

use anyhow::{ensure, Result};

use crate::report::{Goal, Report, Row, Unit};
use crate::sample::{interleave, timed, timed_each, Contestant};
use crate::wire::Wire;
use crate::world::{count, cursor, Kind, World, ME, SETTINGS, SHORT};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;

/// The bindir of the tree with the other build.
const NAIVE_BIN: &str = "SNAPSYNC_NAIVE_BIN";

const ROWS: u64 = 100_000;

/// Changed rows of a pull.
const CHANGES: u64 = 10;

/// One build's sessions.
struct Side {
    /// A commit waits for no disk.
    careless: Wire,
    /// A commit does.
    careful: Wire,
    reader: Wire,
    /// Before the changes of a pull that is repeated.
    since: String,
    /// The next row that is written.
    next: u64,
}

impl Side {
    fn new(cluster: &Cluster) -> Result<Self> {
        World::roles(cluster)?;
        let mut world = World::new(cluster, "held")?;
        world.table("todos", ROWS, SHORT, Kind::Tracked)?;
        let writer = |on: &str| -> Result<Wire> {
            let mut wire = world.owner()?;
            wire.run(&format!("SET synchronous_commit = {on}"))?;
            wire.prepare("touch", "UPDATE todos SET priority = priority + 1 WHERE id = nth_id($1::bigint)")?;
            Ok(wire)
        };
        let (careless, careful, mut reader) = (writer("off")?, writer("on")?, world.session_of(ME)?);
        reader.prepare("pull", "SELECT pull_changes('{todos}', $1)")?;
        let since = cursor(&mut world.admin)?.to_string();
        let mut side = Side { careless, careful, reader, since, next: 1 };
        side.write(true, CHANGES)?;
        let came = count(&side.reader.execute_text("pull", &[side.since.as_str()])?, "todos")?;
        ensure!(came == CHANGES as usize, "{came} rows came, not {CHANGES}");
        Ok(side)
    }

    fn write(&mut self, flushed: bool, rows: u64) -> Result<()> {
        let wire = if flushed { &mut self.careful } else { &mut self.careless };
        for _ in 0..rows {
            self.next = self.next % ROWS + 1;
            wire.execute("touch", &[&self.next.to_string()])?;
        }
        Ok(())
    }

    /// Seconds of one of the pulls of the same changes, which were flushed long ago.
    fn pull(&mut self) -> Result<f64> {
        const CALLS: usize = 200;
        let Self { reader, since, .. } = self;
        timed_each(CALLS, |_| reader.execute("pull", &[since.as_str()]).map(drop))
    }

    /// Seconds of one of the transactions.
    fn update(&mut self, flushed: bool) -> Result<f64> {
        const CALLS: u64 = 500;
        Ok(timed(|| self.write(flushed, CALLS))? / CALLS as f64)
    }

    /// Seconds of a pull of ten changes that were committed just now.
    fn fresh(&mut self, flushed: bool) -> Result<f64> {
        const CALLS: usize = 50;
        let mut seconds = 0.0;
        for _ in 0..CALLS {
            let since = cursor(&mut self.careful)?.to_string();
            self.write(flushed, CHANGES)?;
            seconds += timed(|| self.reader.execute("pull", &[since.as_str()]).map(drop))?;
        }
        Ok(seconds / CALLS as f64)
    }
}

pub fn held(_: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    if std::env::var_os(NAIVE_BIN).is_none() {
        eprintln!("# held: left out; NAIVE=flush,locks builds what it compares with");
        return Ok(());
    }
    let mut settings = SETTINGS.to_vec();
    // Both clusters live at once.
    settings.extend([("fsync", "on"), ("shared_buffers", "512MB")]);
    let clusters = (Cluster::start(&settings)?, Cluster::start_of(NAIVE_BIN, &settings)?);
    let mut both = [Side::new(&clusters.0)?, Side::new(&clusters.1)?];
    let updates = "1-row UPDATE transactions, synchronous_commit =";
    let fresh = "pull after ten such transactions, synchronous_commit =";
    type Measure = fn(&mut Side) -> Result<f64>;
    let measures: [(String, Measure); 5] = [
        (format!("pull of {CHANGES} changes"), Side::pull),
        (format!("{updates} off"), |side| side.update(false)),
        (format!("{updates} on"), |side| side.update(true)),
        (format!("{fresh} on"), |side| side.fresh(true)),
        (format!("{fresh} off"), |side| side.fresh(false)),
    ];
    // The pull of these changes comes first: it would bring the others as well.
    for (work, measure) in measures {
        let contestants: [Contestant<[Side; 2]>; 2] =
            [&|both, _| measure(&mut both[0]), &|both, _| measure(&mut both[1])];
        let samples = interleave(sizes.runs, &mut both, &contestants)?;
        let baseline = "without the flush and the kept locks";
        report.row(Row::new("held", work, baseline, Unit::Seconds, (&samples[0], &samples[1]), Goal::Report));
    }
    Ok(())
}
