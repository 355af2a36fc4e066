-- The clock, the log and the settings. Only snapsync's own code reads and writes them; all are part of a dump.

-- The tables of what is dumped. A dump has their names, and reading one as regclass fails where there is none: one table that a restore
-- leaves out, or cannot create, would take everybody's settings and log along, because a COPY that fails loads nothing. So it is a
-- type of its own: with an unknown name it gets a number that no table has, and what is about that is forgotten (shape/lost.rs).
CREATE TYPE snapsync.regtable;
CREATE FUNCTION snapsync.regtable_in(cstring) RETURNS snapsync.regtable
LANGUAGE c STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_regtable_in';
COMMENT ON FUNCTION snapsync.regtable_in(cstring) IS 'I/O';
CREATE FUNCTION snapsync.regtable_out(snapsync.regtable) RETURNS cstring
LANGUAGE internal STABLE STRICT PARALLEL SAFE
AS 'regclassout';
COMMENT ON FUNCTION snapsync.regtable_out(snapsync.regtable) IS 'I/O';
CREATE FUNCTION snapsync.regtable_recv(internal) RETURNS snapsync.regtable
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE
AS 'regclassrecv';
COMMENT ON FUNCTION snapsync.regtable_recv(internal) IS 'I/O';
CREATE FUNCTION snapsync.regtable_send(snapsync.regtable) RETURNS bytea
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE
AS 'regclasssend';
COMMENT ON FUNCTION snapsync.regtable_send(snapsync.regtable) IS 'I/O';
CREATE TYPE snapsync.regtable (
    INPUT = snapsync.regtable_in, OUTPUT = snapsync.regtable_out, RECEIVE = snapsync.regtable_recv, SEND = snapsync.regtable_send,
    LIKE = regclass, CATEGORY = 'N');
COMMENT ON TYPE snapsync.regtable IS 'A table, as regclass has it; a name that is unknown is no error';
CREATE CAST (snapsync.regtable AS oid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (snapsync.regtable AS regclass) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (oid AS snapsync.regtable) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (regclass AS snapsync.regtable) WITHOUT FUNCTION AS ASSIGNMENT;
REVOKE USAGE ON TYPE snapsync.regtable FROM PUBLIC;

CREATE SEQUENCE snapsync.clock AS bigint MINVALUE 1 START 1 CACHE 1;
-- Not from 1: cursors of an extension that was dropped and created anew must be too old, not valid by chance. A million
-- stamps a second since 2020 is more than any server commits, and stays exact in JavaScript until 2292.
SELECT pg_catalog.setval('snapsync.clock',
    1048576 OPERATOR(pg_catalog.*) (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.-) 1577836800)::bigint);
COMMENT ON SEQUENCE snapsync.clock IS 'Stamps of committed changes: multiples of four; a cursor is one of them, or up to three larger';

