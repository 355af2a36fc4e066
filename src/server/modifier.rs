//! What a column's type says besides its name: `numeric(10,2)`, `varchar(3)`.

use pgrx::pg_sys;

/// The modifier of a column's type under all domains; -1 if it has none.
pub fn of_column(relation: pg_sys::Oid, attnum: i16) -> i32 {
    let (mut oid, mut modifier, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
    // SAFETY: reads the catalog, of a table that is locked.
    unsafe {
        pg_sys::get_atttypetypmodcoll(relation, attnum, &mut oid, &mut modifier, &mut collation);
        pg_sys::getBaseTypeAndTypmod(oid, &mut modifier);
    }
    modifier
}
