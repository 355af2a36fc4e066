//! `push_mutations`: a client's intentions, `[{"id": 1, "name": "like_quote", "args": {...}}]`, carried out in order by
//! functions that the database's owner registered, as the calling role, each exactly once by (user, client_id, id).
//!
//! Ids count 1, 2, 3, ... for each client. A mutation that fails is undone alone, recorded and skipped: it must not block
//! those after it, and the client learns of it from every answer to a call that contains it. So it is with one that only the commit would
//! refuse.

use std::collections::HashMap;

use pgrx::pg_sys;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::write_failure;
use super::constraints::DeferredBefore;
use super::once::{self, MOST_FAILURES};
use super::target::json_arg;
use crate::log::client;
use crate::log::journal::Origin;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::{spi, statement, subxact};
use crate::values::excerpt;
use crate::values::json::Writer;

mod list;
mod mutators;

use list::Mutation;
pub use mutators::register;
use mutators::Mutator;

const FAIL: &str = include_str!("mutate/fail.sql");
const FORGET: &str = include_str!("mutate/forget.sql");
const FAILURES: &str = include_str!("mutate/failures.sql");

/// A mutation that has failed.
#[derive(Deserialize)]
struct Failure {
    id: i64,
    name: String,
    code: String,
    message: String,
    constraint_name: Option<String>,
}

pub fn push_mutations(mutations: &str, client_id: &str) -> Result<String> {
    let hint = "Send [{\"id\": 1, \"name\": \"like_quote\", \"args\": {...}}, ...], with ids that count 1, 2, 3 for each client.";
    let malformed =
        |detail: String| SyncError::new(code::INVALID_PARAMETER, "malformed mutations").detail(detail).hint(hint);
    client::check_required(client_id)?;
    let list: Vec<Mutation> =
        list::parse(mutations, memory::heed).map_err(|e| malformed(format!("They cannot be read: {e}.")))?;
    for (at, m) in list.iter().enumerate() {
        memory::heed();
        if m.id < 1 || at > 0 && m.id != list[at - 1].id + 1 {
            return Err(malformed(format!("mutations[{at}] has the id {}: ids count up by one from 1.", m.id)));
        }
        if m.name.contains('\0') {
            return Err(malformed(format!("mutations[{at}].name: \\u0000 cannot be stored in text.")));
        }
    }
    let before = DeferredBefore::look()?;
    let who = client::who()?;
    let last = last_of(&who, client_id)?;
    if let Some(first) = list.first().filter(|m| m.id > last + 1) {
        return Err(SyncError::new(code::INVALID_PARAMETER, "mutations are missing")
            .detail(format!("The first one sent is {}, the last one known of this client is {last}.", first.id))
            .hint("Send all mutations after the last one that is known, in order. If they are not kept (an answer named them, and the server has lost them since), go on under a new client_id, from 1."));
    }
    let new: Vec<&Mutation> = list.iter().filter(|m| m.id > last).gather();
    let failures = {
        let _origin = Origin::set(Some(client_id));
        carry_out_all(&new, before)?
    };
    let reached = list.last().map_or(last, |m| m.id.max(last));
    let failures = failures.iter().map(|(m, e)| Failure::of(m, e)).gather::<Vec<Failure>>();
    keep(&who, client_id, &failures)?;
    if reached > last {
        spi::owner_execute(
            "UPDATE snapsync.mutation_client SET last_id = greatest(last_id, $3), at = now() WHERE who = $1 AND client_id = $2",
            &[spi::arg(who.as_str()), spi::arg(client_id), spi::arg(reached)],
        )?;
        once::prune_at_end();
    }
    before.leave()?;
    let first = list.first().map_or(reached, |m| m.id);
    let before = failures_before(&who, client_id, first, last)?;
    Ok(answer(reached, before.iter().chain(&failures)))
}

impl Failure {
    fn of(mutation: &Mutation, e: &SyncError) -> Failure {
        Failure {
            id: mutation.id,
            name: cut(&mutation.name, LONGEST_NAME).to_string(),
            code: e.code.as_str().to_string(),
            message: cut(&e.message, LONGEST_MESSAGE).to_string(),
            constraint_name: e.names[4].clone(),
        }
    }
}

/// Keeps the failures of this call, for who has to send it again.
fn keep(who: &str, client_id: &str, failures: &[Failure]) -> Result<()> {
    let newest = failures.len().saturating_sub(MOST_FAILURES as usize);
    for f in &failures[newest..] {
        memory::heed();
        spi::owner_execute(
            FAIL,
            &[
                spi::arg(who),
                spi::arg(client_id),
                spi::arg(f.id),
                spi::arg(f.name.as_str()),
                spi::arg(f.code.as_str()),
                spi::arg(f.message.as_str()),
                spi::arg(f.constraint_name.as_deref()),
            ],
        )?;
    }
    if !failures.is_empty() {
        spi::owner_execute(FORGET, &[spi::arg(who), spi::arg(client_id), spi::arg(MOST_FAILURES)])?;
    }
    Ok(())
}

/// What is kept of a failed mutation's name, and of what its error says, in bytes: a client chooses the one, and what a mutator says can be as long.
const LONGEST_NAME: usize = 255;
const LONGEST_MESSAGE: usize = 2_000;

