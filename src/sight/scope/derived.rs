//! Which scopes a caller's policies leave him, where nobody has said so: found in the policies' trees, and asked as the caller, like the
//! policies themselves.
//!
//! *Why nothing is missed.* An entry tells a pull something only if the caller sees its row now, or if its old state passes the policies
//! with the rows of parents that are gone put back (policy.rs). Either way the policies' condition is true of the row, so its scope is
//! among the values that bound the column in this condition (policies/scope/bound.rs), asked in the same snapshot with the same rows put
//! back. A row that moved has an entry in the scope that it left and one in the scope where it came. Where the caller's access moved
//! otherwise since the cursor, the scopes of each of his sights are asked for (`scopes_of_sights`).

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::rc::Rc;

use pgrx::pg_sys;

use crate::collections::catalog::Collection;
use crate::policies::access::tree::relations_read;
use crate::policies::scope::bound::{BoundPart, Gives, Search};
use crate::server::error::{Remembering, Result};
use crate::server::memory::{self, Gather};
use crate::server::session::{Cached, Event};
use crate::server::spi::{self, c_string};
use crate::server::statement::kept::Key;
use crate::server::{array, pg, slot, subxact};
use crate::sight::delta::Delta;
use crate::sight::policy::query::{self, Past, Put};
use crate::sight::policy::{self, Condition, Judge};
use crate::sight::reach::{Reach, BATCH};

/// Whoever has more scopes reads the entries of all.
const SCOPES: usize = 10_000;

/// The scopes to read.
#[derive(Default)]
pub struct Derived {
    /// None: all.
    pub scopes: Option<Vec<String>>,
    /// Who judges old rows, where that had to be found out.
    pub judge: Option<Judge>,
}

/// How a bound's queries say what they find.
struct BoundForm {
    parts: Vec<FormPart>,
    /// The tables in them.
    reads: BTreeSet<u32>,
}

impl BoundForm {
    fn of(sources: &[BoundPart]) -> BoundForm {
        // SAFETY: queries of our own, which are only read.
        let read = sources.iter().flat_map(|s| unsafe { relations_read(s.query.cast()) }.into_keys());
        let reads = read.map(|table| pg::root_of(table.into()).to_u32()).gather();
        let part = |s: &BoundPart| FormPart { gives: s.gives, column: s.column, whole: s.whole };
        BoundForm { parts: sources.iter().map(part).gather(), reads }
    }
}

#[derive(Clone, Copy)]
struct FormPart {
    gives: Gives,
    column: i16,
    whole: bool,
}

thread_local! {
    /// None: the policies do not bound the column.
    static FORMS: Cached<HashMap<Key, Option<Rc<BoundForm>>>> = Cached::until(Event::Plan);
}

/// The caller's scopes, for a pull of what happened since the cursor of this reach.
pub fn scopes(collection: &Rc<Collection>, reach: &mut Reach, patience: Patience) -> Result<Derived> {
    scopes_beside(collection, reach, None, &mut Price::of(patience))
}

/// The same; what it may cost goes by what has changed since the cursor of `counted`.
fn scopes_beside(
    collection: &Rc<Collection>,
    reach: &mut Reach,
    counted: Option<&Reach>,
    price: &mut Price,
) -> Result<Derived> {
    let relation = collection.relation;
    let Some(column) = &collection.logged_scope else { return Ok(Derived::default()) };
    // Whom policies spare sees all rows.
    if !pg::rls_active(relation) {
        return Ok(Derived::default());
    }
    let bound = || Ok(derive(relation, column.attnum));
    let known_as = KnownAs { relation, text: &format!("{TEXT} of {}", column.attnum) };
    let (form, mut sources) = form(&known_as, bound)?;
    let Some(form) = form else { return Ok(Derived::default()) };
    let parents = collection.access.iter().filter(|a| a.parent);
    let judge = if parents.into_iter().any(|a| form.reads.contains(&a.relation.to_u32())) {
        match reach.judge(collection)? {
            Some(judge) => Some(judge),
            None => return Ok(Derived::default()),
        }
    } else {
        None
    };
    let past = Past { shadows: judge.as_ref().map_or(&[][..], Judge::shadows), former: None };
    let counted = counted.unwrap_or(reach);
    let before = *price;
    let mut asked = ask(&known_as, &form, sources.take(), &past, counted, price)?;
    if matches!(asked, ScopesAsked::Unplanned) {
        *price = before;
        asked = ask(&known_as, &form, bound()?, &past, counted, price)?;
    }
    let ScopesAsked::Scopes(scopes) = asked else { return Ok(Derived { scopes: None, judge }) };
    Ok(Derived { scopes: Some(scopes.into_iter().gather()), judge })
}

