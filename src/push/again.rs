//! A push that comes again under its `push_id`: it was carried out, and nothing is written any more.
//!
//! Its client lost the answer. It may have pulled since, and had its own edits still to push, so they stayed on top of whatever that pull brought:
//! what others made of the same rows after the push, and what the push itself left word of. Now it takes the edits for stored. So word is left for it
//! (see [`standing`]) of all rows of the batch but those of which the log shows that they stand as the client sent them.
//!
//! Its cursor says nothing about that: some clients keep a call as it was, with the cursor, and pull beside that.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::payload::RawCollection;
use super::standing;
use super::target::Target;
use super::PushRequest;
use crate::collections::catalog;
use crate::log::change::Op;
use crate::log::client::Address;
use crate::log::journal;
use crate::log::read::{Log, Logged, Scopes};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::{pg, subxact};
use crate::sight::policy;
use crate::values::settings;

/// So many entries of the log are looked at, and for each row so many. Where there are more, nothing is shown.
const LOOKED_AT: usize = 10_000;
const FOR_EACH: usize = 20;

/// What was answered, as far as it names rows. The client keeps these as not pushed.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    rejected: Vec<Rejected>,
}

#[derive(Deserialize)]
struct Rejected {
    collection: String,
    id: String,
}

/// Leaves word of the rows of a batch that was answered so, and carried out with stamps from `since` on. What cannot be found out changes nothing
/// about the answer: the table is gone, or not the caller's to read any more.
pub fn leave_word(raw: &[RawCollection], request: &PushRequest, answer: &str, since: i64) -> Result<()> {
    journal::flush_before_reading()?;
    let rejected = serde_json::from_str(answer).map_or_else(|_| Vec::new(), |named: Named| named.rejected);
    for changes in raw {
        memory::heed();
        let rejected = rejected.iter().filter(|r| r.collection == changes.name()).map(|r| r.id.as_str());
        let rejected: HashSet<&str> = rejected.gather();
        policy::or_unknown(subxact::run(|| leave_word_of(changes, request, &rejected, since)))?;
    }
    Ok(())
}

fn leave_word_of(changes: &RawCollection, request: &PushRequest, rejected: &HashSet<&str>, since: i64) -> Result<()> {
    let form = (settings::dialect(request.dialect)?, request.device);
    let target = Target::resolve(changes, catalog::collection(changes.name())?, form, false, false)?;
    if target.is_empty() || !target.may_read_key() {
        return Ok(());
    }
    let unreadable = target.unreadable_ids()?;
    let mut ids = target.ids();
    ids.retain(|id| !unreadable.contains_key(*id) && !rejected.contains(target.as_sent(id)));
    let shown = shown(&target, &ids, request, since)?;
    ids.retain(|id| !shown.contains(*id));
    // What it deleted and no pull would send is gone for it. (Ids that never were would fill the log, too.)
    let deletions: HashSet<&str> = target.plan.deletions.iter().map(|deletion| &*deletion.id).gather();
    let deleted: Vec<&str> = ids.iter().copied().filter(|id| deletions.contains(id)).gather();
    let gone: HashSet<&str> = standing::unsent_now(&target, &deleted)?.into_iter().gather();
    let mut told: Vec<(usize, String)> =
        ids.iter().filter(|id| !gone.contains(*id)).map(|id| (0, id.to_string())).gather();
    let targets = [target];
    let target = &targets[0];
    // Other spellings of their ids are gone, of which there was word, too.
    let of = |id: &str| !rejected.contains(target.as_sent(id)) && !unreadable.contains_key(id);
    let rows = (0..).zip(&target.plan.records).filter(|(_, record)| of(&record.id)).map(|(row, _)| row);
    memory::extend(&mut told, standing::misspelt(&targets, &[rows.gather()])?);
    let told: Vec<(usize, &str)> = told.iter().map(|(target, id)| (*target, id.as_str())).gather();
    standing::leave_word(request.client_id, &targets, &told)
}

/// Those of these ids whose rows stand, or are gone, as the client sent them: so says all that the log has of them from this stamp on.
fn shown<'t>(target: &'t Target, ids: &[&'t str], request: &PushRequest, since: i64) -> Result<HashSet<&'t str>> {
    // Without a client_id no entry says that it is this client's.
    let Some(client_id) = request.client_id else { return Ok(HashSet::new()) };
    let by_key: HashMap<Cow<str>, &str> = ids.iter().map(|id| (target.comparable(id), *id)).gather();
    let wanted = |key: &str| by_key.contains_key(&target.comparable(key));
    // Also in REPEATABLE READ: the client pulls in other transactions, too.
    let snapshot = pg::ActiveSnapshot::latest();
    let log = Log::open(&snapshot)?;
    let most = LOOKED_AT + FOR_EACH * ids.len();
    let entries = log.among(target.collection.relation, since, Scopes::All, &wanted, most)?;
    let Some(entries) = entries.filter(|entries| !entries.was_reset()) else { return Ok(HashSet::new()) };
    let address = Address::of(Some(client_id))?.text;
    let is_his = |entry: &Logged| entry.as_sent && entry.origin.as_deref() == Some(client_id);
    let is_word_to_others = |entry: &Logged| entry.is_notice() && entry.origin.as_deref() != Some(address.as_str());
    let (mut his, mut doubtful) = (HashSet::new(), HashSet::new());
    entries.each(&mut |key, entries| {
        if let Some(id) = by_key.get(&target.comparable(key)) {
            for entry in entries.iter().filter(|entry| !is_word_to_others(entry)) {
                let known = if is_his(entry) { &mut his } else { &mut doubtful };
                known.insert(*id);
                if is_his(entry) && entry.op == Op::Insert {
                    // What was there before is another row.
                    doubtful.remove(id);
                }
            }
        }
        Ok(true)
    })?;
    his.retain(|id| !doubtful.contains(id));
    // Nothing in the log says of a row that it went out of sight.
    let written = target.plan.records.iter().map(|record| &*record.id).filter(|id| his.contains(id));
    for id in standing::unsent_now(target, &written.gather::<Vec<&str>>())? {
        his.remove(id);
    }
    Ok(his)
}
