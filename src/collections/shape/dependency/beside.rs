//! What other sessions change beside a look: an object's own row in its catalog, and the rows in others that say what it is made of. Many
//! commands write only the latter: a child of a table that has had one, a rule or a policy, a label, a cast.

use pgrx::pg_sys;

use crate::server::memory;
use crate::server::pg::{self, CatalogIndex, KeptSnapshot, OwnRow};

/// A catalog, its index that begins with what its rows are about, that column's number, and which of these rows count.
type About = (u32, u32, u32, fn(&OwnRow) -> bool);

fn all(_: &OwnRow) -> bool {
    true
}

/// Of a relation: its own row, those that inherit from it, its rules, policies and keys, columns and triggers. (catalog/pg_inherits.h, and so on.
/// PostgreSQL 18 put a column into pg_constraint.)
const OF_RELATION: [About; 7] = [
    (RELATIONS, 2662, 1, all),
    (2611, 2187, 2, all),
    (2618, 2693, 3, all),
    (3256, 3258, 3, all),
    (2606, 2665, if cfg!(feature = "pg18") { 9 } else { 8 }, all),
    (1249, 2659, 1, all),
    (2620, 2701, 2, decides_over_keys),
];
const OF_FUNCTION: [About; 1] = [(FUNCTIONS, 2690, 1, all)];
/// Of a type: itself, its labels, its casts.
const OF_TYPE: [About; 3] = [(TYPES, 2703, 1, all), (3501, 3503, 2, all), (2605, 2661, 2, makes_json)];
const OF_OPERATOR: [About; 1] = [(OPERATORS, 2688, 1, all)];
/// Of a text search configuration: itself, and the dictionaries for each kind of token.
const OF_CONFIGURATION: [About; 2] = [(CONFIGURATIONS, 3712, 1, all), (3603, 3609, 1, all)];
const OF_DICTIONARY: [About; 1] = [(DICTIONARIES, 3605, 1, all)];

const RELATIONS: u32 = 1259;
const FUNCTIONS: u32 = 1255;
const TYPES: u32 = 1247;
const OPERATORS: u32 = 2617;
const CONFIGURATIONS: u32 = 3602;
const DICTIONARIES: u32 = 3600;

/// May this trigger keep rows from going along with a parent, or is it off? (BEFORE ROW, catalog/pg_trigger.h.) Those of ours come and go beside others' looks,
/// and change nothing for these.
fn decides_over_keys(row: &OwnRow) -> bool {
    let kind: Option<i16> = row.column(pg_sys::Anum_pg_trigger_tgtype as i16);
    let enabled: Option<i8> = row.column(pg_sys::Anum_pg_trigger_tgenabled as i16);
    kind.is_none_or(|kind| kind & 3 == 3) || enabled.is_none_or(|on| [b'D', b'R'].contains(&(on as u8)))
}

/// The number of `pg_cast.casttarget` (catalog/pg_cast.h).
const CASTTARGET: i16 = 3;

/// Of casts that of a value to JSON counts, as in `rests_on.sql`. Anybody may make others.
fn makes_json(row: &OwnRow) -> bool {
    row.column(CASTTARGET).is_none_or(|target: pg_sys::Oid| target == pg_sys::JSONOID)
}

/// Is an object being changed, or has it been since?
pub fn is_changed(class: pg_sys::Oid, object: pg_sys::Oid, since: &KeptSnapshot) -> bool {
    let about: &[About] = match class.to_u32() {
        RELATIONS => &OF_RELATION,
        FUNCTIONS => &OF_FUNCTION,
        TYPES => &OF_TYPE,
        OPERATORS => &OF_OPERATOR,
        CONFIGURATIONS => &OF_CONFIGURATION,
        DICTIONARIES => &OF_DICTIONARY,
        _ => &[],
    };
    about.iter().any(|(catalog, index, column, counts)| {
        memory::heed();
        let rows: CatalogIndex = ((*catalog).into(), (*index).into(), *column);
        pg::others_have_changed(rows, object, since, *counts)
    })
}
