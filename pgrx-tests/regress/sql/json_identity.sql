-- A pull's rows in the default dialect are row_to_json's, byte for byte: more than 50 types, odd values, odd names, under
-- several settings. The last two queries return one row per difference, so nothing.
\set ECHO none
\set test regress_json_identity
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

SET extra_float_digits = 1;

CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', E'new\nline', 'ünïcode');
CREATE TYPE shade AS ENUM ('dark', 'light');
CREATE FUNCTION shade_to_json(shade) RETURNS json LANGUAGE sql IMMUTABLE AS
    $$ SELECT pg_catalog.json_build_object('shade', $1::text) $$;
CREATE CAST (shade AS json) WITH FUNCTION shade_to_json(shade);
CREATE TYPE pair AS (a int, "b ""quoted""" text, at timestamptz);
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE DOMAIN short_text AS text CHECK (length(value) < 100);
CREATE DOMAIN shorter_text AS short_text;
CREATE DOMAIN price AS numeric(12, 2);
CREATE DOMAIN moods AS mood[];
CREATE DOMAIN a_pair AS pair;
CREATE DOMAIN a_shade AS shade;
CREATE DOMAIN day AS date;

CREATE TABLE typed (
    id int PRIMARY KEY,
    "a ""quoted"" \ name" bool,
    U&"control \0001\0009\000A name" int2,
    "größe €" int8,
    o oid,
    f4 float4,
    f8 float8,
    n numeric,
    n2 numeric(20, 5),
    t text,
    v varchar,
    v20 varchar(20),
    c8 char(8),
    nm name,
    ch "char",
    u uuid,
    by bytea,
    d date,
    ts timestamp,
    tz timestamptz,
    ts0 timestamp(0),
    tz3 timestamptz(3),
    ti time,
    tiz timetz,
    iv interval,
    j json,
    jb jsonb,
    ip inet,
    net cidr,
    mac macaddr,
    mac8 macaddr8,
    b5 bit(5),
    vb varbit,
    mo money,
    pt point,
    li line,
    ls lseg,
    bx box,
    pa path,
    po polygon,
    ci circle,
    tv tsvector,
    tq tsquery,
    lsn pg_lsn,
    x8 xid8,
    jp jsonpath,
    rc regclass,
    i4r int4range,
    nr numrange,
    tzr tstzrange,
    dr daterange,
    i4m int4multirange,
    tzm tstzmultirange,
    fr floatrange,
    m mood,
    sh shade,
    dsh a_shade,
    dt shorter_text,
    dn price,
    dd day,
    dm moods,
    dp a_pair,
    ia int[],
    ia2 int[],
    ta text[],
    tza timestamptz[],
    jba jsonb[],
    ba bytea[],
    ma mood[],
    sha shade[],
    iv2 int2vector,
    p pair,
    pp pair[],
    dropped int
);
ALTER TABLE typed DROP COLUMN dropped;
ALTER TABLE typed ADD COLUMN later text DEFAULT E'added "later"\t';

-- All null.
INSERT INTO typed (id, later) VALUES (1, NULL);

-- One ordinary value each.
INSERT INTO typed VALUES (
    2, true, 7, 8, 9, 1.5, 2.5, 3.25, 4.5, 'text', 'varchar', 'varchar 20', 'char', 'name', 'c',
    '00112233-4455-6677-8899-aabbccddeeff', '\x00ff10', '2024-02-29', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789+00',
    '2024-02-29 12:34:56', '2024-02-29 12:34:56.789+00', '12:34:56.7', '12:34:56.7+05:30', '1 year 2 mons 3 days 04:05:06.7',
    '{"a" : [1, 2.50, null] }', '{"b": [1, 2.50, null], "a": {"x": "y"}}', '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03',
    '08:00:2b:01:02:03:04:05', B'10101', B'101', 12.34, '(1,2)', '{1,2,3}', '[(0,0),(1,1)]', '((0,0),(1,1))', '[(0,0),(1,1)]',
    '((0,0),(1,1),(1,0))', '<(0,0),1>', 'a:1 b:2A', 'a & !b', '16/B374D848', '42', '$.a[*] ? (@ > 1)', 'pg_class',
    '[1,5)', '[1.5,2.5]', '["2024-01-01 00:00:00+00","2024-06-01 00:00:00+00")', '[2024-01-01,2024-02-01)', '{[1,3),[5,9)}',
    '{["2024-01-01 00:00:00+00","2024-06-01 00:00:00+00")}', '[1.5,2.25)', 'sad', 'dark', 'light', 'a domain', 12.5,
    '2024-02-29', '{sad,"it''s \"ok\""}', '(1,"x ""y""","2024-02-29 12:00:00+00")', '{1,2,NULL}', '{{1,2},{3,4}}',
    '{"a","b \"c\"",NULL,"NULL",""}', '{"2024-02-29 12:00:00+00","1999-12-31 23:59:59.999999+00"}', '{"{\"a\": 1}","null"}',
    '{"\\x00ff"}', '{sad}', '{dark,light}', '1 2 3', '(1,two,"2024-02-29 12:00:00+00")',
    '{"(1,two,\"2024-02-29 12:00:00+00\")",NULL,"(,,)"}', 'later'
);

