//! Makes a failing case small: leaves operations out, in halves, then in smaller pieces, as long as the same kind of
//! failure comes back; then policies, statements and replicas.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::cluster::Cluster;

use super::kind::OpKind;
use super::ops::Op;
use super::plant::Plant;
use super::play::{play, Failure, Kind};
use super::settings::Settings;
use super::Case;

pub struct Shrunk {
    pub case: Case,
    pub failure: Failure,
    pub plays: u32,
}

/// `budget`: how many times the case may be played.
pub fn shrink(cluster: &Cluster, case: &Case, failure: &Failure, plant: Option<Plant>, budget: u32) -> Result<Shrunk> {
    let mut shrinker = Shrinker { cluster, kind: failure.kind, plant, plays: 0, budget };
    let mut best = (case.clone(), failure.clone());
    best.0.ops.truncate(failure.at + 1);
    shrinker.kinds(&mut best)?;
    loop {
        let before = size(&best.0);
        shrinker.operations(&mut best)?;
        shrinker.statements(&mut best)?;
        shrinker.settings(&mut best)?;
        shrinker.world(&mut best)?;
        if size(&best.0) == before || shrinker.plays >= budget {
            break;
        }
    }
    Ok(Shrunk { case: best.0, failure: best.1, plays: shrinker.plays })
}

fn size(case: &Case) -> usize {
    let statements = |op: &Op| {
        if let Op::Write { statements, .. } = op {
            statements.len()
        } else {
            1
        }
    };
    let set = |op: &Op| op.clone().settings().map_or(0, |s| s.len());
    case.ops.iter().map(|op| statements(op) + set(op)).sum::<usize>()
        + case.world.policies_under.len()
        + case.world.enabled_under.len()
        + case.world.tables.iter().map(|t| t.policies.len() + usize::from(t.rls)).sum::<usize>()
}

/// The statements of an operation, and how many it has at least.
fn statements_of(op: &mut Op) -> Option<(&mut Vec<String>, usize)> {
    match op {
        Op::Write { statements, .. } => Some((statements, 1)),
        Op::Pull { between, .. } => Some((between, 0)),
        _ => None,
    }
}

struct Shrinker<'a> {
    cluster: &'a Cluster,
    kind: Kind,
    plant: Option<Plant>,
    plays: u32,
    budget: u32,
}

impl Shrinker<'_> {
    fn attempt(&mut self, case: Case, best: &mut (Case, Failure)) -> Result<bool> {
        if self.plays >= self.budget {
            return Ok(false);
        }
        self.plays += 1;
        // A world that cannot be made (a policy less, and a foreign key more) is no failure of the same kind.
        let Ok((_, Some(failure))) = play(self.cluster, &case, self.plant) else {
            return Ok(false);
        };
        if failure.kind != self.kind {
            return Ok(false);
        }
        let mut case = case;
        case.ops.truncate(failure.at + 1);
        *best = (case, failure);
        Ok(true)
    }

    /// Everything of one kind at once.
    fn kinds(&mut self, best: &mut (Case, Failure)) -> Result<()> {
        let present: BTreeSet<OpKind> = best.0.ops.iter().flat_map(Op::kinds).collect();
        for kind in present {
            let mut fewer = best.0.clone();
            fewer.ops.retain_mut(|op| op.leave_out(&[kind]));
            self.attempt(fewer, best)?;
        }
        Ok(())
    }

    fn operations(&mut self, best: &mut (Case, Failure)) -> Result<()> {
        let mut chunk = best.0.ops.len().div_ceil(2);
        while chunk >= 1 {
            let mut end = best.0.ops.len();
            while end > 0 {
                let start = end.saturating_sub(chunk);
                let mut fewer = best.0.clone();
                fewer.ops.drain(start..end.min(fewer.ops.len()));
                self.attempt(fewer, best)?;
                end = start.min(best.0.ops.len());
            }
            if chunk == 1 {
                break;
            }
            chunk = chunk.div_ceil(2);
        }
        Ok(())
    }

    /// Statements inside transactions, and between pages.
    fn statements(&mut self, best: &mut (Case, Failure)) -> Result<()> {
        for at in (0..best.0.ops.len()).rev() {
            let Some((statements, _)) = best.0.ops.get_mut(at).and_then(statements_of) else {
                continue;
            };
            for which in (0..statements.len()).rev() {
                let mut fewer = best.0.clone();
                if let Some((statements, least)) = fewer.ops.get_mut(at).and_then(statements_of) {
                    if statements.len() <= least || which >= statements.len() {
                        continue;
                    }
                    statements.remove(which);
                }
                self.attempt(fewer, best)?;
            }
        }
        Ok(())
    }

    /// All of a session's, then one by one; of the sessions that made the world, too.
    fn settings(&mut self, best: &mut (Case, Failure)) -> Result<()> {
        fn of(case: &mut Case, at: usize) -> Option<&mut Settings> {
            match at {
                0 => Some(&mut case.world.policies_under),
                1 => Some(&mut case.world.enabled_under),
                _ => case.ops.get_mut(at - 2)?.settings(),
            }
        }
        for at in 0..best.0.ops.len() + 2 {
            let mut usual = best.0.clone();
            match of(&mut usual, at) {
                Some(settings) if !settings.is_empty() => *settings = Settings::default(),
                _ => continue,
            }
            if self.attempt(usual, best)? {
                continue;
            }
            let mut which = 0;
            loop {
                let mut fewer = best.0.clone();
                match of(&mut fewer, at) {
                    Some(settings) if which < settings.len() => *settings = settings.without(which),
                    _ => break,
                }
                if !self.attempt(fewer, best)? {
                    which += 1;
                }
            }
        }
        Ok(())
    }

    fn world(&mut self, best: &mut (Case, Failure)) -> Result<()> {
        for table in 0..best.0.world.tables.len() {
            for policy in (0..best.0.world.tables[table].policies.len()).rev() {
                let mut fewer = best.0.clone();
                fewer.world.tables[table].policies.remove(policy);
                self.attempt(fewer, best)?;
            }
            let changes: [fn(&mut super::schema::Table); 13] = [
                |t| t.rls = false,
                |t| t.force = false,
                |t| t.parent = None,
                |t| t.text_key = false,
                |t| t.scope_values = None,
                |t| (t.scoped, t.scope_values) = (false, None),
                |t| t.soft = None,
                |t| t.partitioned = false,
                |t| t.exclude = None,
                |t| t.predicate = false,
                |t| t.columns_read = false,
                |t| t.narrow = None,
                |t| t.collection = t.name != "members",
            ];
            for change in changes {
                let mut simpler = best.0.clone();
                change(&mut simpler.world.tables[table]);
                self.attempt(simpler, best)?;
            }
        }
        Ok(())
    }
}
