//! Random operations. They are made beforehand and know nothing of what happened: an operation that fails (a key that is
//! there already, a policy that is gone) simply does nothing, so that any of them can be left out when a failure shrinks.

use rand::rngs::StdRng;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::hostile;
use super::kind::OpKind;
use super::policy_grammar::{asked, Expr, Policy};
use super::schema::{my_orgs, Ask, ScopeValues, Soft, World, KEYS, MEMBERS, ORGS, USERS};
use super::settings::{Settings, Side};
use super::{Abilities, Level};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Op {
    /// statements of one transaction; `by`: an actor, or a superuser
    Write {
        by: Option<usize>,
        statements: Vec<String>,
        commit: bool,
        /// the session's, as below
        #[serde(default)]
        settings: Settings,
    },
    Ddl {
        sql: String,
        #[serde(default)]
        settings: Settings,
    },
    Pull {
        replica: usize,
        repeatable_read: bool,
        number: bool,
        /// which rows it asks for from now on
        #[serde(default)]
        asks: Option<Ask>,
        /// what others do between its pages, if it pulls in pages
        #[serde(default)]
        between: Vec<String>,
        #[serde(default)]
        settings: Settings,
    },
    /// A client pushes a new row, with these values as JSON, and keeps it.
    Push { replica: usize, table: usize, id: i64, values: Vec<(String, String)> },
    /// starts again from null
    Forget { replica: usize },
}

impl Op {
    pub fn write(by: Option<usize>, statements: Vec<String>, commit: bool) -> Self {
        Self::Write { by, statements, commit, settings: Settings::default() }
    }

    fn ddl(sql: String) -> Self {
        Self::Ddl { sql, settings: Settings::default() }
    }

    /// The settings of the session that does it; not of one that only forgets.
    pub fn settings(&mut self) -> Option<&mut Settings> {
        match self {
            Self::Write { settings, .. } | Self::Ddl { settings, .. } | Self::Pull { settings, .. } => Some(settings),
            Self::Push { .. } | Self::Forget { .. } => None,
        }
    }

    /// What it does; used to leave it out and to name what a reset came from.
    pub fn kinds(&self) -> Vec<OpKind> {
        match self {
            Self::Write { statements, commit, .. } => {
                let rollback = (!commit).then_some(OpKind::Rollback);
                statements.iter().map(|s| OpKind::of(s)).chain(rollback).collect()
            }
            Self::Ddl { sql, .. } => vec![OpKind::of(sql)],
            Self::Pull { .. } => vec![OpKind::Pull],
            Self::Push { .. } => vec![OpKind::Push],
            Self::Forget { .. } => vec![OpKind::Forget],
        }
    }

    /// Takes these kinds of things out of it; false if nothing is left.
    pub fn leave_out(&mut self, without: &[OpKind]) -> bool {
        match self {
            Self::Write { statements, commit, .. } => {
                statements.retain(|s| !without.contains(&OpKind::of(s)));
                *commit |= without.contains(&OpKind::Rollback);
                !statements.is_empty()
            }
            Self::Pull { between, .. } => {
                between.retain(|s| !without.contains(&OpKind::of(s)));
                !without.contains(&OpKind::Pull)
            }
            other => other.kinds().iter().all(|kind| !without.contains(kind)),
        }
    }

    /// As a person would type it, for the report.
    pub fn describe(&self, world: &World) -> String {
        match self {
            Self::Write { by, statements, commit, settings } => {
                let end = if *commit { "COMMIT" } else { "ROLLBACK" };
                let who = by.map_or(String::new(), |a| {
                    let (role, sub) = super::schema::ACTORS[a];
                    format!(" /* {role} {sub} */")
                });
                format!("{}BEGIN;{who} {}; {end};", settings.describe(), statements.join("; "))
            }
            Self::Ddl { sql, settings } => format!("{}{sql};", settings.describe()),
            Self::Pull { replica, repeatable_read, asks, between, settings, .. } => {
                let def = &world.replicas[*replica];
                let (role, sub) = super::schema::ACTORS[def.actor];
                let level = if *repeatable_read { ", REPEATABLE READ" } else { "" };
                let filter = match asks {
                    Some(asks) => format!(", from now on {asks:?}"),
                    None => format!(", at first org in {:?}, id in {:?}", def.filter, def.ids),
                };
                let between = if between.is_empty() {
                    String::new()
                } else {
                    format!("-- between pages: {}", between.join("; "))
                };
                format!("-- pull by replica {replica} ({role} {sub}{level}{filter}) {}{between}", settings.describe())
            }
            Self::Push { replica, table, id, values } => {
                let values: Vec<String> = values.iter().map(|(column, value)| format!("{column}: {value}")).collect();
                format!("-- push by replica {replica} to {}: id {id}, {}", world.tables[*table].name, values.join(", "))
            }
            Self::Forget { replica } => format!("-- replica {replica} starts again from null"),
        }
    }
}