/// The text, or so much of its beginning.
fn cut(text: &str, longest: usize) -> &str {
    let end = (0..=longest.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// The last mutation of this client that was carried out. Its row is the lock: a second call waits for the first.
fn last_of(who: &str, client_id: &str) -> Result<i64> {
    let args = [spi::arg(who), spi::arg(client_id)];
    loop {
        memory::heed();
        let begins = spi::owner_query(
            "INSERT INTO snapsync.mutation_client (who, client_id, last_id, at) VALUES ($1, $2, 0, now()) \
             ON CONFLICT (who, client_id) DO NOTHING RETURNING true",
            &args,
        )?;
        // What failed before the client was forgotten is no failure of the mutations that have the same numbers now.
        if !begins.is_empty() {
            spi::owner_execute("DELETE FROM snapsync.mutation_failure WHERE who = $1 AND client_id = $2", &args)?;
            return Ok(0);
        }
        let rows = spi::owner_query(
            "SELECT last_id FROM snapsync.mutation_client WHERE who = $1 AND client_id = $2 FOR UPDATE",
            &args,
        )?;
        // None: `prune` has forgotten the client between the two statements.
        if let Some(row) = rows.first() {
            return Ok(row.i64(0).unwrap_or(0));
        }
    }
}

/// Those that failed, and why.
type Failed<'m> = Vec<(&'m Mutation<'m>, SyncError)>;

/// Carries out what can be, in order. What is deferred is looked at once for all of them: to look after each would fire again what those before it
/// have left. Where that fails, all is undone and done again in halves of halves, until the culprits stand alone.
fn carry_out_all<'m>(mutations: &[&'m Mutation<'m>], before: DeferredBefore) -> Result<Failed<'m>> {
    if mutations.is_empty() {
        return Ok(Vec::new());
    }
    let mut mutators: HashMap<&str, Option<Mutator>> = HashMap::new();
    for m in mutations {
        memory::heed();
        if !mutators.contains_key(&*m.name) {
            mutators.insert(&m.name, Mutator::of(&m.name)?);
        }
    }
    let carry_out_some = |some: &[&'m Mutation<'m>]| -> Result<Failed<'m>> {
        let mut failed = Vec::new();
        for m in some {
            memory::heed();
            let mutator = mutators.get(&*m.name).and_then(Option::as_ref);
            match subxact::run(|| carry_out(&m.name, mutator, m.args.map_or("null", RawValue::get))) {
                Ok(()) => {}
                Err(e) if subxact::is_transient(&e) => return Err(e),
                Err(e) => failed.push((*m, e)),
            }
        }
        before.check(&[])?;
        Ok(failed)
    };
    let mut failures = Vec::new();
    subxact::in_halves(mutations, &carry_out_some, &mut |tried| {
        match tried {
            Ok(failed) => memory::extend(&mut failures, failed),
            Err(failed) => failures.push(failed),
        }
        Ok(true)
    })?;
    Ok(failures)
}

fn carry_out(name: &str, mutator: Option<&Mutator>, args: &str) -> Result<()> {
    let Some(mutator) = mutator else {
        return Err(SyncError::new("42883", format!("mutator \"{}\" does not exist", excerpt::name(name)))
            .hint("Register it: snapsync.register_mutator('name', 'function(json)')."));
    };
    if mutator.stranger {
        return Err(SyncError::new(code::NOT_IN_STATE, format!("mutator \"{}\" is not the function that was registered", excerpt::name(name)))
            .detail("It has another owner now, or somebody else has made one of the same name in its place.")
            .hint("If it is meant, let the database's owner register it again: snapsync.register_mutator('name', 'function(json)')."));
    }
    // What is called by its number is not looked for in its schema.
    if let Some(schema) = &mutator.hidden_in {
        return Err(SyncError::new(code::INSUFFICIENT_PRIVILEGE, format!("permission denied for schema {schema}"))
            .detail(format!("Mutator \"{}\" is in it.", excerpt::name(name)))
            .hint("Grant USAGE on the schema to who is to call it."));
    }
    // The text as it was sent: numbers keep their digits. A null in place of the arguments is JSON null, so that a STRICT function runs all the
    // same.
    let args = match mutator.takes_jsonb() {
        true => spi::Arg { oid: pg_sys::JSONBOID, datum: Some(spi::jsonb(args)?) },
        false => json_arg(args),
    };
    statement::call(mutator.function.into(), &[args])?;
    Ok(())
}

/// What is kept of those of these mutations that have failed.
fn failures_before(who: &str, client_id: &str, first: i64, last: i64) -> Result<Vec<Failure>> {
    if first > last {
        return Ok(Vec::new());
    }
    let args = [spi::arg(who), spi::arg(client_id), spi::arg(first), spi::arg(last)];
    spi::typed(&spi::owner_query(FAILURES, &args)?)
}

fn answer<'f>(last: i64, failures: impl Iterator<Item = &'f Failure>) -> String {
    let mut json = Writer::new(Vec::new());
    json.object();
    json.name("last_id");
    json.raw(&last.to_string());
    json.name("failures");
    json.array();
    for failed in failures {
        memory::heed();
        json.object();
        json.name("id");
        json.raw(&failed.id.to_string());
        json.name("name");
        json.text(&failed.name);
        write_failure(&mut json, &failed.code, &failed.message, failed.constraint_name.as_deref());
        json.end_object();
    }
    json.end_array();
    json.end_object();
    json.into_text()
}