/// The scopes that the policies left the caller in any of his sights since the cursor, or leave him now: for a pull of what happened since then, where his access moved. Each sight has been
/// looked back to. None: all.
///
/// For clients whose cursor is exact: they know what happened in the order of the stamps. A state counts only if the policies showed it as of a sight that it fell into, or show it as of now (`Delta::visible`). So its scope is among those that bound the column there.
pub fn scopes_of_sights(collection: &Rc<Collection>, delta: &Delta, reach: &Reach) -> Result<Option<Vec<String>>> {
    let relation = collection.relation;
    let Some(column) = &collection.logged_scope else { return Ok(None) };
    let worth = delta.sights_before() * SIGHT;
    if !pg::rls_active(relation) || reach.count_changed(relation, worth)? < worth {
        return Ok(None);
    }
    let mut price = Price::of(Patience::Pull);
    let now = scopes_beside(collection, &mut reach.after(delta.last_end()), Some(reach), &mut price)?;
    let Some(now) = now.scopes else { return Ok(None) };
    let mut all: BTreeSet<String> = now.into_iter().gather();
    let known_as = KnownAs { relation, text: TEXT };
    for sight in 0..delta.sights_before() {
        memory::heed();
        let Some(sources) = derive(relation, column.attnum) else { return Ok(None) };
        let past = Past { shadows: &[], former: Some(delta.former(sight)?) };
        let form = BoundForm::of(&sources);
        let ScopesAsked::Scopes(scopes) = ask(&known_as, &form, Some(sources), &past, reach, &mut price)? else {
            return Ok(None);
        };
        memory::extend(&mut all, scopes);
        if all.len() > SCOPES {
            return Ok(None);
        }
    }
    Ok(Some(all.into_iter().gather()))
}

/// To ask for the scopes of a sight takes as long as to read what others have changed of so many rows: most of it is planning (half a millisecond).
const SIGHT: usize = 100;

/// An owner's conditions on the rows of a table, and how one of them becomes a tree.
pub struct OwnedConditions<'a> {
    /// The table for which they were given.
    pub reader: pg_sys::Oid,
    pub texts: &'a [String],
    /// None where it cannot be read any more.
    pub read: &'a dyn Fn(&str) -> Result<Option<CString>>,
}

/// The values that a column of a table can have in rows for which one of these conditions on its rows alone holds, for the caller; None: any,
/// for all that is known. In order. The conditions are nodeToString of expressions over range table entry 1.
pub fn satisfying(
    relation: pg_sys::Oid,
    column: i16,
    conditions: &[CString],
    owned: &OwnedConditions,
    reach: &Reach,
) -> Result<Option<Vec<String>>> {
    let trees: Vec<_> = conditions.iter().map(|tree| tree.to_string_lossy()).gather();
    let texts = owned.texts.iter().map(|text| format!("{} {text}", text.len()));
    // They are the name that plans are kept under. An owner's words mean what they may mean to him: what is found is for his table.
    let mut name = format!("{TEXT} of {column} by {}", trees.join(" or "));
    if !owned.texts.is_empty() {
        name += &format!(" and of {}: {}", owned.reader.to_u32(), texts.gather::<Vec<_>>().join(" or "));
    }
    if name.len() > LONGEST {
        return Ok(None);
    }
    let bound = || {
        let (mut parts, mut given) = (Vec::new(), Vec::new());
        for text in owned.texts {
            let Some(tree) = (owned.read)(text)? else { return Ok(None) };
            memory::push(&mut given, tree)?;
        }
        for tree in conditions.iter().chain(&given) {
            // SAFETY: the text of a tree that this server wrote, in this session.
            let found = unsafe {
                let tree = pg_sys::stringToNode(tree.as_ptr()).cast();
                Search { column: Some(column), ..Search::default() }.bound(tree)
            };
            let Some(found) = found else { return Ok(None) };
            memory::extend(&mut parts, found);
        }
        Ok(Some(parts))
    };
    values_at_any_time(&KnownAs { relation, text: &name }, bound, reach)
}

