//! In which order collections are written: parents before children, and together what refers to each other in a circle.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::item::What;
use super::target::Target;
use crate::collections::catalog::{self, Collection};
use crate::collections::facts::{self, Facts};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};

/// Targets that are written together: parents first, as far as that is no circle.
pub struct Stage {
    pub targets: Vec<usize>,
    /// The same in the other order of the push, as far as keys without nulls leave that open.
    pub turned: Vec<usize>,
    /// They refer to each other or to themselves: one statement has to write them all, because foreign keys are checked at
    /// a statement's end.
    pub circular: bool,
    /// Foreign keys refer to one of them.
    pub referenced: bool,
    /// Triggers or rules of an owner run where rows of one of them are deleted: they may do as a foreign key does.
    pub cascades: bool,
    /// Policies of others of the push read one of them.
    pub decides: bool,
    /// It decides, or one that does refers to it.
    pub early: bool,
}

/// The stages of a push, parents first.
pub fn stages(targets: &[Target]) -> Result<Vec<Stage>> {
    let mut nodes: Vec<(u32, Vec<usize>)> = Vec::new();
    for (i, target) in targets.iter().enumerate() {
        let relation = target.collection.relation.to_u32();
        match nodes.iter_mut().find(|(r, _)| *r == relation) {
            Some((_, members)) => members.push(i),
            None => nodes.push((relation, vec![i])),
        }
    }
    let place: HashMap<u32, usize> = nodes.iter().enumerate().map(|(i, (r, _))| (*r, i)).gather();
    let mut parents: Vec<Vec<usize>> = memory::filled(Vec::new(), nodes.len());
    let mut needed: Vec<Vec<usize>> = memory::filled(Vec::new(), nodes.len());
    let mut referenced = memory::filled(false, nodes.len());
    let mut cascades = memory::filled(false, nodes.len());
    for (parent, (_, members)) in nodes.iter().enumerate() {
        let facts = Facts::of(&targets[members[0]].collection)?;
        referenced[parent] = !facts.referenced_by.is_empty();
        cascades[parent] = facts.fires & What::Delete.event(&targets[members[0]].collection) != 0;
        for child in facts.referenced_by.iter().filter_map(|r| place.get(r)) {
            parents[*child].push(parent);
        }
        memory::extend(&mut needed[parent], facts.needs.iter().filter_map(|r| place.get(r)).copied());
    }
    let mut decides = memory::filled(false, nodes.len());
    for (reader, (_, members)) in nodes.iter().enumerate() {
        for read in read_by_policies(&targets[members[0]].collection)? {
            if let Some(&read) = place.get(&read).filter(|read| **read != reader) {
                decides[read] = true;
            }
        }
    }
    let mut early = decides.clone();
    let mut open: Vec<usize> = (0..nodes.len()).filter(|&node| early[node]).gather();
    while let Some(node) = open.pop() {
        memory::extend(&mut open, parents[node].iter().copied().filter(|&p| !std::mem::replace(&mut early[p], true)));
    }
    // Of a circle those are later that need others: a key without nulls says so.
    let (forth, back) = (ranks(&needed, false), ranks(&needed, true));
    let targets = |members: &[usize], rank: &[usize]| {
        let mut members: Vec<usize> = members.iter().copied().gather();
        memory::sort_by(&mut members, |one, other| rank[*one].cmp(&rank[*other]));
        members.iter().flat_map(|&m| nodes[m].1.iter().copied()).gather()
    };
    let stage = |members: Vec<usize>| Stage {
        circular: members.len() > 1 || parents[members[0]].contains(&members[0]),
        referenced: members.iter().any(|&m| referenced[m]),
        cascades: members.iter().any(|&m| cascades[m]),
        decides: members.iter().any(|&m| decides[m]),
        early: members.iter().any(|&m| early[m]),
        targets: targets(&members, &forth),
        turned: targets(&members, &back),
    };
    Ok(components(&parents).into_iter().map(stage).gather())
}

/// The places of the nodes of a graph in an order in which each comes after those it points to, as far as that is no circle: else in their own order, or the other one.
pub fn ranks(edges: &[Vec<usize>], turned: bool) -> Vec<usize> {
    let mut ranks = memory::filled(0, edges.len());
    let all = parts(edges, turned).into_iter().flatten();
    all.enumerate().for_each(|(rank, node)| ranks[node] = rank);
    ranks
}