CREATE TABLE snapsync.collection (
    relation            snapsync.regtable NOT NULL,
    name                text COLLATE "C",
    qualified_name      text COLLATE "C",
    key                 name[] NOT NULL,
    columns             name[],
    exclude             name[] NOT NULL DEFAULT '{}',
    readonly            name[] NOT NULL DEFAULT '{}',
    scope_column        name,
    scope_values        text,
    scope_reads         jsonb,
    soft_delete_column  name,
    conflict            text NOT NULL DEFAULT 'reject',
    version_column      name,
    conflict_function   text,
    conflict_owner      name,
    access_tables       jsonb,
    notify              text NOT NULL DEFAULT 'none',
    found_scope         name,
    no_scope            text,
    image               name[] NOT NULL DEFAULT '{}',
    shape               jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT collection_pkey PRIMARY KEY (relation),
    CONSTRAINT collection_name_key UNIQUE (name),
    CONSTRAINT collection_qualified_name_key UNIQUE (qualified_name),
    CONSTRAINT collection_conflict_check CHECK (conflict OPERATOR(pg_catalog.=) ANY (
        '{reject,last_write_wins,client_wins,server_wins,merge,custom}'::text[])),
    CONSTRAINT collection_notify_check CHECK (notify OPERATOR(pg_catalog.=) ANY ('{none,notify,realtime,both}'::text[]))
);
COMMENT ON TABLE snapsync.collection IS 'One row per tracked table; written by snapsync.enable()';
COMMENT ON COLUMN snapsync.collection.relation IS 'The table';
COMMENT ON COLUMN snapsync.collection.name IS 'The name clients use; NULL for a table that is only tracked because policies of synced ones read it';
COMMENT ON COLUMN snapsync.collection.qualified_name IS 'The name with the schema, as the table was called when it got its name: clients may use it as well';
COMMENT ON COLUMN snapsync.collection.key IS 'Columns of the unique key whose text form is the row''s id, in order';
COMMENT ON COLUMN snapsync.collection.columns IS 'The only columns that are synced; NULL for all';
COMMENT ON COLUMN snapsync.collection.exclude IS 'Columns that are not synced';
COMMENT ON COLUMN snapsync.collection.readonly IS 'Columns that clients get but cannot write';
COMMENT ON COLUMN snapsync.collection.scope_column IS 'Column that divides the rows, so that a pull reads only the changes of its own scopes';
COMMENT ON COLUMN snapsync.collection.scope_values IS 'SQL expression, run as the caller, whose array of texts are his scopes';
COMMENT ON COLUMN snapsync.collection.scope_reads IS 'What the owner''s SQL reads and calls, as enable() found it: of scope_values {"tables": {name: predicate}, "functions": [signature], "types": [name], "owners": [object and owner]}, of access_tables {"predicates": {predicate: {"columns": [name], "functions": [signature], "owners": [object and owner]}}}';
COMMENT ON COLUMN snapsync.collection.soft_delete_column IS 'Boolean or nullable column that marks a row as deleted';
COMMENT ON COLUMN snapsync.collection.conflict IS 'What push_changes does when a row changed on both sides';
COMMENT ON COLUMN snapsync.collection.version_column IS 'Column whose greater value stands, for last_write_wins';
COMMENT ON COLUMN snapsync.collection.conflict_function IS 'Function that decides, for custom';
COMMENT ON COLUMN snapsync.collection.conflict_owner IS 'Who owned that function when it was named: another owner''s of the same name is not called';
COMMENT ON COLUMN snapsync.collection.access_tables IS 'Tables that decide who sees rows here, hidden in functions: an object of names, each with a predicate, null, or {"predicate", "columns"}';
COMMENT ON COLUMN snapsync.collection.notify IS 'Who is poked when rows here change: none, notify (listeners of the channel snapsync), realtime (Supabase), both';
COMMENT ON COLUMN snapsync.collection.found_scope IS 'Column that divides the rows by what the policies ask for, or, of a table that is only tracked, by what those of others ask of it; where no scope_column is named, entries of the log carry its value';
COMMENT ON COLUMN snapsync.collection.no_scope IS 'Why no such column was found, or which roles it does not serve; or which one scope_column takes the place of, if the policies do not compare that';
COMMENT ON COLUMN snapsync.collection.image IS 'Columns whose old values are logged, because they decide who could see a row';
COMMENT ON COLUMN snapsync.collection.shape IS 'Columns, policies, partitions and readers when they were last looked at; a difference resets the clients';

CREATE TABLE snapsync.access (
    relation            snapsync.regtable NOT NULL,
    access              snapsync.regtable NOT NULL,
    kind                text NOT NULL,
    predicate           text,
    whole               boolean NOT NULL,
    untracked           boolean NOT NULL DEFAULT false,
    voucher             name,
    refused             boolean NOT NULL DEFAULT false,
    columns             name[] NOT NULL DEFAULT '{}',
    CONSTRAINT access_pkey PRIMARY KEY (relation, access),
    CONSTRAINT access_kind_check CHECK (kind OPERATOR(pg_catalog.=) ANY ('{grant,parent}'::text[]))
);
COMMENT ON TABLE snapsync.access IS 'Which tables decide who sees the rows of which others; found in the policies, or named in access_tables';
COMMENT ON COLUMN snapsync.access.relation IS 'The table whose policies read the other';
COMMENT ON COLUMN snapsync.access.access IS 'The table that is read';
COMMENT ON COLUMN snapsync.access.kind IS 'parent: rows hang on it by a foreign key that the policy follows; grant: anything else';
COMMENT ON COLUMN snapsync.access.whole IS 'All its columns are logged: a whole row is read, or any column may be';
COMMENT ON COLUMN snapsync.access.columns IS 'The columns that the owner says functions read, and those that the predicate reads: they are logged besides what policies read';
COMMENT ON COLUMN snapsync.access.untracked IS 'Nobody with the TRIGGER privilege on the read table stands up for this, so its changes are unknown: every pull is a replacement';
COMMENT ON COLUMN snapsync.access.voucher IS 'The role whose TRIGGER privilege on the read table lets it be tracked for this';
COMMENT ON COLUMN snapsync.access.refused IS 'The owner of the read table has taken its tracking away: only who makes a policy, or calls enable, stands up for it again';
COMMENT ON COLUMN snapsync.access.predicate IS 'Which of its rows concern the caller (SQL over its columns); NULL for those he may see';
CREATE INDEX access_access ON snapsync.access (access);