/// The same of the rows that the caller's policies let him see, now and at any time since they were made: of policies that ask other tables
/// that cannot be said. For whom policies do not spare.
pub fn seen(relation: pg_sys::Oid, column: i16, reach: &Reach) -> Result<Option<Vec<String>>> {
    let known_as = KnownAs { relation, text: &format!("{TEXT} of {column}") };
    values_at_any_time(&known_as, || Ok(derive(relation, column)), reach)
}

fn values_at_any_time(
    known_as: &KnownAs,
    bound: impl Fn() -> Result<Sources>,
    reach: &Reach,
) -> Result<Option<Vec<String>>> {
    let (form, mut sources) = form(known_as, &bound)?;
    let Some(form) = form.filter(|form| form.reads.is_empty()) else { return Ok(None) };
    let now = Past::default();
    let mut price = Price::of(Patience::Pull);
    let mut asked = ask(known_as, &form, sources.take(), &now, reach, &mut price)?;
    if matches!(asked, ScopesAsked::Unplanned) {
        price = Price::of(Patience::Pull);
        asked = ask(known_as, &form, bound()?, &now, reach, &mut price)?;
    }
    let ScopesAsked::Scopes(values) = asked else { return Ok(None) };
    Ok(Some(values.into_iter().gather()))
}

/// So many bytes of conditions are asked for the values that they leave.
const LONGEST: usize = 32 << 10;

/// What forms and plans are kept under.
struct KnownAs<'a> {
    relation: pg_sys::Oid,
    text: &'a str,
}

/// What bounds the column in the policies that apply to the caller.
fn derive(relation: pg_sys::Oid, column: i16) -> Option<Vec<BoundPart>> {
    match policy::selectable(relation) {
        Condition::All => None,
        Condition::None => Some(Vec::new()),
        // SAFETY: a copy of the policies' trees.
        Condition::Where(conditions) => unsafe {
            let all = pg_sys::make_ands_explicit(conditions).cast();
            Search { column: Some(column), ..Search::default() }.bound(all)
        },
    }
}

type Sources = Option<Vec<BoundPart>>;

/// The form of the bound; and its queries, if they had to be made for it.
fn form(known_as: &KnownAs, bound: impl Fn() -> Result<Sources>) -> Result<(Option<Rc<BoundForm>>, Sources)> {
    let key = Key::of(known_as.relation, Some(&c_string(known_as.text)?));
    let then = FORMS.with(Cached::now);
    if let Some(known) = FORMS.with(|f| f.look(|forms| forms.get(&key).cloned())) {
        return Ok((known, None));
    }
    let sources = bound()?;
    let form = sources.as_ref().map(|sources| Rc::new(BoundForm::of(sources)));
    FORMS.with(|f| {
        f.remember(then, |forms| {
            if forms.len() >= KNOWN {
                forms.clear();
            }
            forms.insert(key, form.clone());
        })
    });
    Ok((form, sources))
}

/// So many forms are remembered, of tables and roles.
const KNOWN: usize = 1_024;

const TEXT: &str = "snapsync scopes";

enum ScopesAsked {
    Scopes(BTreeSet<String>),
    /// All of them: a way in is open to every row, or they are too many, or it would be too dear.
    All,
    Unplanned,
}