/// The same, with one number for all nodes of a circle.
pub fn grades(edges: &[Vec<usize>], turned: bool) -> Vec<usize> {
    let mut grades = memory::filled(0, edges.len());
    let all = parts(edges, turned).into_iter().enumerate();
    all.for_each(|(grade, nodes)| nodes.into_iter().for_each(|node| grades[node] = grade));
    grades
}

/// The components of a graph, each after those it points to, else in the nodes' own order, or the other one.
fn parts(edges: &[Vec<usize>], turned: bool) -> Vec<Vec<usize>> {
    let numbered = |node: usize| if turned { edges.len() - 1 - node } else { node };
    let to = |node: usize| edges[numbered(node)].iter().map(|&to| numbered(to)).gather::<Vec<usize>>();
    let parts = components(&(0..edges.len()).map(to).gather::<Vec<_>>()).into_iter();
    parts.map(|nodes| nodes.into_iter().map(numbered).gather()).gather()
}

/// How many foreign keys a push that fails looks through, and partitions, each of some microseconds.
pub const MOST_KEYS: usize = 10_000;

/// What the stages of a push have to do with each other beyond that: only a push that fails asks.
pub struct Ties {
    /// The stages whose rows hang on those of this one, by foreign keys of whatever tables in between: what becomes of them where one is deleted.
    pub below: Vec<Vec<usize>>,
    /// The stages whose rows the policies of this one read.
    pub reads: Vec<Vec<usize>>,
    /// All stages: those first that hang on others, or whose policies read others, as far as that is no circle.
    pub children_first: Vec<usize>,
    /// All stages, in the order of the push: but those first that hang on others, or whose policies read others.
    pub turned: Vec<usize>,
}

impl Ties {
    pub fn of(targets: &[Target], stages: &[Stage]) -> Result<Ties> {
        let relation = |target: usize| targets[target].collection.relation;
        let all =
            || stages.iter().enumerate().flat_map(|(s, stage)| stage.targets.iter().map(move |t| (relation(*t), s)));
        let stage_of: HashMap<u32, usize> = all().map(|(relation, stage)| (relation.to_u32(), stage)).gather();
        let keys = match stages.iter().any(|stage| stage.referenced) {
            true => facts::referred_to(all().map(|(relation, _)| relation).gather(), MOST_KEYS)?,
            false => Some(Vec::new()),
        };
        let hanging = keys.map(|keys| {
            let mut hanging: HashMap<u32, Vec<u32>> = HashMap::new();
            for (parent, child) in keys {
                memory::heed();
                hanging.entry(parent).or_default().push(child);
            }
            hanging
        });
        let mut below: Vec<Vec<usize>> = memory::list(stages.len());
        let mut reads: Vec<Vec<usize>> = memory::list(stages.len());
        for stage in stages {
            let mut read = HashSet::new();
            let tables = stage.targets.iter().map(|t| relation(*t).to_u32()).gather();
            for target in &stage.targets {
                let collection = &targets[*target].collection;
                memory::extend(&mut read, Facts::of(collection)?.read_by_policies.iter().copied());
                memory::extend(&mut read, read_by_policies(collection)?);
            }
            // (In their own order: a hash set's is another one each time.)
            let stages_of = |tables: HashSet<u32>| {
                let stages: BTreeSet<usize> = tables.iter().filter_map(|t| stage_of.get(t)).copied().gather();
                stages.into_iter().gather()
            };
            below.push(match &hanging {
                Some(hanging) => stages_of(reached_from(tables, hanging)),
                // So many are not looked through: then everything may hang on whatever is referred to.
                None => (0..stages.len()).filter(|_| stage.referenced).gather(),
            });
            reads.push(stages_of(read));
        }
        let mut children_first: Vec<usize> = components(&reads).into_iter().flatten().gather();
        children_first.reverse();
        let mut before = below.clone();
        for (reader, read) in reads.iter().enumerate() {
            read.iter().for_each(|stage| before[*stage].push(reader));
        }
        let turned = components(&before).into_iter().flatten().gather();
        Ok(Ties { below, reads, children_first, turned })
    }

    /// May what becomes of the one's rows decide what can become of the other's, as far as keys and policies say?
    pub fn are_tied(&self, one: usize, other: usize) -> bool {
        let by = |edges: &[Vec<usize>]| edges[one].contains(&other) || edges[other].contains(&one);
        one == other || by(&self.below) || by(&self.reads)
    }
}