-- Oids mean nothing in another database; a dump has only which tables are due for a look, and by the keys' names which keys were not enforced
-- (shape/unenforced.rs). The row of relation 0 says of which database they are.
CREATE TABLE snapsync.dependency (
    relation            snapsync.regtable NOT NULL,
    classid             oid NOT NULL,
    objid               oid NOT NULL,
    own                 boolean NOT NULL,
    name                text COLLATE "C",
    owner               text COLLATE "C",
    tried               timestamptz,
    tries               smallint
);
COMMENT ON TABLE snapsync.dependency IS 'What each tracked table rests on: where DDL touches one of these objects, the table is looked at again';
COMMENT ON COLUMN snapsync.dependency.relation IS 'The tracked table';
COMMENT ON COLUMN snapsync.dependency.classid IS 'The catalog that the object is in; 0 where a look at the table is due that could not be had';
COMMENT ON COLUMN snapsync.dependency.objid IS 'The object; 0 where there is none of the name';
COMMENT ON COLUMN snapsync.dependency.own IS 'It is the table itself, or a part of it: a partition, policy, index or constraint';
COMMENT ON COLUMN snapsync.dependency.name IS 'The full name of what the settings name, a table, function or type, also while there is none; or what a mark says (unenforced, refused, forgotten, why a look is due)';
COMMENT ON COLUMN snapsync.dependency.owner IS 'Of a relation or a function: its owner, and since which transaction; REASSIGN OWNED changes it without an event';
COMMENT ON COLUMN snapsync.dependency.tried IS 'Of a look that is due: when a superuser''s command last found that it could not be had';
COMMENT ON COLUMN snapsync.dependency.tries IS 'How often';
CREATE INDEX dependency_object ON snapsync.dependency (classid, objid);
CREATE INDEX dependency_relation ON snapsync.dependency (relation);
CREATE INDEX dependency_name ON snapsync.dependency (name) WHERE name IS NOT NULL;

CREATE TABLE snapsync.change (
    relation            snapsync.regtable NOT NULL,
    ord                 integer NOT NULL,
    stamp               bigint NOT NULL,
    op                  "char" NOT NULL,
    bucket              smallint NOT NULL DEFAULT -1,
    scope               text COLLATE "C",
    key                 text COLLATE "C",
    image               jsonb,
    origin              text COLLATE "C",
    columns             int2[],
    as_sent             boolean,
    keys                text[] COLLATE "C",
    CONSTRAINT change_key_check CHECK ((key IS NULL) OPERATOR(pg_catalog.<>) (keys IS NULL))
);
COMMENT ON TABLE snapsync.change IS 'The log: what happened to which key in which transaction, once per key';
COMMENT ON COLUMN snapsync.change.relation IS 'The collection''s table (the root of a partitioned one)';
COMMENT ON COLUMN snapsync.change.ord IS 'Order of the changes of one key within the transaction';
COMMENT ON COLUMN snapsync.change.stamp IS 'The transaction''s stamp, taken from the clock while it committed';
COMMENT ON COLUMN snapsync.change.op IS 'I insert, U update, D delete, R reset: older cursors must take the whole collection anew; u, d: of a row version that the same transaction had made before';
COMMENT ON COLUMN snapsync.change.bucket IS 'A hash of the scope and of salt; -1 where there is none: such an entry is read in all scopes; below that, of the user whom the entry is for';
COMMENT ON COLUMN snapsync.change.scope IS 'The row''s value of the collection''s scope column; where columns is {0}: the user whom the entry is for';
COMMENT ON COLUMN snapsync.change.key IS 'The row''s id as clients see it; NULL where the entry is about several rows';
COMMENT ON COLUMN snapsync.change.image IS 'Old values of the columns that decide who could see the row';
COMMENT ON COLUMN snapsync.change.origin IS 'client_id of the push that made the change; where columns is {0}: whom the entry is for (JSON)';
COMMENT ON COLUMN snapsync.change.columns IS 'Numbers of the columns that an UPDATE touched, where the conflict policy is merge; {0}: not about a change, but word for one client that a row which it pushed is not there';
COMMENT ON COLUMN snapsync.change.as_sent IS 'True: the push of origin did no more and no less to this row than it said, so that client need not hear of it';
COMMENT ON COLUMN snapsync.change.keys IS 'The ids of several rows to which the same happened';