/// Asks as the caller. What fails is no error of his: then all entries are read, which the policies judge.
fn ask(
    known_as: &KnownAs,
    form: &BoundForm,
    sources: Sources,
    past: &Past,
    counted: &Reach,
    price: &mut Price,
) -> Result<ScopesAsked> {
    if form.parts.is_empty() {
        return Ok(ScopesAsked::Scopes(BTreeSet::new()));
    }
    let _scratch = pg::Scratch::new(c"snapsync scopes");
    let asked = subxact::run(|| {
        let (_depth, _remembering) = (spi::DepthGuard::enter(), Remembering::start());
        let mut found = ScopeTexts::default();
        for (i, part) in form.parts.iter().enumerate() {
            let key = Key::of(known_as.relation, Some(&c_string(&format!("{} {i}", known_as.text))?));
            let query = sources.as_ref().and_then(|s| s.get(i)).map(|s| s.query);
            let mut output = None;
            // SAFETY: the executor's slot, which has this column; the query is used here only.
            let put = unsafe {
                let mut each = |row| {
                    found.take(row, part.gives, part.column, &mut output);
                    !found.all
                };
                let mut affords = |cost| {
                    // (What is asked as of a sight, no statement asks again.)
                    price.add(cost, part.whole && past.former.is_none());
                    let keys = price.keys();
                    Ok(keys == 0 || counted.count_changed(known_as.relation, keys)? >= keys)
                };
                query::part(query, past, Some(key), &mut affords, &mut each)?
            };
            match put {
                Put::Answered if found.all => return Ok(ScopesAsked::All),
                Put::Answered => {}
                Put::Unplanned => return Ok(ScopesAsked::Unplanned),
                Put::Declined => return Ok(ScopesAsked::All),
            }
        }
        Ok(ScopesAsked::Scopes(found.scopes))
    });
    Ok(policy::or_unknown(asked)?.unwrap_or(ScopesAsked::All))
}

/// Whose scopes are asked for.
#[derive(Clone, Copy)]
pub enum Patience {
    Pull,
    /// Who knows his scopes is not woken by what happens in others: each time he looked, the policies would ask as much.
    Wait,
}

impl Patience {
    /// So much is spent in any case, in the planner's units: 2 ms, or 20.
    fn spent(self) -> f64 {
        match self {
            Patience::Pull => 200.0,
            Patience::Wait => 2_000.0,
        }
    }
}

/// What it costs to ask for scopes, in the planner's units (10 us).
#[derive(Clone, Copy)]
struct Price {
    spent: f64,
    all: f64,
    /// Of that, what the policies themselves ask in each statement that they are put to.
    whole: f64,
}

/// What each row takes that somebody else has changed: its entry is read, and the row is looked up under policies that find little to do (5 us).
const ROW: f64 = 0.5;

impl Price {
    fn of(patience: Patience) -> Price {
        Price { spent: patience.spent(), all: 0.0, whole: 0.0 }
    }

    fn add(&mut self, cost: f64, whole: bool) {
        self.all += cost;
        self.whole += if whole { cost } else { 0.0 };
    }

    /// From how many changed rows on it is worth that: to read them all takes as many look-ups, and the policies, which are put to a batch of them
    /// at a time, ask what they ask whole for each batch anew. (So where all is asked whole, a batch of them is enough, however dear it is.)
    fn keys(&self) -> usize {
        let keys = (self.all - self.spent) / (ROW + self.whole / BATCH as f64);
        if keys.is_nan() {
            usize::MAX
        } else {
            keys.ceil().max(0.0) as usize
        }
    }
}

#[derive(Default)]
struct ScopeTexts {
    scopes: BTreeSet<String>,
    all: bool,
}

/// How values of a type are written.
struct TextOutput {
    type_: pg_sys::Oid,
    function: pg_sys::FmgrInfo,
}