/// The tables that are reached from these, by edges.
fn reached_from(mut open: Vec<u32>, edges: &HashMap<u32, Vec<u32>>) -> HashSet<u32> {
    let mut reached = HashSet::new();
    while let Some(table) = open.pop() {
        memory::heed();
        let next = edges.get(&table).into_iter().flatten().copied();
        memory::extend(&mut open, next.filter(|table| reached.insert(*table)));
    }
    reached
}

/// The tables that decide who sees the collection's rows: those that its policies read, and what the policies of these read.
pub fn read_by_policies(collection: &Rc<Collection>) -> Result<HashSet<u32>> {
    let mut read = HashSet::new();
    let mut readers = vec![Rc::clone(collection)];
    while let Some(reader) = readers.pop() {
        for access in &reader.access {
            if read.insert(access.relation.to_u32()) {
                memory::extend(&mut readers, catalog::tracked(access.relation)?);
            }
        }
    }
    Ok(read)
}

/// The strongly connected components of a graph, each after those it points to (Tarjan). Without recursion: a chain may be as long as a push has rows.
pub fn components(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let n = edges.len();
    let (mut index, mut low) = (memory::filled(UNSEEN, n), memory::filled(0, n));
    let (mut on_stack, mut stack, mut found) = (memory::filled(false, n), Vec::new(), Vec::new());
    let mut next = 0;
    for root in 0..n {
        // The nodes that are just being visited, and how many of their edges have been followed.
        let mut path: Vec<(usize, usize)> = Vec::new();
        memory::extend(&mut path, (index[root] == UNSEEN).then_some((root, 0)));
        while let Some((node, followed)) = path.pop() {
            memory::heed();
            if followed == 0 {
                (index[node], low[node], on_stack[node]) = (next, next, true);
                memory::extend(&mut stack, [node]);
                next += 1;
            } else if on_stack[edges[node][followed - 1]] {
                low[node] = low[node].min(low[edges[node][followed - 1]]);
            }
            match edges[node].get(followed) {
                Some(&to) if index[to] == UNSEEN => memory::extend(&mut path, [(node, followed + 1), (to, 0)]),
                Some(_) => memory::extend(&mut path, [(node, followed + 1)]),
                None if low[node] == index[node] => {
                    let at = stack.iter().rposition(|member| *member == node).unwrap_or(0);
                    let mut members = stack.split_off(at);
                    members.iter().for_each(|member| on_stack[*member] = false);
                    members.sort_unstable();
                    found.push(members);
                }
                None => {}
            }
        }
    }
    found
}

/// The same, each no later than it has to be: of those that may come next the one whose first node, of the first so many, stands first. (What has none of these comes at once.)
pub fn components_in_order(edges: &[Vec<usize>], first: usize) -> Vec<Vec<usize>> {
    let found = components(edges);
    let mut of_node = memory::filled(0, edges.len());
    for (part, nodes) in found.iter().enumerate() {
        nodes.iter().for_each(|&node| of_node[node] = part);
    }
    let (mut waits_for, mut before) = (memory::filled(0, found.len()), memory::filled(Vec::new(), found.len()));
    for (part, nodes) in found.iter().enumerate() {
        memory::heed();
        for to in nodes.iter().flat_map(|&node| &edges[node]).map(|&to| of_node[to]).filter(|&to| to != part) {
            waits_for[part] += 1;
            memory::extend(&mut before[to], [part]);
        }
    }
    let place = |part: usize| found[part].first().filter(|&&node| node < first).map_or(0, |node| node + 1);
    let mut ready: BTreeSet<(usize, usize)> = BTreeSet::new();
    memory::extend(&mut ready, (0..found.len()).filter(|&part| waits_for[part] == 0).map(|part| (place(part), part)));
    let mut order: Vec<usize> = Vec::new();
    while let Some((_, part)) = ready.pop_first() {
        memory::heed();
        memory::extend(&mut order, [part]);
        for &next in &before[part] {
            waits_for[next] -= 1;
            memory::extend(&mut ready, (waits_for[next] == 0).then(|| (place(next), next)));
        }
    }
    let mut found = found;
    order.into_iter().map(|part| std::mem::take(&mut found[part])).gather()
}

#[cfg(test)]
mod tests {
    use super::{components, components_in_order, grades, ranks};

