//! How statements of our own are planned, whatever the session, its role or its database have set: which kinds of plans there are, what
//! each is taken to cost, and how much memory they have, also when they run.
//!
//! Anybody may set these, and a commit for which everybody's cursor waits has statements of ours. None of them is what an administrator has
//! set either: the server's own values cannot be told from a session's, and the statements are written for these.

use std::ffi::c_int;

use pgrx::pg_sys;

/// The server's variables of these settings, and what ours are. They are read and written past guc.c: a statement of ours costs a write to
/// each, twice, where SET costs a search by name, an allocation and a release.
macro_rules! settings {
    ($($(#[$attribute:meta])* $name:ident: $type:ty = $ours:expr,)*) => {
        struct Settings {
            $($(#[$attribute])* $name: $type,)*
        }

        const OURS: Settings = Settings { $($(#[$attribute])* $name: $ours,)* };

        impl Settings {
            /// # Safety
            /// In a backend.
            unsafe fn now() -> Settings {
                // SAFETY: settings of this backend.
                unsafe { Settings { $($(#[$attribute])* $name: pg_sys::$name,)* } }
            }

            /// # Safety
            /// In a backend; the values are valid ones.
            unsafe fn set(&self) {
                // SAFETY: as above.
                unsafe { $($(#[$attribute])* { pg_sys::$name = self.$name; })* }
            }
        }
    };
}

// As PostgreSQL has them by default, but for parallel workers and the genetic search (by which plans would differ by chance). What has to do
// with these two alone is left as it is, and what is for partitions, foreign tables and cursors, which statements of ours do not have.
settings! {
    enable_seqscan: bool = true,
    enable_indexscan: bool = true,
    enable_indexonlyscan: bool = true,
    enable_bitmapscan: bool = true,
    enable_tidscan: bool = true,
    enable_nestloop: bool = true,
    enable_hashjoin: bool = true,
    enable_mergejoin: bool = true,
    enable_material: bool = true,
    enable_memoize: bool = true,
    enable_hashagg: bool = true,
    enable_sort: bool = true,
    enable_incremental_sort: bool = true,
    #[cfg(not(feature = "pg15"))]
    enable_presorted_aggregate: bool = true,
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    enable_group_by_reordering: bool = true,
    #[cfg(feature = "pg18")]
    enable_distinct_reordering: bool = true,
    #[cfg(feature = "pg18")]
    enable_self_join_elimination: bool = true,
    enable_geqo: bool = false,
    from_collapse_limit: c_int = 8,
    join_collapse_limit: c_int = 8,
    max_parallel_workers_per_gather: c_int = 0,
    constraint_exclusion: c_int = pg_sys::ConstraintExclusionType::CONSTRAINT_EXCLUSION_PARTITION as c_int,
    plan_cache_mode: c_int = pg_sys::PlanCacheMode::PLAN_CACHE_MODE_AUTO as c_int,
    seq_page_cost: f64 = 1.0,
    random_page_cost: f64 = 4.0,
    cpu_tuple_cost: f64 = 0.01,
    cpu_index_tuple_cost: f64 = 0.005,
    cpu_operator_cost: f64 = 0.0025,
    recursive_worktable_factor: f64 = 10.0,
    // In pages: 4 GB.
    effective_cache_size: c_int = 524_288,
    // In kB.
    work_mem: c_int = 4096,
    hash_mem_multiplier: f64 = 2.0,
}

/// In kB.
const BY_INDEX: c_int = 256;

/// In kB, at least.
const IN_ONE_GO: c_int = 65_536;

/// While this lives, plans are made in one way, and what runs has so much memory.
pub struct Planner {
    before: Settings,
}

impl Planner {
    /// Whatever is cheapest.
    pub fn by_cost() -> Planner {
        Planner::with(OURS)
    }

    /// Rows are found by indexes and nothing else: what is looked up is about one table, and catalogs are as large as the database has
    /// tables. Such a plan serves any of them, so it is made once. (Nor are all rows of a catalog put aside, to be gone through for each
    /// table.)
    ///
    /// Hash tables begin small: a recursive query makes one, cleared, of the size of the planner's guess, which is far off and bounded
    /// by `work_mem` alone. In a database with 1,000 tables that was half of the time of their DDL.
    pub fn by_index() -> Planner {
        Planner::with(Settings {
            enable_seqscan: false,
            enable_hashjoin: false,
            enable_mergejoin: false,
            enable_material: false,
            work_mem: BY_INDEX,
            hash_mem_multiplier: 1.0,
            ..OURS
        })
    }

    /// Each table is read once, however little the planner expects there: for what goes through all of the log. It has the memory of
    /// other maintenance, which whoever may call it may set.
    pub fn in_one_go() -> Planner {
        // SAFETY: a setting of this backend.
        let memory = unsafe { pg_sys::maintenance_work_mem }.max(IN_ONE_GO);
        Planner::with(Settings { enable_nestloop: false, work_mem: memory, hash_mem_multiplier: 1.0, ..OURS })
    }

    fn with(settings: Settings) -> Planner {
        // SAFETY: in a backend; they are put back in `drop`, also when an ERROR unwinds.
        unsafe {
            let planner = Planner { before: Settings::now() };
            settings.set();
            planner
        }
    }
}

impl Drop for Planner {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { self.before.set() };
    }
}
