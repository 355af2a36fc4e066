//! `#[pg_test]`s: what can only be seen from inside a backend. Everything that SQL can show is tested from outside, in
//! pgrx-tests. (pgrx puts `pg_` before their names, by which `make pgtest` and `make unit` tell the two kinds apart.)

#[cfg(test)]
mod floors;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod size;
#[cfg(test)]
mod source;

#[pgrx::pg_schema]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use pgrx::prelude::*;
    use pgrx::{FromDatum, JsonB};

    use crate::log::change::{bucket, Op};
    use crate::log::poke::{self, WrittenKey};
    use crate::log::{clock, salt, wake};
    use crate::server::error::{caught, code, SyncError};
    use crate::server::pg;
    use crate::server::spi::{self, Mode};
    use crate::values::json::{Buffer, Output};

    fn columns(table: &str) -> String {
        let sql = format!(
            "SELECT string_agg(attname || ' ' || atttypid::regtype, ', ' ORDER BY attnum) FROM pg_attribute \
             WHERE attrelid = 'snapsync.{table}'::regclass AND attnum > 0"
        );
        Spi::get_one(&sql).expect("a query").expect("a table")
    }

    /// `log/journal/write.rs` writes these tables past SQL, column by column, and `log/read.rs` reads them so.
    #[pg_test]
    fn tables_have_the_columns_that_are_written() {
        assert_eq!(
            columns("change"),
            "relation snapsync.regtable, ord integer, stamp bigint, op \"char\", bucket smallint, scope text, key text, image jsonb, origin text, \
             columns smallint[], as_sent boolean, keys text[]"
        );
        assert_eq!(columns("early"), "early bigint, stamp bigint, class smallint");
        assert_eq!(
            columns("horizon"),
            "snapmin bigint, at timestamp with time zone, newest bigint, lsn pg_lsn, system bigint, beyond bigint"
        );
        assert_eq!(columns("role"), "role name, standing text, stamp bigint");
        assert_eq!(
            columns("epoch"),
            "number integer, system text, timeline bigint, database bigint, home bigint, place text, \
             started timestamp with time zone, lost boolean, gap_from bigint, gap_to bigint, snapmin bigint, lsn pg_lsn, \
             next_xid bigint"
        );
    }

    #[pg_test]
    fn a_registered_stamp_holds_snapmin_back() {
        clock::history::ensure().expect("a history");
        let before = clock::read_snapmin().expect("a reading").snapmin;
        let stamp = clock::register_and_stamp().expect("a stamp");
        assert_eq!(stamp, before, "the next stamp is the first that a reader may miss");
        let later = clock::register_and_stamp().expect("a stamp");
        assert_eq!(later, stamp + clock::STEP, "what a cursor says besides is no stamp");
        assert_eq!(clock::read_snapmin().expect("a reading").snapmin, stamp, "until the transaction ends");
        let seen: Option<i64> =
            Spi::get_one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 3")
                .expect("a query");
        assert_eq!(seen, Some(2), "everybody can see it");
    }

    /// Each early flush notes what it has written: what is the same again takes no room.
    #[pg_test]
    fn notes_for_pokes_do_not_pile_up() {
        let scopes: Vec<String> = (0..64).map(|n| format!("scope {n}")).collect();
        Spi::run(
            "CREATE TABLE public.noted (id int PRIMARY KEY, org text); \
             SELECT snapsync.enable('public.noted', scope_column => 'org', notify => 'notify')",
        )
        .expect("a collection");
        let relation = Spi::get_one("SELECT 'noted'::regclass::oid").expect("a query").expect("a table");
        let watched = poke::watched([pg_sys::Oid::to_u32(relation)]).expect("its pokes");
        let flush = |from| {
            let key = |scope| WrittenKey { relation, op: Op::Insert, scope: Some(scope), has_image: false };
            poke::note(&watched, from, scopes.iter().map(|scope| key(scope)));
        };
        (0..1000).for_each(|_| flush(0));
        let before = poke::mark();
        assert!(before <= 256, "{before} notes of 64 scopes");
        (0..1000).for_each(|_| flush(before));
        assert!(poke::mark() <= before + 256, "so it is within a savepoint");
        poke::back_to(before);
        assert_eq!(poke::mark(), before, "which can be taken back");
        poke::merge(0, 0);
        assert_eq!(poke::mark(), 64);
        poke::back_to(0);
    }

    /// Whether they take long to be written is asked of the listed ones alone.
    #[pg_test]
    fn trees_that_are_written_are_those_listed() {
        let column = if cfg!(feature = "pg18") { ", w int GENERATED ALWAYS AS (id + 1) VIRTUAL" } else { "" };
        let tables = format!(
            "CREATE TYPE public.told AS (a int); \
             CREATE FUNCTION public.tell(public.told, int DEFAULT 3) RETURNS json LANGUAGE sql BEGIN ATOMIC SELECT '1'::json; END; \
             CREATE CAST (public.told AS json) WITH FUNCTION public.tell(public.told, int); \
             CREATE TABLE public.below (id int PRIMARY KEY{column}); \
             CREATE VIEW public.through AS SELECT id FROM public.below; \
             CREATE FUNCTION public.says(int DEFAULT 7) RETURNS bool STABLE LANGUAGE sql \
                 BEGIN ATOMIC SELECT EXISTS (SELECT FROM public.through AS a WHERE a.id = $1); END; \
             CREATE TABLE public.judged (id int, v public.told{column}, PRIMARY KEY (id)) PARTITION BY LIST (id); \
             CREATE TABLE public.judged_1 PARTITION OF public.judged FOR VALUES IN (1); \
             CREATE TABLE public.judged_2 PARTITION OF public.judged FOR VALUES IN (2); \
             ALTER TABLE public.judged ENABLE ROW LEVEL SECURITY; \
             ALTER TABLE public.judged_1 ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY p ON public.judged USING (public.says()); \
             CREATE POLICY p ON public.judged_1 USING (id > 1); \
             CREATE POLICY p ON public.judged_2 USING (id > 2); \
             CREATE POLICY q ON public.judged_1 FOR INSERT WITH CHECK (id > 3); \
             SELECT snapsync.enable('public.judged')"
        );
        Spi::run(&tables).expect("a collection");
        let relation: pg_sys::Oid =
            Spi::get_one("SELECT 'public.judged'::regclass::oid").expect("a query").expect("it");
        let of_it = |sql: &str| sql.replace("$1", &format!("{relation}::oid")).replace("$2", "false");
        // Each is there by its digest, then. (The view's stands behind its name, which ends in no such letter.)
        let written = of_it(include_str!("collections/shape/definition/trees.sql"));
        let written = written.replace("DISTINCT md5(concat", "DISTINCT (concat");
        let written: String =
            Spi::get_one(&format!("SELECT t::text FROM ({written}) AS r(t)")).expect("a query").expect("it");
        let digests = written.split(|c: char| !c.is_ascii_hexdigit()).filter(|digest| digest.len() == 32);
        let written: BTreeSet<String> = digests.map(str::to_string).collect();
        let listed = of_it(include_str!("collections/shape/definition/stored.sql"));
        let listed: Vec<String> =
            Spi::get_one(&format!("SELECT array_agg(md5(t)) FROM ({listed}) AS r(t)")).expect("a query").expect("some");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), written);
        // Two policies, a view, and two functions with their defaults; with columns that are computed, more.
        assert!(written.len() >= 7, "{written:?}");
    }

    /// An application may ask for its own INSERT's id after our flush (PDO::lastInsertId).
    #[pg_test]
    fn a_stamp_leaves_lastval_alone() {
        Spi::run("CREATE SEQUENCE mine; SELECT nextval('mine'), nextval('mine')").expect("a sequence");
        clock::register_and_stamp().expect("a stamp");
        assert_eq!(Spi::get_one::<i64>("SELECT lastval()").expect("a query"), Some(2));
    }

    /// Only answers of hundreds of megabytes are compressed.
    #[pg_test]
    fn a_compressed_answer_reads_as_it_was_written() {
        if !crate::values::json::toast_has_lz4() {
            pgrx::warning!("skipped: this server is built without lz4");
            return;
        }
        let text: String = (0..50_000).map(|i| format!("{{\"id\":\"{i}\",\"title\":\"to do\"}},")).collect();
        let mut out = Output::new();
        out.put(text.as_bytes());
        let compressed = out.compressed().expect("half as long");
        // SAFETY: a value of type text.
        let (size, read) =
            unsafe { (pgrx::varlena::varsize_any(compressed.cast_mut_ptr()), String::from_datum(compressed, false)) };
        assert!(size < text.len() / 2);
        assert_eq!(read.as_deref(), Some(text.as_str()));
        let mut noise = Output::new();
        let mut state = 1u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.put(&state.to_ne_bytes());
        }
        assert!(noise.compressed().is_none(), "what does not shrink is left alone");
    }

    #[pg_test]
    fn errors_keep_what_postgres_does_not_know() {
        Spi::run(
            "CREATE FUNCTION refuse() RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'no' USING ERRCODE = 'PT402', DETAIL = 'd', HINT = 'h', CONSTRAINT = 'c'; END $$",
        )
        .expect("a function");
        let e: SyncError = caught(|| spi::query("SELECT refuse()", &[], Mode::Write)).expect_err("an error");
        assert_eq!((e.code.as_str(), e.message.as_str()), ("PT402", "no"));
        assert_eq!((e.detail.as_deref(), e.hint.as_deref(), e.names[4].as_deref()), (Some("d"), Some("h"), Some("c")));
    }

    #[pg_test]
    fn reading_statements_cannot_write() {
        Spi::run("CREATE TABLE t (id int)").expect("a table");
        let e = caught(|| spi::execute("INSERT INTO t VALUES (1)", &[], Mode::Read)).expect_err("an error");
        assert_eq!(e.code, code::FEATURE_NOT_SUPPORTED);
    }

    #[pg_test]
    fn identity_is_given_back() {
        Spi::run("CREATE ROLE nobody_much; SET ROLE nobody_much").expect("a role");
        let mine = pg::current_user();
        let (inside, path) = spi::as_owner(|| {
            let path = spi::query("SHOW search_path", &[], Mode::Write)?[0].string(0);
            Ok((pg::current_user(), path))
        })
        .expect("a result");
        assert_ne!(inside, mine);
        assert_eq!(path, "pg_catalog, pg_temp");
        assert_eq!(pg::current_user(), mine);
        Spi::run("RESET ROLE").expect("a reset");
    }

    /// Whatever the session has set; and it has it again afterwards, also where the work fails.
    #[pg_test]
    fn pinned_settings_are_always_the_same() {
        // The path first, or it would be written with quotes.
        let set = "SET search_path = public; SET datestyle = 'SQL, DMY'; SET intervalstyle = sql_standard; SET timezone = 'Asia/Kathmandu'; \
                   SET extra_float_digits = 0; SET bytea_output = escape; SET xmlbinary = hex; SET xmloption = document; \
                   SET standard_conforming_strings = off; SET backslash_quote = on; SET array_nulls = off; \
                   SET transform_null_equals = on; SET quote_all_identifiers = on; SET row_security = off; \
                   SET lc_monetary = 'C.UTF-8'";
        let all = "SELECT pg_catalog.string_agg(setting, ' ' ORDER BY pg_catalog.lower(name) COLLATE \"C\") \
                   FROM pg_catalog.pg_settings WHERE name = ANY \
                   ('{DateStyle,IntervalStyle,TimeZone,extra_float_digits,bytea_output,xmlbinary,xmloption,array_nulls,\
                   standard_conforming_strings,backslash_quote,transform_null_equals,quote_all_identifiers,row_security,\
                   lc_monetary,search_path}')";
        let read = || spi::query(all, &[], Mode::Read).map(|rows| rows[0].string(0));
        let pinned = "on safe_encoding hex ISO, MDY 3 postgres C off on pg_catalog, pg_temp on UTC off base64 content";
        Spi::run(set).expect("settings");
        let mine = read().expect("settings");
        assert_eq!(spi::pinned(read).expect("settings"), pinned);
        assert_eq!(spi::as_owner(read).expect("settings"), pinned);
        assert_eq!(
            spi::pinned_but_path(read).expect("settings"),
            pinned.replace("pg_catalog, pg_temp", "public"),
            "names are looked up as the session does"
        );
        let refused = spi::pinned(|| Err::<(), _>(SyncError::new(code::INTERNAL, "no")));
        assert_eq!(refused.expect_err("an error").message, "no");
        assert_eq!(read().expect("settings"), mine);
        Spi::run("RESET ALL").expect("a reset");
    }

    /// Whoever may connect may set what plans depend on, and everybody's cursor waits for commits, which have statements of ours.
    #[pg_test]
    fn statements_of_our_own_are_planned_alike_whatever_the_session_has_set() {
        let hostile = "SET work_mem = '1GB'; SET hash_mem_multiplier = 100; SET seq_page_cost = 1e15; SET random_page_cost = 1e15; \
                       SET cpu_tuple_cost = 1e15; SET cpu_index_tuple_cost = 1e15; SET cpu_operator_cost = 1e15; SET effective_cache_size = 1; \
                       SET recursive_worktable_factor = 1e6; SET from_collapse_limit = 1; SET join_collapse_limit = 1; SET geqo = on; \
                       SET geqo_threshold = 2; SET max_parallel_workers_per_gather = 8; SET constraint_exclusion = on; \
                       SET plan_cache_mode = force_custom_plan; SET enable_nestloop = off; SET enable_memoize = off; SET enable_sort = off";
        Spi::run(hostile).expect("settings");
        let all = "SELECT pg_catalog.string_agg(pg_catalog.current_setting(name), ' ' ORDER BY n) FROM pg_catalog.unnest(\
                   '{work_mem,hash_mem_multiplier,seq_page_cost,random_page_cost,cpu_tuple_cost,cpu_index_tuple_cost,cpu_operator_cost,\
                   effective_cache_size,recursive_worktable_factor,from_collapse_limit,join_collapse_limit,geqo,\
                   max_parallel_workers_per_gather,constraint_exclusion,plan_cache_mode,\
                   enable_seqscan,enable_material,enable_nestloop,enable_memoize,enable_sort}'::text[]) WITH ORDINALITY AS s(name, n)";
        let allowed = |rows: Vec<spi::Row>| rows[0].string(0);
        let mine = allowed(spi::query(all, &[], Mode::Read).expect("settings"));
        assert!(mine.starts_with("1GB 100 1e+15 1e+15 "), "{mine}");
        let costs = "1 4 0.01 0.005 0.0025 4GB 10 8 8 off 0 partition auto";
        let by_cost = format!("4MB 2 {costs} on on on on on");
        // Recursive queries over catalogs clear a hash table of as much as `work_mem` allows each time they run, and go through all rows of a
        // catalog for each row that they have found, if these may be put aside.
        let by_index = format!("256kB 1 {costs} off off on on on");
        let in_one_go = format!("64MB 1 {costs} on on off on on");
        assert_eq!(allowed(spi::owner_query(all, &[]).expect("settings")), by_cost);
        assert_eq!(allowed(spi::read_now(all, &[]).expect("settings")), by_index);
        assert_eq!(allowed(spi::query_now(all, &[]).expect("settings")), by_index);
        assert_eq!(allowed(spi::read_as_before(all, &[]).expect("settings")), by_index);
        assert_eq!(allowed(spi::owner_maintain(all, &[]).expect("settings")), in_one_go);
        let refused = spi::as_owner(|| Err::<(), _>(SyncError::new(code::INTERNAL, "no")));
        assert_eq!(refused.expect_err("an error").message, "no");
        assert_eq!(allowed(spi::query(all, &[], Mode::Read).expect("settings")), mine);
        Spi::run("RESET ALL").expect("a reset");
    }

    /// What goes through all of a table is planned for what is there now, also where the statement has no parameters.
    #[pg_test]
    fn maintenance_is_planned_anew_each_time() {
        // Planning calls it, and keeps what it says.
        Spi::run("CREATE FUNCTION public.planned() RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT pg_catalog.current_setting('t.planned') $$")
            .expect("a function");
        for (sql, args) in
            [("SELECT public.planned()", vec![]), ("SELECT public.planned() FROM (SELECT $1) AS x", vec![spi::arg(1)])]
        {
            for planned in ["first", "second"] {
                Spi::run(&format!("SET t.planned = '{planned}'")).expect("a setting");
                assert_eq!(spi::owner_maintain(sql, &args).expect("a row")[0].string(0), planned);
            }
        }
        Spi::run("RESET ALL").expect("a reset");
    }

    /// A pull writes to the log what its transaction has changed, before the commit.
    #[pg_test]
    fn who_waits_in_other_scopes_sleeps_on_when_something_is_written_early() {
        Spi::run(
            "CREATE TABLE public.rows (id int PRIMARY KEY, org text); \
             SELECT snapsync.enable('public.rows', scope_column => 'org'); INSERT INTO public.rows VALUES (1, 'a')",
        )
        .expect("a row");
        let relation: i64 =
            Spi::get_one("SELECT 'public.rows'::regclass::oid::int8").expect("a query").expect("an oid");
        let pull = || Spi::run("SELECT pull_changes('{rows}')").expect("an answer");
        pull();
        // Whoever enables a table resets it, which concerns everybody.
        wake::forget();
        Spi::run("UPDATE public.rows SET org = 'b'").expect("an update");
        pull();
        let salt = salt::own().expect("salt");
        let buckets = Some(BTreeSet::from(["a", "b"].map(|scope| bucket(salt, scope))));
        assert_eq!(wake::written(), BTreeMap::from([(relation as u32, buckets)]));
    }

    #[pg_test]
    fn the_engine_answers() {
        Spi::run("CREATE TABLE public.notes (id int PRIMARY KEY, body text); SELECT snapsync.enable('public.notes')")
            .expect("a collection");
        Spi::run("INSERT INTO public.notes VALUES (1, 'x')").expect("a row");
        let answer: JsonB = Spi::get_one("SELECT pull_changes('{notes}')::jsonb").expect("a query").expect("an answer");
        assert_eq!(answer.0["changes"]["notes"]["created"][0]["body"], "x");
    }
}