-- Not unique, and without ord: a transaction's entries share one index tuple (btree deduplication). One for who reads some scopes, one for who
-- reads all.
CREATE INDEX change_relation_bucket_stamp ON snapsync.change (relation, bucket, stamp);
CREATE INDEX change_relation_stamp ON snapsync.change (relation, stamp);

-- No key, and no index: a row is inserted frozen, past both (log/salt.rs).
CREATE TABLE snapsync.salt (
    salt                bigint NOT NULL
);
COMMENT ON TABLE snapsync.salt IS 'What is mixed into the buckets of change: the first row is what writers use';
COMMENT ON COLUMN snapsync.salt.salt IS 'A random number';

CREATE TABLE snapsync.early (
    early               bigint NOT NULL,
    stamp               bigint NOT NULL,
    class               smallint NOT NULL
);
COMMENT ON TABLE snapsync.early IS 'Transactions that wrote entries before they committed: which stamp they got';
COMMENT ON COLUMN snapsync.early.early IS 'What their entries have as stamp';
COMMENT ON COLUMN snapsync.early.stamp IS 'What counts';
COMMENT ON COLUMN snapsync.early.class IS 'In how many bytes the one is away from the other, less one';
CREATE INDEX early_number ON snapsync.early (early);
CREATE INDEX early_stamp ON snapsync.early (stamp);
CREATE INDEX early_class ON snapsync.early (class, stamp);

CREATE TABLE snapsync.compaction (
    number              bigint NOT NULL
);
COMMENT ON TABLE snapsync.compaction IS 'One row: how often entries of the log were moved';
COMMENT ON COLUMN snapsync.compaction.number IS 'How often compact() has left a part of an entry: that part stands elsewhere, and who reads the log by places begins anew';
INSERT INTO snapsync.compaction VALUES (0);

CREATE TABLE snapsync.horizon (
    snapmin             bigint NOT NULL,
    at                  timestamptz NOT NULL,
    newest              bigint,
    lsn                 pg_lsn,
    system              bigint,
    beyond              bigint
);
COMMENT ON TABLE snapsync.horizon IS 'The snapmin that writers saw, and when: cursors for old snapshots, standbys and wall-clock times';
COMMENT ON COLUMN snapsync.horizon.snapmin IS 'No transaction invisible to a snapshot that sees this row has a smaller stamp';
COMMENT ON COLUMN snapsync.horizon.at IS 'When that was computed';
COMMENT ON COLUMN snapsync.horizon.newest IS 'What the clock said then';
COMMENT ON COLUMN snapsync.horizon.lsn IS 'Up to where the WAL was flushed just before';
COMMENT ON COLUMN snapsync.horizon.system IS 'The identifier of the system whose WAL that is';
COMMENT ON COLUMN snapsync.horizon.beyond IS 'What snapmin would have been without the stamp of the transaction that has written this row';
CREATE INDEX horizon_snapmin ON snapsync.horizon (snapmin);
CREATE INDEX horizon_at ON snapsync.horizon (at, snapmin);

