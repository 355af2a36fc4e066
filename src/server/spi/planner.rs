//! How statements of our own are planned, whatever the session, its role or its database have set (`enable_…`, `work_mem`).

use std::ffi::c_int;

use pgrx::pg_sys;

/// Kinds of plans that can be switched off.
const SWITCHES: usize = 13;

/// The places of those that read all there is, or put it aside; and of the one that looks up row by row.
const READ_ALL: [usize; 4] = [0, 1, 2, 3];
const NESTLOOP: usize = 4;

fn switches() -> [*mut bool; SWITCHES] {
    [
        &raw mut pg_sys::enable_seqscan,
        &raw mut pg_sys::enable_hashjoin,
        &raw mut pg_sys::enable_mergejoin,
        &raw mut pg_sys::enable_material,
        &raw mut pg_sys::enable_nestloop,
        &raw mut pg_sys::enable_indexscan,
        &raw mut pg_sys::enable_indexonlyscan,
        &raw mut pg_sys::enable_bitmapscan,
        &raw mut pg_sys::enable_tidscan,
        &raw mut pg_sys::enable_hashagg,
        &raw mut pg_sys::enable_sort,
        &raw mut pg_sys::enable_incremental_sort,
        &raw mut pg_sys::enable_memoize,
    ]
}

/// While this lives, plans are made in one way.
pub struct Planner {
    switches: [bool; SWITCHES],
    work_mem: c_int,
    hash_mem_multiplier: f64,
}

/// In kB.
const BY_INDEX: c_int = 256;

impl Planner {
    /// Whatever is cheapest.
    pub fn by_cost() -> Planner {
        Planner::with(&[], None)
    }

    /// Rows are found by indexes and nothing else: what is looked up is about one table, and catalogs are as large as the database has
    /// tables. Such a plan serves any of them, so it is made once. (Nor are all rows of a catalog put aside, to be gone through for each
    /// table.)
    ///
    /// Hash tables begin small: a recursive query makes one, cleared, of the size of the planner's guess, which is far off and bounded
    /// by `work_mem` alone. In a database with 1,000 tables that was half of the time of their DDL.
    pub fn by_index() -> Planner {
        Planner::with(&READ_ALL, Some((BY_INDEX, 1.0)))
    }

    /// Each table is read once, however little the planner expects there: for what goes through all of the log. It has the memory of
    /// other maintenance.
    pub fn in_one_go() -> Planner {
        // SAFETY: settings of this backend.
        let memory = unsafe { pg_sys::work_mem.max(pg_sys::maintenance_work_mem) };
        Planner::with(&[NESTLOOP], Some((memory, 1.0)))
    }

    fn with(off: &[usize], memory: Option<(c_int, f64)>) -> Planner {
        let mut before = [true; SWITCHES];
        for (at, switch) in switches().into_iter().enumerate() {
            // SAFETY: backend-local settings, put back in `drop`, also when an ERROR unwinds.
            before[at] = unsafe { std::ptr::replace(switch, !off.contains(&at)) };
        }
        // SAFETY: as above.
        unsafe {
            let planner = Planner {
                switches: before,
                work_mem: pg_sys::work_mem,
                hash_mem_multiplier: pg_sys::hash_mem_multiplier,
            };
            if let Some((work_mem, multiplier)) = memory {
                pg_sys::work_mem = work_mem;
                pg_sys::hash_mem_multiplier = multiplier;
            }
            planner
        }
    }
}

impl Drop for Planner {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            for (switch, before) in switches().into_iter().zip(self.switches) {
                *switch = before;
            }
            pg_sys::work_mem = self.work_mem;
            pg_sys::hash_mem_multiplier = self.hash_mem_multiplier;
        }
    }
}