-- Infinities, NaN, extremes, empty values.
INSERT INTO typed (id, "größe €", o, f4, f8, n, n2, t, v, c8, nm, ch, u, by, d, ts, tz, ti, tiz, iv, j, jb, ip, mo, vb, tv,
    i4r, nr, tzr, dr, i4m, fr, dn, dd, ia, ta, tza, jba, p, pp)
VALUES
    (10, 9223372036854775807, 4294967295, 'NaN', 'NaN', 'NaN', 'NaN', '', '', '', '', '',
     'ffffffff-ffff-ffff-ffff-ffffffffffff', '', 'infinity', 'infinity', 'infinity', '24:00:00', '24:00:00+15:59',
     '-1 year -2 mons +3 days -04:05:06.7', 'null', 'null', '::1', '-92233720368547758.08', '', '',
     'empty', 'empty', '[,)', '(,)', '{}', '[-Infinity,NaN)', 'NaN', 'infinity', '{}', '{}', '{infinity,-infinity}',
     '{"[]","{}"}', '(,,)', '{}'),
    (11, -9223372036854775808, 0, 'Infinity', 'Infinity', 'Infinity', 0, ' ', ' ', ' ', ' ', ' ',
     '00000000-0000-0000-0000-000000000000', '\x22', '-infinity', '-infinity', '-infinity', '00:00:00', '00:00:00-15:59',
     '0', '"a"', '"a"', '255.255.255.255', '92233720368547758.07', B'0', '''it''''s'':1',
     '(,5]', '(1e-5,1e30)', '("0044-03-15 BC",infinity)', '[0044-03-15 BC,infinity]', '{(,1),[5,)}', '(,1e300]', 0, '-infinity',
     '[0:1]={1,2}', '{{{a}}}', '{"0001-01-01 BC",294276-12-31}', '{NULL}', '(1,NULL,infinity)', '{NULL}'),
    (12, 0, 1, '-Infinity', '-Infinity', '-Infinity', -1e-5, E'\x01\x02\x08\x09\x0a\x0b\x0c\x0d\x1f\x7f "\\/', E'\x1f"\\', E'\x7f"',
     E'"\\\n', '"', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '\x5c', '0044-03-15 BC', '0044-03-15 12:00:00.5 BC',
     '0044-03-15 12:00:00.5 BC', '23:59:59.999999', '23:59:59.999999-00:00:01', '178000000 years', '  [1 , 2]  ', '1.0', 'fe80::1',
     0, B'1', E'''\\"'':1', '[-2147483648,2147483646]', '[NaN,NaN]', 'empty', 'empty', '{[1,2),[3,4)}', 'empty', -0.01,
     '0001-01-01 BC', '{NULL}', '{"\"\\"}', '{NULL}', '{"\"\\u0041\""}', '(0,"""\\",-infinity)', '{"(,,)"}');
INSERT INTO typed (id, f4, f8, n, d, ts, tz, dd) VALUES
    (20, 0, 0, 0, '0001-01-01', '0001-01-01', '0001-01-01 00:00:00+00', '9999-12-31'),
    (21, '-0', '-0', '-0', '0001-12-31 BC', '0001-12-31 23:59:59.999999 BC', '0001-12-31 23:59:59.999999+00 BC', '10000-01-01'),
    (22, 1e-45, 5e-324, 1e-100, '9999-12-31', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00', '5874897-12-31'),
    (23, 3.4028235e38, 1.7976931348623157e308, 1e100, '10000-01-01', '10000-01-01', '10000-01-01 00:00:00+00', '4713-01-01 BC'),
    (24, 0.1, 0.1, 0.1, '5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', '1970-01-01'),
    (25, 1e6, 1e15, 1.10, '4713-01-01 BC', '4713-01-01 BC', '4713-01-01 00:00:00+00 BC', '1969-12-31'),
    (26, 1e7, 1e16, 100000.00, '2000-01-01', '2000-01-01', '2000-01-01 00:00:00+00', '2000-01-01'),
    (27, 123456789, 123456789012345678, 12345678901234567890.12345, '1999-12-31', '1999-12-31 23:59:59.1', '1999-12-31 23:59:59.12+00', '1600-02-29'),
    (28, 1e-4, 1e-4, 0.0000001, '1900-02-28', '1900-03-01 00:00:00.000001', '1900-03-01 00:00:00.123456+00', '1900-03-01'),
    (29, 1e-5, 1e-5, 10000, '1582-10-15', '1582-10-15', '1582-10-15 00:00:00+00', '1883-11-18'),
    (30, 16777216, 9007199254740993, 0.00001, '2038-01-19', '2038-01-19 03:14:08', '2038-01-19 03:14:08+00', '2037-12-31');

-- Compressed and out-of-line values, strings around the sizes of machine words, every ASCII character.
INSERT INTO typed (id, t, jb, ta, ia) SELECT 40, repeat(E'compress me "please" \n', 10000), jsonb_build_object('long', repeat('x"', 5000)),
    array_agg(repeat('y', i)), array_agg(i) FROM generate_series(1, 300) AS i;
INSERT INTO typed (id, t, j, by) SELECT 41, string_agg(md5(i::text) || E'"\t', ''), json_agg(md5(i::text)),
    string_agg(decode(md5(i::text), 'hex'), '') FROM generate_series(1, 5000) AS i;
INSERT INTO typed (id, t, v, jb) SELECT 100 + i, repeat('x', i) || chr(1 + i % 127) || repeat('é', i % 9), repeat('"', i), to_jsonb(repeat(chr(1 + i % 127), i))
    FROM generate_series(0, 140) AS i;
INSERT INTO typed (id, t) SELECT 300 + i, string_agg(chr(c), '') FROM generate_series(0, 3) AS i, generate_series(1 + i, 300) AS c GROUP BY i;

-- Times around the changes of the zones' rules, and numbers of every size.
INSERT INTO typed (id, tz, ts, d, f8, f4, n, "größe €")
    SELECT 1000 + i, t, t AT TIME ZONE 'UTC', (t AT TIME ZONE 'UTC')::date, (i * 7919) ^ 1.7 / 3, i / 7.0, (i * 7919)::numeric ^ (i % 9) / 7,
           (i * 1234567891011) % 9223372036854775807
    FROM generate_series(0, 1999) AS i,
         LATERAL (SELECT '1879-12-31 12:00:00+00'::timestamptz + i * interval '30 days 7 hours 13 minutes 5.123 seconds' AS t) AS x;

SELECT snapsync.enable('typed', name => 'typed');

CREATE TABLE setting (tz text, floats int, dates text, intervals text, bytes text);
INSERT INTO setting VALUES
    ('UTC', 1, 'ISO, MDY', 'postgres', 'hex'),
    ('Europe/Berlin', 1, 'German, DMY', 'postgres_verbose', 'escape'),
    ('America/New_York', 3, 'SQL, MDY', 'sql_standard', 'hex'),
    ('Asia/Kolkata', 0, 'Postgres, DMY', 'iso_8601', 'hex'),
    ('Africa/Monrovia', -5, 'ISO, YMD', 'postgres', 'hex'),
    ('Australia/Lord_Howe', -15, 'ISO, YMD', 'postgres', 'hex'),
    ('America/St_Johns', 2, 'ISO, YMD', 'postgres', 'hex'),
    ('<X>-13:45', 1, 'ISO, YMD', 'postgres', 'hex');

-- Returns the pulled rows (all of them are `created`) and what row_to_json says, under these settings.
CREATE FUNCTION documents(s setting, OUT pulled text, OUT expected text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('TimeZone', s.tz, true), set_config('extra_float_digits', s.floats::text, true),
        set_config('DateStyle', s.dates, true), set_config('IntervalStyle', s.intervals, true),
        set_config('bytea_output', s.bytes, true);
    pulled := pull_changes('{typed}');
    SELECT '{"changes":{"typed":{"created":[' || string_agg(row_to_json(typed)::text, ',') || '],"updated":[],"deleted":[]}},"timestamp":'
        INTO expected FROM typed;
END $$;

-- The whole document, but for the cursor. (It is a large one, under each of the settings.)
SELECT count(*), bool_and(length(b.pulled) > 1000000) FROM setting AS s, documents(s) AS b;
SELECT s.tz, length(b.pulled), length(b.expected) FROM setting AS s, documents(s) AS b
    WHERE NOT starts_with(b.pulled, b.expected) OR substr(b.pulled, length(b.expected) + 1) !~ '^[0-9]+}$';

-- Row by row, to see which one differs.
SELECT s.tz, p.n, p.row AS pulled, e.row AS expected
    FROM setting AS s, documents(s) AS b,
        LATERAL regexp_split_to_table(b.pulled, '(?<=[}]),(?=[{]"id":)') WITH ORDINALITY AS p(row, n),
        LATERAL regexp_split_to_table(b.expected, '(?<=[}]),(?=[{]"id":)') WITH ORDINALITY AS e(row, n)
    WHERE p.n = e.n AND NOT starts_with(p.row, e.row)
    LIMIT 3;