    #[test]
    fn nothing_comes_later_than_it_has_to() {
        // 0 -> 3, and 1, 2 alone; 4 -> 5 -> 6 is told by a node of values.
        let edges = [vec![3], vec![], vec![], vec![], vec![7], vec![], vec![], vec![6]];
        let order: Vec<usize> = components_in_order(&edges, 7).into_iter().flatten().collect();
        assert_eq!(order, [1, 2, 3, 0, 5, 6, 7, 4]);
        assert_eq!(components_in_order(&[vec![1], vec![0], vec![]], 3), [vec![0, 1], vec![2]]);
    }

    /// As long as there are no edges, or all lead to earlier ones, nothing moves; and whatever is pointed to comes before.
    #[test]
    fn they_come_after_what_they_point_to() {
        let mut random = 7_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        for _ in 0..2_000 {
            let n = 1 + next(9);
            let backwards = next(2) == 0;
            let edges: Vec<Vec<usize>> = (0..n)
                .map(|node| {
                    let limit = if backwards { node } else { n };
                    (0..next(3)).filter(|_| limit > 0).map(|_| next(limit.max(1))).collect()
                })
                .collect();
            let parts = components_in_order(&edges, n);
            let mut at = vec![0; n];
            parts.iter().enumerate().for_each(|(place, nodes)| nodes.iter().for_each(|&node| at[node] = place));
            assert!(edges.iter().enumerate().all(|(node, to)| to.iter().all(|&to| at[to] <= at[node])), "{edges:?}");
            assert_eq!(parts.len(), components(&edges).len());
            if backwards {
                assert_eq!(parts.into_iter().flatten().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn finds_circles_and_puts_parents_first() {
        // 0 -> 1 <-> 2 -> 3, 4 alone, 5 -> 5
        let edges = [vec![1], vec![2], vec![1, 3], vec![], vec![], vec![5]];
        assert_eq!(components(&edges), [vec![3], vec![1, 2], vec![0], vec![4], vec![5]]);
        assert_eq!(components(&[vec![1], vec![0]]), [vec![0, 1]]);
        assert!(components(&[]).is_empty());
        let chain: Vec<Vec<usize>> = (0..300_000).map(|node| vec![(node + 1) % 300_000]).collect();
        assert_eq!(components(&chain).len(), 1);
        assert_eq!(components(&chain[..299_999].iter().cloned().chain([vec![]]).collect::<Vec<_>>()).len(), 300_000);
    }

    /// Two nodes are in one component if each can be reached from the other; and whatever can be reached comes before.
    #[test]
    fn components_are_what_can_be_reached_both_ways() {
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..2_000 {
            let n = 1 + next(8) as usize;
            let mut edges = vec![Vec::new(); n];
            (0..next(16)).for_each(|_| edges[next(n as u64) as usize].push(next(n as u64) as usize));
            let mut reached: Vec<Vec<bool>> =
                (0..n).map(|a| (0..n).map(|b| a == b || edges[a].contains(&b)).collect()).collect();
            for via in 0..n {
                for from in 0..n {
                    for to in 0..n {
                        reached[from][to] |= reached[from][via] && reached[via][to];
                    }
                }
            }
            let found = components(&edges);
            let place = |node: usize| found.iter().position(|part| part.contains(&node)).expect("each node is in one");
            let pairs = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
            for (a, b) in pairs {
                assert_eq!(place(a) == place(b), reached[a][b] && reached[b][a], "{edges:?}");
                assert!(!reached[a][b] || place(b) <= place(a), "{edges:?}");
            }
        }
    }

    #[test]
    fn nodes_of_a_circle_have_one_grade() {
        // 0 <-> 1, 2 -> 0, 3 alone
        let edges = [vec![1], vec![0], vec![0], vec![]];
        assert_eq!(grades(&edges, false), [0, 0, 1, 2]);
        assert_eq!(grades(&edges, true), [1, 1, 2, 0]);
    }

    #[test]
    fn ranks_by_the_payload_what_needs_nothing() {
        // 0 -> 2, 1 and 3 alone
        let edges = [vec![2], vec![], vec![], vec![]];
        assert_eq!(ranks(&edges, false), [1, 2, 0, 3]);
        assert_eq!(ranks(&edges, true), [3, 2, 1, 0]);
        assert_eq!(ranks(&[vec![1], vec![0]], false), [0, 1]);
        assert!(ranks(&[], true).is_empty());
    }
}
