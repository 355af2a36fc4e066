//! Random statements on the model's tables.

use rand::seq::IndexedRandom;
use rand::Rng;

use super::tables::{Numbers, Table, REGIONS};

/// What the server and the cursor under test can do.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    /// MERGE is there since PostgreSQL 15
    pub merge: bool,
    /// the naive cursors have no answer to TRUNCATE
    pub truncate: bool,
    /// a prepared transaction has its stamp and holds cursors back until it is resolved; without any, the resend factor
    /// tells what ordinary transactions cost
    pub prepare: bool,
}

pub struct Statements<'a> {
    pub numbers: &'a Numbers,
    pub abilities: Abilities,
}

fn uuid(n: i64) -> String {
    format!("'{:08x}-0000-4000-8000-{:012x}'", (n as u32).wrapping_mul(2_654_435_761), n)
}

fn pair(n: i64) -> String {
    format!("{}, 'c.{n}/é{}'", n % 7, n % 3)
}

fn pair_condition(n: i64) -> String {
    format!("(tenant, code) = ({})", pair(n))
}

fn region(n: i64) -> String {
    REGIONS[n as usize % REGIONS.len()].replace('\'', "''")
}

fn slug(n: i64) -> String {
    format!("'tag {n}.\"x\"'")
}

impl Statements<'_> {
    pub fn random(&self, rng: &mut impl Rng) -> String {
        let table = *[
            Table::Notes,
            Table::Notes,
            Table::Notes,
            Table::Lines,
            Table::Lines,
            Table::Counters,
            Table::Counters,
            Table::Counters,
            Table::Pairs,
            Table::Pairs,
            Table::Events,
            Table::Events,
            Table::Docs,
            Table::Tags,
            Table::Small,
        ]
        .choose(rng)
        .expect("not empty");
        match rng.random_range(0..100) {
            0..46 => self.insert(table, rng),
            46..72 => self.update(table, rng),
            72..79 => self.delete(table, rng),
            79..87 => self.upsert(table, rng),
            87..91 => self.merge(rng),
            91..96 => self.change_key(rng),
            _ => self.change_nothing(table, rng),
        }
    }

    pub fn insert(&self, table: Table, rng: &mut impl Rng) -> String {
        let id = self.numbers.fresh(table);
        format!("INSERT INTO {}", self.row(table, id, rng))
    }

    /// `table (columns) VALUES (...)` of a row with the number `id`.
    fn row(&self, table: Table, id: i64, rng: &mut impl Rng) -> String {
        let n: i32 = rng.random();
        match table {
            Table::Notes => format!("notes (id, owner, title, n) VALUES ({}, {}, 'note {id}', {n})", uuid(id), id % 5),
            Table::Lines => {
                let note = self.numbers.known(Table::Notes, rng);
                format!("lines VALUES ({id}, {}, 'line \"{id}\"', {n})", uuid(note))
            }
            Table::Counters => format!("counters VALUES ({id}, E'c\\t{id}', {n})"),
            Table::Pairs => format!("pairs VALUES ({}, {n}.50, {n})", pair(id)),
            Table::Events => format!(
                "events VALUES ('{}', {id}, '{{\"a\": [{n}, null], \"b\": \"é\"}}', {n})",
                region(rng.random_range(0..REGIONS.len() as i64))
            ),
            Table::Docs => {
                format!("docs VALUES ({}, 'doc {id}', {n}, repeat('x{n}', {}))", uuid(id), rng.random_range(1..500))
            }
            Table::Tags => format!("tags VALUES ('tag', {n}, {})", slug(id)),
            Table::Small => format!("small VALUES ({id}, 'v', {n})"),
        }
    }

    fn condition(&self, table: Table, id: i64) -> String {
        match table {
            Table::Notes | Table::Docs => format!("id = {}", uuid(id)),
            Table::Pairs => pair_condition(id),
            Table::Tags => format!("slug = {}", slug(id)),
            _ => format!("id = {id}"),
        }
    }

    fn value_column(table: Table) -> &'static str {
        if table == Table::Counters {
            "val"
        } else {
            "n"
        }
    }

    pub fn update(&self, table: Table, rng: &mut impl Rng) -> String {
        let id = self.numbers.known(table, rng);
        let n: i32 = rng.random();
        let set = match table {
            // The other columns leave the toasted value where it is: only a pointer is copied.
            Table::Docs if rng.random_bool(0.3) => {
                format!("body = repeat('y{n}', {})", rng.random_range(1..500))
            }
            Table::Notes if rng.random_bool(0.3) => "done = NOT done, made = clock_timestamp()".to_owned(),
            Table::Pairs if rng.random_bool(0.3) => format!("qty = qty + {}.25", n % 1000),
            Table::Small if rng.random_bool(0.1) => return format!("UPDATE small SET n = {n}"),
            _ => format!("{} = {n}", Self::value_column(table)),
        };
        format!("UPDATE {} SET {set} WHERE {}", table.name(), self.condition(table, id))
    }

    fn delete(&self, table: Table, rng: &mut impl Rng) -> String {
        let id = self.numbers.known(table, rng);
        format!("DELETE FROM {} WHERE {}", table.name(), self.condition(table, id))
    }

    fn upsert(&self, table: Table, rng: &mut impl Rng) -> String {
        let id = if rng.random_bool(0.5) { self.numbers.fresh(table) } else { self.numbers.known(table, rng) };
        let row = self.row(table, id, rng);
        if rng.random_bool(0.2) {
            return format!("INSERT INTO {row} ON CONFLICT DO NOTHING");
        }
        let value = Self::value_column(table);
        let key = table.key().join(", ");
        format!("INSERT INTO {row} ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}")
    }

    fn merge(&self, rng: &mut impl Rng) -> String {
        if !self.abilities.merge {
            return self.upsert(Table::Counters, rng);
        }
        let fresh = self.numbers.fresh(Table::Counters);
        let known = self.numbers.known(Table::Counters, rng);
        let gone = self.numbers.known(Table::Counters, rng);
        let n: i32 = rng.random();
        format!(
            "MERGE INTO counters c USING (SELECT DISTINCT ON (id) * FROM (VALUES ({fresh}, {n}, false), ({known}, {n}, false), \
             ({gone}, {n}, true)) v(id, val, gone) ORDER BY id) s ON c.id = s.id \
             WHEN MATCHED AND s.gone THEN DELETE WHEN MATCHED THEN UPDATE SET val = s.val \
             WHEN NOT MATCHED AND NOT s.gone THEN INSERT VALUES (s.id, 'merged', s.val)"
        )
    }

    fn change_key(&self, rng: &mut impl Rng) -> String {
        match rng.random_range(0..4) {
            0 => {
                let (id, new) = (self.numbers.known(Table::Counters, rng), self.numbers.fresh(Table::Counters));
                format!("UPDATE counters SET id = {new} WHERE id = {id}")
            }
            1 => {
                let (id, new) = (self.numbers.known(Table::Pairs, rng), self.numbers.fresh(Table::Pairs));
                format!("UPDATE pairs SET (tenant, code) = (SELECT {}) WHERE {}", pair(new), pair_condition(id))
            }
            2 => {
                let (id, new) = (self.numbers.known(Table::Tags, rng), self.numbers.fresh(Table::Tags));
                format!("UPDATE tags SET slug = {} WHERE slug = {}", slug(new), slug(id))
            }
            // Moves the row to another partition.
            _ => {
                let id = self.numbers.known(Table::Events, rng);
                format!("UPDATE events SET region = '{}' WHERE id = {id}", region(rng.random_range(0..4)))
            }
        }
    }

    fn change_nothing(&self, table: Table, rng: &mut impl Rng) -> String {
        let id = self.numbers.known(table, rng);
        let value = Self::value_column(table);
        format!("UPDATE {} SET {value} = {value} WHERE {}", table.name(), self.condition(table, id))
    }

    /// A statement past the flush threshold.
    pub fn bulk(&self, rng: &mut impl Rng) -> String {
        let rows = rng.random_range(120..600);
        let n: i32 = rng.random();
        match rng.random_range(0..4) {
            0 => {
                let first = self.numbers.fresh_range(Table::Counters, rows);
                format!(
                    "INSERT INTO counters SELECT i, 'bulk', {n} FROM generate_series({first}, {}) i",
                    first + rows - 1
                )
            }
            1 => {
                let first = self.numbers.fresh_range(Table::Events, rows);
                format!(
                    "INSERT INTO events SELECT (ARRAY['eu', 'us', 'a/b'])[1 + i % 3], i, NULL, {n} \
                     FROM generate_series({first}, {}) i",
                    first + rows - 1
                )
            }
            2 => {
                let first = self.numbers.known(Table::Counters, rng);
                format!("UPDATE counters SET val = {n} WHERE id BETWEEN {first} AND {}", first + rows)
            }
            _ => {
                let first = self.numbers.known(Table::Events, rng);
                format!("DELETE FROM events WHERE id BETWEEN {first} AND {}", first + rows / 4)
            }
        }
    }

    /// Lines for `COPY counters FROM STDIN`.
    pub fn copy_lines(&self, rng: &mut impl Rng) -> String {
        let rows = rng.random_range(1..40);
        let first = self.numbers.fresh_range(Table::Counters, rows);
        (first..first + rows).map(|i| format!("{i}\tcopied\\t{i}\t{}\n", rng.random::<i32>())).collect()
    }
}