pub struct Generator<'a> {
    pub rng: &'a mut StdRng,
    pub world: &'a World,
    pub level: Level,
    pub abilities: Abilities,
    /// policies are numbered, those of the schema first
    pub policies: usize,
    /// left out
    pub without: &'a [OpKind],
    /// operations that undo an earlier one, and how many operations later they come
    pub later: Vec<(usize, Op)>,
}

impl Generator<'_> {
    pub fn ops(&mut self, n: usize) -> Vec<Op> {
        let mut ops = Vec::with_capacity(n + 20);
        // Something to see, and everybody's first sync.
        for _ in 0..12 {
            let statement = self.insert();
            let op = Op::write(None, vec![statement], true);
            ops.push(self.dressed(op));
        }
        while ops.len() < n {
            if let Some(at) = self.later.iter().position(|(when, _)| *when <= ops.len()) {
                let op = self.later.remove(at).1;
                ops.push(self.dressed(op));
                continue;
            }
            let at = ops.len();
            let op = self.allowed(at);
            ops.push(self.dressed(op));
        }
        // Everybody's last word.
        ops.extend((0..self.world.replicas.len()).map(|replica| Op::Pull {
            replica,
            repeatable_read: false,
            number: true,
            asks: None,
            between: Vec::new(),
            settings: Settings::default(),
        }));
        ops
    }

    /// With some session's settings.
    fn dressed(&mut self, mut op: Op) -> Op {
        if !self.abilities.hostile {
            return op;
        }
        let side = match op.kinds()[..] {
            [OpKind::Pull | OpKind::Unrelated] => Side::Pulls,
            _ => Side::Writes,
        };
        if let Some(settings) = op.settings() {
            *settings = Settings::random(self.rng, side);
        }
        op
    }

    /// An operation without what was switched off.
    fn allowed(&mut self, at: usize) -> Op {
        loop {
            let mut op = self.op(at);
            if !self.without.iter().any(|kind| op.kinds().contains(kind)) {
                return op;
            }
            if op.leave_out(self.without) {
                return op;
            }
        }
    }

    fn op(&mut self, at: usize) -> Op {
        let replica = self.rng.random_range(0..self.world.replicas.len());
        let mut kind = self.rng.random_range(0..1000);
        // There access shall move many times between two pulls; in nested schemas with few of the resets that hide it.
        let moves = self.world.nested || self.world.tables.iter().any(|t| t.scope_values == Some(ScopeValues::Found));
        if moves && (150..250).contains(&kind) {
            return self.burst(at, replica);
        }
        if self.world.nested && (250..326).contains(&kind) && self.rng.random_bool(0.9) {
            kind = 999;
        }
        match kind {
            0..250 => {
                let (repeatable_read, number) = (self.rng.random_bool(0.3), self.rng.random_bool(0.5));
                let moves = self.world.asks(replica) && self.rng.random_bool(0.3);
                let scoped = self.world.tables.iter().any(|t| t.scoped);
                let asks = moves.then(|| Ask::random(self.rng, scoped));
                let writes = if replica % 2 == 1 { self.rng.random_range(0..4) } else { 0 };
                let between = (0..writes).map(|_| self.statement()).collect();
                Op::Pull { replica, repeatable_read, number, asks, between, settings: Settings::default() }
            }
            250..260 => Op::Forget { replica },
            260..285 if self.level > Level::Rows => Op::ddl(self.policy_ddl()),
            285..292 if self.level > Level::Rows => Op::ddl(self.rls_ddl()),
            292..298 => Op::write(None, vec![self.truncate()], self.rng.random_bool(0.8)),
            298..318 if self.level == Level::All => self.ddl(at),
            318..326 if self.abilities.hostile => {
                let table = self.table();
                Op::ddl(hostile::unrelated(self.rng, &self.world.tables[table].name))
            }
            300..420 => self.transaction(),
            420..480 => self.push(replica),
            _ => {
                let statement = self.statement();
                Op::write(self.writer(), vec![statement], true)
            }
        }
    }

    /// One client between two pulls: a membership, what shows it, and a row that it shows come and go by turns.
    fn burst(&mut self, at: usize, replica: usize) -> Op {
        let (org, table) = (self.rng.random_range(1..=ORGS), self.table());
        let (name, key) = (self.world.tables[table].name.clone(), self.key(table));
        let usr = super::schema::ACTORS[self.world.replicas[replica].actor].1.min(USERS);
        let circle = if self.rng.random_bool(0.5) { usr } else { self.rng.random_range(1..=USERS) };
        let statements = [
            [
                format!("DELETE FROM members WHERE org = {org} AND usr = {circle}"),
                format!("INSERT INTO members VALUES ({org}, {circle}) ON CONFLICT DO NOTHING"),
            ],
            [
                format!(
                    "INSERT INTO {name} (id, org, owner, n) VALUES ({key}, {org}, {circle}, 1) ON CONFLICT DO NOTHING"
                ),
                format!("DELETE FROM {name} WHERE id = {key}"),
            ],
            [
                format!("DELETE FROM circles WHERE id = {circle}"),
                format!(
                    "INSERT INTO circles VALUES ({circle}, {usr}) ON CONFLICT (id) DO UPDATE SET usr = excluded.usr"
                ),
            ],
        ];
        let kinds = if self.world.nested { 3 } else { 2 };
        let write = |statement: &String| Op::write(None, vec![statement.clone()], true);
        let pull = Op::Pull {
            replica,
            repeatable_read: false,
            number: true,
            asks: None,
            between: Vec::new(),
            settings: Settings::default(),
        };
        let mut ops: Vec<Op> = if kinds == 3 { vec![write(&statements[2][1])] } else { Vec::new() };
        ops.extend([write(&statements[0][1]), write(&statements[1][1]), pull.clone()]);
        let mut turns = [0; 3];
        for _ in 0..self.rng.random_range(3..7) {
            if self.rng.random_bool(0.2) {
                ops.push(self.push_to(replica, table, Some(org)));
                continue;
            }
            let kind = self.rng.random_range(0..kinds);
            ops.push(write(&statements[kind][turns[kind] % 2]));
            turns[kind] += 1;
        }
        ops.push(pull);
        let first = ops.remove(0);
        self.later.extend(ops.into_iter().map(|op| (at, op)));
        first
    }

    fn push(&mut self, replica: usize) -> Op {
        let table = self.table();
        self.push_to(replica, table, None)
    }

    fn push_to(&mut self, replica: usize, table: usize, org: Option<i64>) -> Op {
        let id = self.id();
        let exclude = self.world.tables[table].exclude.clone();
        let mut columns = vec!["owner", "org", "parent", "public", "n"];
        if self.world.tables[table].soft == Some(Soft::Flag) {
            columns.push("gone");
        }
        columns.retain(|column| exclude.as_deref() != Some(column));
        let owner = super::schema::ACTORS[self.world.replicas[replica].actor].1;
        let values = columns.into_iter().map(|column| {
            let value = match column {
                // Mostly what its own policies let it write.
                "owner" if self.rng.random_bool(0.7) => owner.to_string(),
                "org" if org.is_some() => org.map_or(String::new(), |org| org.to_string()),
                "gone" => self.rng.random_bool(0.2).to_string(),
                _ => self.value(column),
            };
            (column.to_owned(), value.to_lowercase())
        });
        Op::Push { replica, table, id, values: values.collect() }
    }

    fn writer(&mut self) -> Option<usize> {
        self.rng.random_bool(0.35).then(|| self.rng.random_range(0..super::schema::ACTORS.len()))
    }

    fn transaction(&mut self) -> Op {
        let mut statements: Vec<String> = (0..self.rng.random_range(1..4)).map(|_| self.statement()).collect();
        if self.rng.random_bool(0.4) {
            statements.push("SAVEPOINT s".into());
            statements.push(self.statement());
            if self.rng.random_bool(0.7) {
                statements.push("ROLLBACK TO s".into());
            }
        }
        if self.level > Level::Rows && self.rng.random_bool(0.1) {
            statements.push(self.policy_ddl());
        }
        statements.push(self.statement());
        Op::write(None, statements, self.rng.random_bool(0.8))
    }

    fn table(&mut self) -> usize {
        self.rng.random_range(1..self.world.tables.len())
    }

    fn id(&mut self) -> i64 {
        self.rng.random_range(1..=if self.world.nested { KEYS / 4 } else { KEYS })
    }

    fn key(&mut self, table: usize) -> String {
        let id = self.id();
        self.world.tables[table].key(id)
    }

    fn value(&mut self, column: &str) -> String {
        match column {
            "owner" if self.rng.random_bool(0.95) => self.rng.random_range(1..=USERS).to_string(),
            "org" if self.rng.random_bool(0.95) => self.rng.random_range(1..=ORGS).to_string(),
            "parent" if self.rng.random_bool(0.9) => self.rng.random_range(1..=KEYS).to_string(),
            "public" => self.rng.random_bool(0.3).to_string(),
            "n" => self.rng.random_range(0..100).to_string(),
            "body" if self.world.hostile && self.rng.random_bool(0.3) => hostile::body(self.rng),
            "body" => format!("'b{}'", self.rng.random_range(0..1000)),
            _ => "NULL".into(),
        }
    }

    fn insert(&mut self) -> String {
        if self.rng.random_bool(0.2) {
            return self.member();
        }
        let table = self.table();
        let key = self.key(table);
        let mut values: Vec<String> = ["owner", "org", "parent", "public", "n"].iter().map(|c| self.value(c)).collect();
        let mut columns = "owner, org, parent, public, n".to_owned();
        if self.world.hostile {
            for _ in 0..3 {
                let (column, value) = hostile::value(self.rng);
                if !columns.contains(&format!(", {column}")) {
                    columns += &format!(", {column}");
                    values.push(value);
                }
            }
        }
        let update =
            if self.rng.random_bool(0.3) { "UPDATE SET owner = excluded.owner, n = excluded.n" } else { "NOTHING" };
        let target = if update == "NOTHING" { "" } else { "(id) " };
        format!(
            "INSERT INTO {} (id, {columns}) VALUES ({key}, {}) ON CONFLICT {target}DO {update}",
            self.world.tables[table].name,
            values.join(", ")
        )
    }

    fn member(&mut self) -> String {
        if self.world.nested && self.rng.random_bool(0.5) {
            return self.circle();
        }
        let (org, usr) = (self.rng.random_range(1..=ORGS), self.rng.random_range(1..=USERS));
        let since = ["2025-01-15", "2025-02-01", "2025-02-02", "01/02/2025"][self.rng.random_range(0..4)];
        match self.rng.random_range(0..10) {
            0..2 if self.world.hostile => format!("UPDATE members SET since = '{since}' WHERE org = {org} AND usr = {usr}"),
            2..5 if self.world.hostile => format!(
                "INSERT INTO members VALUES ({org}, {usr}, {}, '{since}') ON CONFLICT (org, usr) DO UPDATE SET level = excluded.level",
                self.rng.random_range(0..3)
            ),
            0..5 => format!(
                "INSERT INTO members VALUES ({org}, {usr}, {}) ON CONFLICT (org, usr) DO UPDATE SET level = excluded.level",
                self.rng.random_range(0..3)
            ),
            5..8 => format!("DELETE FROM members WHERE org = {org} AND usr = {usr}"),
            8 if self.rng.random_bool(0.5) => format!(
                "UPDATE members SET usr = {usr} WHERE org = {org} AND usr = {}",
                self.rng.random_range(1..=USERS)
            ),
            8 => format!("UPDATE members SET level = level + 1 WHERE usr = {usr}"),
            _ => format!("UPDATE members SET org = {org} WHERE usr = {usr} AND org = {}", self.rng.random_range(1..=ORGS)),
        }
    }

    fn circle(&mut self) -> String {
        let (id, usr) = (self.rng.random_range(1..=USERS), self.rng.random_range(1..=USERS));
        match self.rng.random_range(0..3) {
            0 => format!("DELETE FROM circles WHERE id = {id}"),
            1 => format!("UPDATE circles SET usr = {usr} WHERE id = {id}"),
            _ => format!("INSERT INTO circles VALUES ({id}, {usr}) ON CONFLICT (id) DO UPDATE SET usr = excluded.usr"),
        }
    }

    fn statement(&mut self) -> String {
        if self.world.nested && self.rng.random_bool(0.3) {
            return self.member();
        }
        let table = self.table();
        let name = self.world.tables[table].name.clone();
        let key = self.key(table);
        match self.rng.random_range(0..100) {
            0..32 => self.insert(),
            32..68 => {
                if self.world.hostile && self.rng.random_bool(0.35) {
                    let (column, value) = hostile::value(self.rng);
                    return format!("UPDATE {name} SET {column} = {value} WHERE id = {key}");
                }
                let column = ["owner", "owner", "org", "parent", "public", "n", "body"][self.rng.random_range(0..7)];
                let value = self.value(column);
                if self.rng.random_bool(0.1) {
                    let below = self.rng.random_range(0..40);
                    return format!("UPDATE {name} SET {column} = {value} WHERE n < {below}");
                }
                format!("UPDATE {name} SET {column} = {value} WHERE id = {key}")
            }
            68..80 => format!("DELETE FROM {name} WHERE id = {key}"),
            80..82 => format!("DELETE FROM {name} WHERE n < {}", self.rng.random_range(0..15)),
            82..85 => {
                let new = self.key(table);
                format!("UPDATE {name} SET id = {new} WHERE id = {key}")
            }
            85..87 => format!("UPDATE {name} SET n = n WHERE id = {key}"),
            87..92 if self.world.tables[table].soft.is_some() => {
                let gone = match self.world.tables[table].soft {
                    Some(Soft::Time) => ["now()", "'2024-02-29'", "NULL"],
                    _ => ["true", "false", "NULL"],
                };
                let gone = gone[self.rng.random_range(0..3)];
                format!("UPDATE {name} SET gone = {gone} WHERE id = {key}")
            }
            _ => self.member(),
        }
    }

    fn truncate(&mut self) -> String {
        if self.rng.random_bool(0.2) {
            return "TRUNCATE members".into();
        }
        let table = self.table();
        format!("TRUNCATE {} CASCADE", self.world.tables[table].name)
    }

    fn policy_ddl(&mut self) -> String {
        let at = if self.rng.random_bool(0.1) { MEMBERS } else { self.table() };
        // A function may only stand where the schema's policies made `enable` name its access tables.
        let declared = self.world.tables[at].hides_members();
        let can = Abilities { access_tables: self.abilities.access_tables && declared, ..self.abilities };
        let table = &self.world.tables[at];
        let known = format!("p{}", self.rng.random_range(0..self.policies));
        match self.rng.random_range(0..4) {
            0 => format!("DROP POLICY IF EXISTS {known} ON {}", table.name),
            1 => {
                let using = Expr::random(self.rng, self.level, can, at, 2);
                format!(
                    "ALTER POLICY {known} ON {} USING ({})",
                    table.name,
                    asked(self.rng.random_bool(0.5), using.sql(&self.world.tables, table))
                )
            }
            _ => {
                let name = format!("p{}", self.policies);
                self.policies += 1;
                Policy::random(self.rng, self.level, can, at, name).create(&self.world.tables, table)
            }
        }
    }

    fn rls_ddl(&mut self) -> String {
        let at = self.rng.random_range(0..self.world.tables.len());
        let table = &self.world.tables[at].name;
        if self.level == Level::All && self.rng.random_bool(0.1) {
            let owner = ["tabler", "postgres"][self.rng.random_range(0..2)];
            return format!("ALTER TABLE {table} OWNER TO {owner}");
        }
        let verb = ["ENABLE", "ENABLE", "DISABLE", "FORCE", "NO FORCE"][self.rng.random_range(0..5)];
        format!("ALTER TABLE {table} {verb} ROW LEVEL SECURITY")
    }

    /// What changes a table's look, its readers or the roles; mostly undone some operations later.
    fn ddl(&mut self, at: usize) -> Op {
        let (now, undo) = match self.rng.random_range(0..10) {
            0..3 => self.roles(),
            3..6 => self.grants(),
            6..8 => self.columns(),
            8 => self.partitions(),
            _ => {
                let level = self.rng.random_range(0..3);
                let hostile = self.world.hostile;
                (my_orgs(level, hostile), vec![my_orgs(0, hostile)])
            }
        };
        let mut when = at;
        for sql in undo {
            when += self.rng.random_range(1..20);
            if self.rng.random_bool(0.9) {
                self.later.push((when, Op::ddl(sql)));
            }
        }
        if self.rng.random_bool(0.2) {
            // With changes of rows, kept or not.
            let statements = vec![self.statement(), now, self.statement()];
            return Op::write(None, statements, self.rng.random_bool(0.7));
        }
        Op::ddl(now)
    }

    fn roles(&mut self) -> (String, Vec<String>) {
        let role = ["app", "auditor", "manager"][self.rng.random_range(0..3)];
        let (now, undo) = match self.rng.random_range(0..7) {
            0 => ("GRANT auditor TO app".into(), "REVOKE auditor FROM app".into()),
            1 => ("REVOKE app FROM manager".into(), "GRANT app TO manager".into()),
            2 => ("GRANT auditor TO manager".into(), "REVOKE auditor FROM manager".into()),
            3 => ("GRANT tabler TO manager".into(), "REVOKE tabler FROM manager".into()),
            4 => ("ALTER ROLE bypasser NOBYPASSRLS".into(), "ALTER ROLE bypasser BYPASSRLS".into()),
            5 => ("ALTER ROLE manager NOINHERIT".into(), "ALTER ROLE manager INHERIT".into()),
            _ => (format!("ALTER ROLE {role} BYPASSRLS"), format!("ALTER ROLE {role} NOBYPASSRLS")),
        };
        (now, vec![undo])
    }

    fn grants(&mut self) -> (String, Vec<String>) {
        let at = self.rng.random_range(0..self.world.tables.len());
        let table = self.world.tables[at].name.clone();
        let role = ["app", "auditor", "manager"][self.rng.random_range(0..3)];
        let back = format!("GRANT SELECT ON {table} TO {role}");
        let columns: &[&str] = if at == MEMBERS {
            &["org, usr", "org, usr, level", "level"]
        } else {
            &["id, n", "id, owner, org, parent", "id, owner, org, parent, public, n", "n", "body, id"]
        };
        let columns = columns[self.rng.random_range(0..columns.len())];
        match self.rng.random_range(0..10) {
            0..2 => (format!("REVOKE SELECT ON {table} FROM {role}"), vec![back]),
            2..8 => {
                let some =
                    format!("REVOKE SELECT ON {table} FROM {role}; GRANT SELECT ({columns}) ON {table} TO {role}");
                (some, vec![back])
            }
            8 => (format!("REVOKE SELECT ({columns}) ON {table} FROM {role}"), vec![]),
            _ => (format!("GRANT SELECT ({columns}) ON {table} TO {role}"), vec![]),
        }
    }

    fn columns(&mut self) -> (String, Vec<String>) {
        let table = self.table();
        let name = &self.world.tables[table].name;
        let rename = |from: &str, to: &str| format!("ALTER TABLE {name} RENAME COLUMN {from} TO {to}");
        let one = |now: String, undo: String| (now, vec![undo]);
        match self.rng.random_range(0..10) {
            8 => (
                format!("ALTER TABLE {name} ADD COLUMN extra int"),
                vec![
                    format!("UPDATE {name} SET extra = n WHERE n < {}", self.rng.random_range(0..99)),
                    format!("ALTER TABLE {name} DROP COLUMN extra"),
                ],
            ),
            9 => (
                format!("ALTER TABLE {name} DROP COLUMN body"),
                vec![
                    format!("ALTER TABLE {name} ADD COLUMN body text"),
                    format!("UPDATE {name} SET body = 'b' || n WHERE n < {}", self.rng.random_range(0..99)),
                ],
            ),
            0 => one(
                format!("ALTER TABLE {name} ADD COLUMN extra int DEFAULT {}", self.rng.random_range(0..9)),
                format!("ALTER TABLE {name} DROP COLUMN extra"),
            ),
            1 => one(
                format!("ALTER TABLE {name} DROP COLUMN body"),
                format!("ALTER TABLE {name} ADD COLUMN body text DEFAULT 'anew'"),
            ),
            2 => one(rename("body", "corpus"), rename("corpus", "body")),
            3 => one(rename("owner", "holder"), rename("holder", "owner")),
            4 => one(rename("n", "m"), rename("m", "n")),
            5 => one(rename("gone", "went"), rename("went", "gone")),
            6 => one(rename("org", "team"), rename("team", "org")),
            _ => one(
                format!("ALTER TABLE {name} ALTER COLUMN n TYPE numeric(9, 2)"),
                format!("ALTER TABLE {name} ALTER COLUMN n TYPE int"),
            ),
        }
    }

    fn partitions(&mut self) -> (String, Vec<String>) {
        let split: Vec<usize> = (1..self.world.tables.len()).filter(|t| self.world.tables[*t].partitioned).collect();
        if split.is_empty() {
            return self.columns();
        }
        let name = &self.world.tables[split[self.rng.random_range(0..split.len())]].name;
        let detach = format!("ALTER TABLE {name} DETACH PARTITION {name}_high");
        let attach = super::schema::attach(name);
        let undo = match self.rng.random_range(0..3) {
            0 => vec![format!("DELETE FROM {name}_high WHERE n < 50"), attach],
            1 => vec![format!("UPDATE {name}_high SET owner = 1 WHERE n > 50"), attach],
            _ => vec![attach],
        };
        (detach, undo)
    }
}
