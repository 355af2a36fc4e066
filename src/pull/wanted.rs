//! Which rows of a collection a client wants, by the scopes and keys in `filter`; and what it wanted with its last pull, by `last_filter`. The
//! server keeps nothing, so the client says both. Who leaves `last_filter` out wants what he wanted.

use std::rc::Rc;

use super::{PullRequest, Start};
use crate::collections::catalog::Collection;
use crate::server::error::Result;
use crate::server::{pg, subxact};
use crate::sight::cause::Cause;
use crate::sight::keys::KeySet;
use crate::sight::policy;
use crate::sight::scope::{Filter, Which};
use crate::values::dialect::Dialect;

/// The two filters of a call.
pub(super) struct Filters {
    now: Filter,
    last: Option<Filter>,
    dialect: Dialect,
}

/// What a client wants of one collection.
#[derive(Default)]
pub(super) struct WantedRows {
    /// None: all.
    pub scopes: Option<Vec<String>>,
    pub before: LastScopes,
    /// None: whatever their keys.
    pub keys: Option<KeySet>,
    /// What it wanted before, or how that became this, cannot be told.
    pub untold: bool,
}

/// The scopes that it wanted with its last pull.
#[derive(Default)]
pub(super) enum LastScopes {
    #[default]
    Same,
    Given {
        /// None: all.
        scopes: Option<Vec<String>>,
        /// Does the owner's expression give them now?
        owners_now: bool,
    },
    /// Those that the owner's expression gave at the cursor. Does the client name others now?
    Owners { named_now: bool },
}

impl LastScopes {
    /// Does the client ask otherwise now?
    pub fn differs(&self) -> bool {
        matches!(self, LastScopes::Given { .. } | LastScopes::Owners { named_now: true })
    }

    /// Does the client ask, since the cursor, for what the owner's expression gives? It changes with access, and the client may have been told of any of it.
    pub fn moves(&self) -> bool {
        matches!(self, LastScopes::Given { owners_now: true, .. } | LastScopes::Owners { named_now: false })
    }
}

impl WantedRows {
    /// Where the pull begins, if it would begin there for a client that asks for what it asked for before.
    pub fn start(&self, start: Start, in_pages: bool, may_lack: bool) -> Start {
        // What came with other scopes has no entries, and is in no window of the log; nor is it what a snapshot that lacks something shows of them. (Of keys each is told.)
        let untold = self.untold || (in_pages || may_lack) && self.keys.is_none() && self.before.differs();
        start.or_anew_if(untold, Cause::Filter)
    }
}

impl Filters {
    pub fn parse(request: &PullRequest, dialect: Dialect) -> Result<Filters> {
        let now = Filter::parse(Which::Filter, request.filter.as_deref())?.unwrap_or_default();
        Ok(Filters { now, last: Filter::parse(Which::LastFilter, request.last_filter.as_deref())?, dialect })
    }

    /// (Names and columns in `last_filter` that mean nothing any more are no mistake of this call.)
    pub fn check(&self, names: &[String], collections: &[Rc<Collection>]) -> Result<()> {
        self.now.check(names, collections, self.dialect)
    }

    /// Does either ask for scopes or keys of this collection?
    pub fn name(&self, name: &str) -> bool {
        self.now.names(name) || self.last.as_ref().is_some_and(|last| last.names(name))
    }

    pub fn wanted(&self, name: &str, collection: &Collection) -> Result<WantedRows> {
        let scopes = self.now.scopes(name, collection)?;
        let keys = self.now.keys(name, collection, self.dialect)?;
        let named_now = self.now.names_scopes(name, collection);
        let by_owner = collection.scope_values.is_some() && !pg::bypasses_policies();
        let Some(last) = &self.last else {
            let before = if by_owner && !named_now { LastScopes::Owners { named_now } } else { LastScopes::Same };
            let keys = keys.map(|now| KeySet { stayed: now, ..KeySet::default() });
            return Ok(WantedRows { scopes, before, keys, untold: false });
        };
        let read = || -> Result<_> {
            let given = match by_owner && !last.names_scopes(name, collection) {
                true => None,
                false => Some(last.scopes(name, collection)?),
            };
            Ok((given, last.keys(name, collection, self.dialect)?))
        };
        // Types may have changed since.
        let told = match last.holds(name, collection, self.dialect) {
            true => policy::or_unknown(subxact::run(read))?,
            false => None,
        };
        let Some((given, keys_before)) = told else {
            let keys = keys.map(|now| KeySet { gained: now, ..KeySet::default() });
            return Ok(WantedRows { scopes, before: LastScopes::Same, keys, untold: true });
        };
        let before = match given {
            None => LastScopes::Owners { named_now },
            Some(given) if given == scopes && (named_now || !by_owner) => LastScopes::Same,
            Some(given) => LastScopes::Given { scopes: given, owners_now: by_owner && !named_now },
        };
        let untold = keys.is_some() != keys_before.is_some();
        let keys = keys.map(|now| KeySet::of(keys_before.unwrap_or_default(), now));
        Ok(WantedRows { scopes, before, keys, untold })
    }
}