impl ScopeTexts {
    /// Takes what a row says.
    ///
    /// # Safety
    /// The executor's slot, of a query that gives this in this column.
    unsafe fn take(&mut self, row: slot::Slot, gives: Gives, column: i16, output: &mut Option<TextOutput>) {
        // SAFETY: see above; a datum of the column's type, which is detoasted where it is an array.
        unsafe {
            let Some(datum) = slot::value(row, column).filter(|_| !self.all) else { return };
            if gives == Gives::Everything {
                self.all = datum.value() as u8 != 0;
                return;
            }
            let type_ = pg::attribute((*row).tts_tupleDescriptor, column as usize - 1).atttypid;
            if output.is_none() {
                *output = TextOutput::of(type_, gives);
            }
            let Some(output) = output else {
                self.all = true;
                return;
            };
            if gives == Gives::Values {
                return self.add(datum, output);
            }
            for value in array::values(datum, output.type_) {
                memory::heed();
                self.add(value, output);
                if self.all {
                    break;
                }
            }
        }
    }

    /// # Safety
    /// A datum of the type that the output is for.
    unsafe fn add(&mut self, datum: pg_sys::Datum, output: &mut TextOutput) {
        // SAFETY: see above; the text is copied.
        unsafe {
            let text = pg_sys::OutputFunctionCall(&mut output.function, datum);
            self.scopes.insert(CStr::from_ptr(text).to_string_lossy().into_owned());
            pg_sys::pfree(text.cast());
        }
        self.all |= self.scopes.len() > SCOPES;
    }
}

impl TextOutput {
    /// None for a type that writes a value otherwise than the column's, or that is no array.
    ///
    /// # Safety
    /// A type; the record lives in the current memory context.
    unsafe fn of(type_: pg_sys::Oid, gives: Gives) -> Option<TextOutput> {
        // SAFETY: look-ups of existing types.
        unsafe {
            let type_ = pg_sys::getBaseType(type_);
            let element = if gives == Gives::Arrays { pg_sys::get_element_type(type_) } else { type_ };
            let base = if element == pg_sys::InvalidOid { element } else { pg_sys::getBaseType(element) };
            if !WRITTEN_ALIKE.contains(&base) {
                return None;
            }
            let (mut function, mut varlena) = (pg_sys::InvalidOid, false);
            pg_sys::getTypeOutputInfo(base, &mut function, &mut varlena);
            let mut output = TextOutput { type_: element, function: pg_sys::FmgrInfo::default() };
            pg_sys::fmgr_info(function, &mut output.function);
            Some(output)
        }
    }
}

/// The types that equality of uuid, integers and text compares (bound.rs).
const WRITTEN_ALIKE: [pg_sys::Oid; 7] = [
    pg_sys::UUIDOID,
    pg_sys::INT2OID,
    pg_sys::INT4OID,
    pg_sys::INT8OID,
    pg_sys::TEXTOID,
    pg_sys::VARCHAROID,
    pg_sys::NAMEOID,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// From how many rows on parts of these costs are worth it, those that are asked whole apart.
    fn keys(patience: Patience, whole: f64, looked_up: f64) -> usize {
        let mut price = Price::of(patience);
        price.add(whole, true);
        price.add(looked_up, false);
        price.keys()
    }

    #[test]
    fn what_is_asked_costs_no_more_than_to_read_what_others_changed() {
        let pull = |whole, looked_up| keys(Patience::Pull, whole, looked_up);
        assert_eq!((pull(0.0, 0.0), pull(200.0, 0.0), pull(100.0, 100.0)), (0, 0, 0));
        // 5 us for each row.
        assert_eq!((pull(0.0, 201.0), pull(0.0, 1_200.0), pull(0.0, 1e6)), (2, 2_000, 1_999_600));
        // And what the policies ask anyway, once for each thousand of them.
        assert_eq!((pull(500.0, 0.0), pull(1_200.0, 0.0)), (300, 589));
        assert!((999..=BATCH).contains(&pull(1e9, 0.0)));
        assert_eq!(pull(500.0, 700.0), 1_000);
        assert_eq!((keys(Patience::Wait, 2_000.0, 0.0), keys(Patience::Wait, 0.0, 3_000.0)), (0, 2_000));
        assert_eq!((pull(0.0, f64::INFINITY), pull(f64::INFINITY, 0.0)), (usize::MAX, usize::MAX));
    }
}
