//! The model check catches every naive cursor, and has nothing against the one naive way that is correct. Needs no
//! extension, only a server: `SNAPSYNC_PG_BIN` says where.

use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::model::run::{run, Options};
use snapsync_e2e::naive::Cursor;
use snapsync_e2e::replica::Difference;
use snapsync_e2e::verdict::Verdict;

fn differences(cluster: &Cluster, cursor: Cursor, transactions: u64) -> Difference {
    let options = Options { transactions, seed: 1, prepare: true, writers: 6, pullers: 2, cursor };
    let mut verdict = Verdict::default();
    let summary = run(cluster, &options, &mut verdict).unwrap();
    assert_eq!(summary.reports.len(), options.pullers, "a puller or a writer failed; see above");
    let mut all = Difference::default();
    for report in summary.reports {
        all.add(report.closing);
    }
    all
}

#[test]
fn naive_cursors_lose_rows_and_are_caught() {
    if std::env::var_os("SNAPSYNC_PG_BIN").is_none() {
        println!("skipped: SNAPSYNC_PG_BIN is not set");
        return;
    }
    let cluster = Cluster::start(&[]).unwrap();
    // One after the other: each wants the machine to itself.
    for (cursor, transactions) in
        [(Cursor::UpdatedAt, 2_000), (Cursor::Nextval, 2_000), (Cursor::XminStamp, 5_000), (Cursor::OwnXidAfter, 8_000)]
    {
        let found = differences(&cluster, cursor, transactions);
        println!("{cursor:?}: lost {}, ghosts {}, wrong {}", found.lost, found.ghosts, found.wrong);
        assert!(found.total() > 0, "{cursor:?} was not caught");
    }
    let found = differences(&cluster, Cursor::OwnXid, 3_000);
    assert!(found.is_empty(), "own-xid loses nothing, but: {found:?}");
}
