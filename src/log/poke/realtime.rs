//! Pokes as broadcasts of Supabase Realtime.
//!
//! `realtime.send` is somebody's function. It runs as the owner of the collection's table, who has asked for it, in a
//! security-restricted operation; and only if it is a superuser's, in a superuser's schema, as on Supabase: it runs while others commit,
//! with a stamp that everybody's cursor waits for. Nobody else gets that owner's rights, nor that time, by making one.
//! What fails in it, or takes too long, fails no write.

use std::collections::BTreeMap;
use std::time::Duration;

use pgrx::pg_sys;
use serde::Deserialize;

use crate::server::error::{code, Result, SyncError};
use crate::server::{signal, spi, statement, subxact};
use crate::values::notify::{payload, Actions, Notify, NotifyError};

const FIND: &str = include_str!("find.sql");

/// `realtime.send`, where there is one.
#[derive(Deserialize)]
struct Sender {
    function: u32,
    trusted: bool,
    callable: bool,
    /// Whose it is, or its schema.
    whose: String,
}

fn find(relation: pg_sys::Oid) -> Result<Option<Sender>> {
    spi::query_now(FIND, &[spi::arg(relation)])?.first().map(|row| row.json(0)).transpose()
}

/// Why nothing can be sent.
fn hindrance(sender: Option<&Sender>) -> Option<SyncError> {
    let error = |code| SyncError::new(code, "cannot notify by Supabase Realtime");
    let Some(sender) = sender else {
        return Some(
            error(code::FEATURE_NOT_SUPPORTED)
                .detail("There is no function realtime.send(jsonb, text, text, boolean) in this database.")
                .hint("Realtime is a part of Supabase. On other servers use notify => 'notify'."),
        );
    };
    if !sender.trusted {
        let whose = &sender.whose;
        return Some(error(code::INSUFFICIENT_PRIVILEGE).detail(format!("{whose}, who is not a superuser.")).hint(
            "It runs while others commit. Let a superuser own both the schema and the function, as on Supabase.",
        ));
    }
    if !sender.callable {
        return Some(
            error(code::INSUFFICIENT_PRIVILEGE)
                .detail("The table's owner may not execute realtime.send.")
                .hint("GRANT USAGE ON SCHEMA realtime and EXECUTE ON FUNCTION realtime.send TO the table's owner."),
        );
    }
    None
}

/// The way that `enable` asks for, if the table's pokes can go it.
pub fn checked(relation: pg_sys::Oid, asked: &str) -> Result<Notify> {
    let notify = Notify::parse(asked)
        .map_err(|e| SyncError::new(code::INVALID_PARAMETER, e.to_string()).hint(NotifyError::HINT))?;
    if notify.by_realtime() {
        if let Some(e) = hindrance(find(relation)?.as_ref()) {
            return Err(e);
        }
    }
    Ok(notify)
}

/// So long a transaction's broadcasts take at most, all together: everybody's cursor waits for it.
pub(super) const LONGEST: Duration = Duration::from_secs(1);

/// Broadcasts to the topics of these scopes, or to the collection's own. `left`: so long it may take.
pub(super) fn send(
    relation: pg_sys::Oid,
    name: &str,
    stamp: i64,
    scopes: &BTreeMap<Option<&str>, Actions>,
    left: Duration,
) -> Result<()> {
    let sender = find(relation)?;
    let hindrance = hindrance(sender.as_ref());
    let (Some(sender), None) = (&sender, &hindrance) else {
        let why = hindrance.and_then(|e| e.detail).unwrap_or_default();
        pgrx::warning!("collection \"{name}\" is not broadcast: {why}");
        return Ok(());
    };
    let limit = signal::Limit::of(left);
    let sent = subxact::run(|| {
        spi::as_table_owner(relation, || {
            for (scope, actions) in scopes {
                let topic = match scope {
                    Some(scope) => format!("snapsync:{name}:{scope}"),
                    None => format!("snapsync:{name}"),
                };
                let payload = spi::jsonb(&payload(name, *actions, stamp, None))?;
                let payload = spi::Arg { oid: pg_sys::JSONBOID, datum: Some(payload) };
                let args = [payload, spi::arg("poke"), spi::arg(topic), spi::arg(true)];
                // The transaction has its stamp, and everybody's cursor waits for it: it waits for nobody. What is called is what was found: by
                // that name, another's may be called by now.
                spi::without_waiting(|| statement::call(sender.function.into(), &args))?;
            }
            Ok(())
        })
    });
    match sent {
        Err(e) if e.is_cancellation() && limit.is_over() => {
            pgrx::warning!("collection \"{name}\" is not broadcast: realtime.send takes too long");
            Ok(())
        }
        Err(e) if e.is_cancellation() => Err(e),
        Err(e) => {
            pgrx::warning!("collection \"{name}\" is not broadcast: {}", e.message);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