-- No key, and no index: entries are inserted frozen, past both (clock/history.rs).
CREATE TABLE snapsync.epoch (
    number              integer NOT NULL,
    system              text NOT NULL,
    timeline            bigint NOT NULL,
    database            bigint NOT NULL,
    home                bigint NOT NULL,
    place               text NOT NULL,
    started             timestamptz NOT NULL,
    lost                boolean NOT NULL,
    gap_from            bigint NOT NULL,
    gap_to              bigint NOT NULL,
    snapmin             bigint NOT NULL,
    lsn                 pg_lsn NOT NULL,
    next_xid            bigint NOT NULL
);
COMMENT ON TABLE snapsync.epoch IS 'The histories this database has run on: a fail-over, a restore, a copy or a start of the server begins a new one';
COMMENT ON COLUMN snapsync.epoch.number IS 'Order';
COMMENT ON COLUMN snapsync.epoch.system IS 'System identifier of the cluster';
COMMENT ON COLUMN snapsync.epoch.timeline IS 'WAL timeline';
COMMENT ON COLUMN snapsync.epoch.database IS 'Oid of the database';
COMMENT ON COLUMN snapsync.epoch.home IS 'Oid of this table';
COMMENT ON COLUMN snapsync.epoch.place IS 'When the cluster''s control file was born (ns since 1970), if the file system knows: a copied directory has another';
COMMENT ON COLUMN snapsync.epoch.started IS 'When the server was started';
COMMENT ON COLUMN snapsync.epoch.lost IS 'A branch of history may have been lost; otherwise the server was only started';
COMMENT ON COLUMN snapsync.epoch.gap_from IS 'Cursors from here on may come from a branch of history that was lost';
COMMENT ON COLUMN snapsync.epoch.gap_to IS 'The clock leapt to here; smaller cursors of the gap are reset';
COMMENT ON COLUMN snapsync.epoch.snapmin IS 'No transaction of earlier histories that was still under way then has a smaller stamp, and none of this one';
COMMENT ON COLUMN snapsync.epoch.lsn IS 'Up to where the WAL was flushed then';
COMMENT ON COLUMN snapsync.epoch.next_xid IS 'Transactions from here on (with the epoch) have begun since';

CREATE TABLE snapsync.role (
    role                name NOT NULL,
    standing            text NOT NULL,
    stamp               bigint NOT NULL,
    CONSTRAINT role_pkey PRIMARY KEY (role)
);
COMMENT ON TABLE snapsync.role IS 'What roles may do when a writer last looked: a change of it resets their clients';
COMMENT ON COLUMN snapsync.role.role IS 'The role; empty for the digest of what all standings are made of';
COMMENT ON COLUMN snapsync.role.standing IS 'Digest of its memberships and of whether it bypasses row-level security';
COMMENT ON COLUMN snapsync.role.stamp IS 'Stamp of the transaction that recorded it; older cursors are reset';

SELECT pg_catalog.pg_extension_config_dump('snapsync.clock', '');
SELECT pg_catalog.pg_extension_config_dump('snapsync.collection', '');
SELECT pg_catalog.pg_extension_config_dump('snapsync.access', '');
SELECT pg_catalog.pg_extension_config_dump('snapsync.dependency', 'WHERE classid OPERATOR(pg_catalog.=) 0 AND relation::pg_catalog.oid OPERATOR(pg_catalog.<>) 0 OR name OPERATOR(pg_catalog.=) ''unenforced''');
SELECT pg_catalog.pg_extension_config_dump('snapsync.change', '');
SELECT pg_catalog.pg_extension_config_dump('snapsync.salt', '');
SELECT pg_catalog.pg_extension_config_dump('snapsync.early', '');
SELECT pg_catalog.pg_extension_config_dump('snapsync.horizon', '');
SELECT pg_catalog.pg_extension_config_dump('snapsync.role', '');
SELECT pg_catalog.pg_extension_config_dump('snapsync.epoch', '');

-- Those without a key: somebody may have a publication FOR ALL TABLES, in which a table without an identity cannot be written.
ALTER TABLE snapsync.dependency REPLICA IDENTITY FULL;
ALTER TABLE snapsync.change REPLICA IDENTITY FULL;
ALTER TABLE snapsync.salt REPLICA IDENTITY FULL;
ALTER TABLE snapsync.early REPLICA IDENTITY FULL;
ALTER TABLE snapsync.compaction REPLICA IDENTITY FULL;
ALTER TABLE snapsync.horizon REPLICA IDENTITY FULL;
ALTER TABLE snapsync.epoch REPLICA IDENTITY FULL;

-- Entries name rows of every tenant: nobody but the owner reads them.
REVOKE ALL ON snapsync.clock, snapsync.collection, snapsync.access, snapsync.dependency, snapsync.change, snapsync.salt, snapsync.early, snapsync.compaction, snapsync.horizon, snapsync.role, snapsync.epoch FROM PUBLIC;
