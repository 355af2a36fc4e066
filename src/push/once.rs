//! `push_id`: a push is carried out once per user and id, also when its answer was lost or when it comes twice at a time.
//!
//! A row of `snapsync.push` with a unique key is the lock: the second call waits for the first one's end, then finds its
//! answer, or nothing if the first one failed. The row says of what payload the id was, by its digest: an id that comes
//! with another payload is a mistake (or somebody guessing), and must get neither silence nor another's answer.

use serde::Deserialize;

use crate::log::{client, clock};
use crate::server::error::{code, Result, SyncError};
use crate::server::session::PerTransaction;
use crate::server::{pg, spi, subxact};
use crate::values::settings;

thread_local! {
    /// This transaction removes outdated answers.
    static OUTDATES: PerTransaction<bool> = PerTransaction::until_end();
}

pub enum Claim {
    /// Nobody has carried it out yet.
    First(Pending),
    Answered(Answered),
}

/// A claim that has to be answered.
pub struct Pending {
    push_id: String,
    who: String,
}

const CLAIM: &str = include_str!("once/claim.sql");
const ANSWERED: &str = include_str!("once/answered.sql");

/// A push that was carried out.
pub struct Answered {
    pub answer: String,
    /// What it changed, and what was changed after it, has a stamp >= this one.
    pub since: i64,
}

/// The same as it is kept; without an answer that was too long.
#[derive(Deserialize)]
struct KeptAnswer {
    same_changes: bool,
    answer: Option<String>,
    since: i64,
}

/// A longer answer is not kept: whoever may write nothing at all gets one as long as what he sends.
const LONGEST_ANSWER: usize = 1 << 20;

/// Of each client so many failures of mutations are kept, the newest. Whoever may write nothing at all can have mutations fail.
pub const MOST_FAILURES: i32 = 1_000;

/// How many outdated answers and failures a call removes on its way, and of how many bytes together, as they are stored (one has what it has).
/// As many as it can leave.
const PRUNED: [(&str, i32); 2] = [("push", 100), ("mutation_failure", MOST_FAILURES)];
const PRUNED_BYTES: i64 = 1 << 20;

pub fn claim(push_id: &str, changes: &str) -> Result<Claim> {
    let who = client::who()?;
    // Before anything is written, or locked.
    let since = clock::read_snapmin()?.snapmin;
    let args = [spi::arg(who.as_str()), spi::arg(push_id), spi::arg(changes), spi::arg(since)];
    if !spi::owner_query(CLAIM, &args)?.is_empty() {
        prune_at_end();
        return Ok(Claim::First(Pending { push_id: push_id.to_string(), who }));
    }
    let rows = spi::owner_query(ANSWERED, &args[..3])?;
    match rows.first().map(|row| row.json::<KeptAnswer>(0)).transpose()? {
        Some(KeptAnswer { same_changes: true, answer: Some(answer), since }) => {
            Ok(Claim::Answered(Answered { answer, since }))
        }
        Some(KeptAnswer { same_changes: true, answer: None, .. }) => {
            Err(SyncError::new(code::CONFLICT, "push_id was carried out, and what was answered is not kept")
                .detail("[]")
                .hint("It had more than 1 MB. Pull, and push what is left to be pushed under a new push_id."))
        }
        Some(_) => Err(SyncError::new(code::INVALID_PARAMETER, "push_id was used for other changes")
            .hint("Make a new push_id for every batch; send the same one only with the same batch.")),
        // It was pruned between the two statements.
        None => Err(SyncError::new(code::SERIALIZATION_FAILURE, "push_id is being forgotten").hint("Push again.")),
    }
}

impl Pending {
    pub fn answer(self, answer: &str) -> Result<()> {
        if answer.len() > LONGEST_ANSWER {
            return Ok(());
        }
        spi::owner_execute(
            "UPDATE snapsync.push SET answer = $3 WHERE who = $1 AND push_id = $2::uuid",
            &[spi::arg(self.who.as_str()), spi::arg(self.push_id.as_str()), spi::arg(answer)],
        )?;
        Ok(())
    }
}

/// What is outdated goes with this transaction, when it commits: much of it is others', who would wait for its end where they send a batch once more.
pub fn prune_at_end() {
    OUTDATES.with(|o| o.with(|outdates| *outdates = true));
}

/// A transaction is about to commit (not to be prepared). What goes wrong here is no reason for it to fail.
pub fn before_commit() {
    // First, for processes without a database commit, too.
    if OUTDATES.with(|o| o.with(std::mem::take)) {
        // No command is under way any more that has one.
        let _snapshot = pg::ActiveSnapshot::latest();
        _ = subxact::run(|| spi::quietly(|| spi::without_waiting(prune)));
    }
}

/// Deletes answers older than `snapsync.push_retention`, a few at a time, skipping rows that another session is deleting.
fn prune() -> Result<()> {
    for (table, most) in PRUNED {
        spi::owner_execute(
            &format!(
                "WITH outdated AS MATERIALIZED ( \
                     SELECT ctid AS place, pg_column_size(t.*)::bigint AS size FROM snapsync.{table} AS t \
                     WHERE at < now() - $1 * interval '1 second' ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED \
                 ), summed AS ( \
                     SELECT place, sum(size) OVER (ROWS UNBOUNDED PRECEDING) - size AS before FROM outdated \
                 ) \
                 DELETE FROM snapsync.{table} WHERE ctid = ANY (ARRAY(SELECT place FROM summed WHERE before < $3))"
            ),
            &[spi::arg(f64::from(settings::push_retention_seconds())), spi::arg(most), spi::arg(PRUNED_BYTES)],
        )?;
    }
    Ok(())
}
