//! Random policies. A table's policies look only at tables before it, so that no two policies go in a circle.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::hostile::Typed;
use super::schema::{Table, MEMBERS, ORGS};
use super::{Abilities, Level};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Expr {
    True,
    Own,
    Public,
    Divides(i64),
    Above(i64),
    Org(i64),
    /// the composite value of the whole row
    WholeRow(i64),
    /// the same where its text depends on settings
    WholeRowNumber(i64),
    /// of a hostile world
    Typed(Typed),
    MemberSince,
    /// of the members table only
    Myself,
    MemberIn(i64),
    MemberExists(i64),
    /// nested: what is seen of the parent table is its own policies' business
    ParentIn(usize),
    ParentExists {
        table: usize,
        own: bool,
    },
    /// what a row without a parent is asked: is there any of these?
    ParentOut {
        table: usize,
        way: u32,
    },
    /// the row inside of what is compared with
    MemberOf(i64),
    MemberArray,
    ParentOwner(usize),
    /// the owner's number as text
    OwnText,
    /// nothing of the row
    Caller(i64),
    /// a function hides the members table
    MyOrgs,
    /// a view of the members table, which reads past its policies
    View,
    /// whoever's memberships: which of them are seen is the business of the members table's own policies
    AnyMember {
        exists: bool,
    },
    /// of the members table only: its circle shows a membership; or its own circle's policies do
    Circle {
        own: bool,
    },
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Policy {
    pub name: String,
    pub permissive: bool,
    pub select_only: bool,
    /// empty: PUBLIC
    pub roles: Vec<String>,
    pub using: Expr,
    /// who asks is asked for as Supabase advises: `(SELECT me())`
    #[serde(default)]
    pub selects: bool,
}

impl Expr {
    pub fn sql(&self, tables: &[Table], table: &Table) -> String {
        let t = &table.name;
        match self {
            Self::True => "true".to_owned(),
            Self::Own => "owner = me()".to_owned(),
            Self::Public => "public".to_owned(),
            Self::Divides(k) => format!("n % {k} = 0"),
            Self::Above(k) => format!("n > {k}"),
            Self::Org(k) => format!("org = {k}"),
            Self::WholeRow(k) => format!("({t}.*)::text LIKE '%{k}%'"),
            Self::WholeRowNumber(k) => format!("to_jsonb({t}.*) ->> 'n' LIKE '%{k}%'"),
            Self::Typed(condition) => condition.sql(),
            Self::MemberSince => format!(
                "EXISTS (SELECT 1 FROM members m WHERE m.org = {t}.org AND m.usr = me() AND m.since <= '2025-02-01'::date)"
            ),
            Self::Myself => "usr = me()".to_owned(),
            Self::MemberIn(level) => {
                format!("org IN (SELECT m.org FROM members m WHERE m.usr = me() AND m.level >= {level})")
            }
            Self::MemberExists(level) => format!(
                "EXISTS (SELECT 1 FROM members m WHERE m.org = {t}.org AND m.usr = me() AND m.level >= {level})"
            ),
            Self::MemberOf(level) => {
                format!("me() IN (SELECT m.usr FROM members m WHERE m.org = {t}.org AND m.level >= {level})")
            }
            Self::MemberArray => "org = ANY (ARRAY(SELECT m.org FROM members m WHERE m.usr = me()))".to_owned(),
            Self::ParentOwner(p) => {
                format!("me() = (SELECT p.owner FROM {} p WHERE p.id = {t}.parent)", tables[*p].name)
            }
            Self::OwnText => "owner::text = me()::text".to_owned(),
            Self::Caller(k) => format!("me() = {k}"),
            Self::ParentIn(p) => format!("parent IN (SELECT p.id FROM {} p)", tables[*p].name),
            Self::ParentExists { table, own } => format!(
                "EXISTS (SELECT 1 FROM {} p WHERE p.id = {t}.parent{})",
                tables[*table].name,
                if *own { " AND p.owner = me()" } else { "" }
            ),
            Self::ParentOut { table, way } => {
                // Few, often none.
                let some = format!("SELECT p.id FROM {} p WHERE p.public AND p.owner = me()", tables[*table].name);
                match way {
                    0 => format!("parent NOT IN ({some})"),
                    1 => format!("(parent IN ({some})) IS NOT FALSE"),
                    _ => format!("coalesce(parent IN ({some}), true)"),
                }
            }
            Self::MyOrgs => "org IN (SELECT my_orgs())".to_owned(),
            Self::View => "org IN (SELECT v.org FROM memberships v WHERE v.usr = me())".to_owned(),
            Self::AnyMember { exists: false } => "org IN (SELECT m.org FROM members m)".to_owned(),
            Self::AnyMember { exists: true } => format!("EXISTS (SELECT 1 FROM members m WHERE m.org = {t}.org)"),
            Self::Circle { own } => format!(
                "EXISTS (SELECT 1 FROM circles c WHERE c.id = {t}.usr{})",
                if *own { " AND c.usr = me()" } else { "" }
            ),
            Self::And(a, b) => format!("({} AND {})", a.sql(tables, table), b.sql(tables, table)),
            Self::Or(a, b) => format!("({} OR {})", a.sql(tables, table), b.sql(tables, table)),
            Self::Not(a) => format!("NOT ({})", a.sql(tables, table)),
        }
    }

    /// Whether a table's rows can become visible or vanish through another table.
    pub fn hides_members(&self) -> bool {
        match self {
            Self::MyOrgs => true,
            Self::And(a, b) | Self::Or(a, b) => a.hides_members() || b.hides_members(),
            Self::Not(a) => a.hides_members(),
            _ => false,
        }
    }

    /// Lets it ask for the caller's own memberships wherever it asks for any: itself, or (`any`) as the members table's own policies say.
    pub fn of_own_members(&mut self, rng: &mut StdRng, any: bool) {
        match self {
            Self::MemberIn(_) | Self::MemberExists(_) | Self::MemberArray if any && rng.random_bool(0.7) => {
                *self = Self::AnyMember { exists: rng.random_bool(0.5) };
            }
            Self::MemberOf(_) | Self::MyOrgs | Self::View | Self::AnyMember { .. } => {
                let k = rng.random_range(0..3);
                let some =
                    [Self::MemberIn(k), Self::MemberExists(k), Self::MemberArray, Self::AnyMember { exists: true }];
                *self = some[..if any { 4 } else { 3 }].choose(rng).expect("not empty").clone();
            }
            Self::And(a, b) | Self::Or(a, b) => {
                a.of_own_members(rng, any);
                b.of_own_members(rng, any);
            }
            Self::Not(a) => a.of_own_members(rng, any),
            _ => {}
        }
    }

    /// One of those that ask the same column for something of the caller's: owner (0), org (1) or parent (2).
    pub fn dividing(rng: &mut StdRng, level: Level, can: Abilities, at: usize, column: u32) -> Self {
        let k = rng.random_range(0..3);
        let bound = match column {
            1 if level >= Level::Membership => match rng.random_range(0..6) {
                0 => Self::MemberIn(k),
                1 => Self::MemberExists(k),
                2 => Self::MemberOf(k),
                3 if can.hostile => Self::MemberSince,
                4 if level >= Level::All && can.access_tables => Self::MyOrgs,
                _ => Self::MemberArray,
            },
            2 if level >= Level::Membership && at > 1 => {
                let table = rng.random_range(1..at);
                match rng.random_range(0..3) {
                    0 => Self::ParentIn(table),
                    1 => Self::ParentOwner(table),
                    _ => Self::ParentExists { table, own: rng.random_bool(0.4) },
                }
            }
            _ if rng.random_bool(0.3) => Self::OwnText,
            _ => Self::Own,
        };
        let beside = Box::new(Self::random(rng, level, can, at, 1));
        match rng.random_range(0..6) {
            0 => Self::And(Box::new(bound), beside),
            1 => Self::And(beside, Box::new(bound)),
            2 => Self::Or(Box::new(Self::Caller(k + 1)), Box::new(bound)),
            _ => bound,
        }
    }

    /// `at`: the table's place in the world. `can`: whether hidden access tables can be declared.
    pub fn random(rng: &mut StdRng, level: Level, can: Abilities, at: usize, depth: u32) -> Self {
        if at == MEMBERS {
            return [Self::Myself, Self::Org(1), Self::True].choose(rng).expect("not empty").clone();
        }
        if depth > 0 && rng.random_bool(0.4) {
            let mut part = || Box::new(Self::random(rng, level, can, at, depth - 1));
            let (a, b) = (part(), part());
            return match rng.random_range(0..5) {
                0..2 => Self::And(a, b),
                2..4 => Self::Or(a, b),
                _ => Self::Not(a),
            };
        }
        if can.hostile && rng.random_bool(0.35) {
            return if level >= Level::Membership && rng.random_bool(0.15) {
                Self::MemberSince
            } else {
                Self::Typed(Typed::random(rng))
            };
        }
        let k = rng.random_range(1..4);
        if level >= Level::Membership && rng.random_bool(0.55) {
            // The members table is the first, at 0; parents are those between.
            let parent = (at > 1).then(|| rng.random_range(1..at));
            return match (rng.random_range(0..if level >= Level::All { 9 } else { 8 }), parent) {
                (0, _) => Self::MemberIn(k - 1),
                (1, _) => Self::MemberExists(k - 1),
                (2, Some(table)) if rng.random_bool(0.3) => Self::ParentOut { table, way: rng.random_range(0..3) },
                (2, Some(p)) => Self::ParentIn(p),
                (3, Some(table)) => Self::ParentExists { table, own: rng.random_bool(0.4) },
                (4, _) => Self::MemberOf(k - 1),
                (5, _) => Self::MemberArray,
                (6, Some(p)) => Self::ParentOwner(p),
                (7, _) if level >= Level::All && can.access_tables => Self::MyOrgs,
                (8, _) => Self::View,
                _ => Self::MemberIn(0),
            };
        }
        match rng.random_range(0..20) {
            0..7 => Self::Own,
            7 => Self::OwnText,
            8 => Self::Caller(k),
            9..12 => Self::Public,
            12..14 => Self::Divides(k + 1),
            14..16 => Self::Above(k * 20),
            16..18 => Self::Org(rng.random_range(1..=ORGS)),
            18 if level > Level::Rows && can.whole_row && can.hostile => Self::WholeRowNumber(k),
            18 if level > Level::Rows && can.whole_row => Self::WholeRow(k),
            _ => Self::True,
        }
    }
}

/// The condition, with who asks as a subquery or as it is.
pub fn asked(selects: bool, condition: String) -> String {
    if selects {
        condition.replace("public.me()", "me()").replace("me()", "(SELECT public.me())")
    } else {
        condition
    }
}

impl Policy {
    pub fn random(rng: &mut StdRng, level: Level, can: Abilities, at: usize, name: String) -> Self {
        let roles = match rng.random_range(0..10) {
            0..5 => vec![],
            5..8 => vec!["app"],
            8 => vec!["auditor"],
            _ => vec!["app", "auditor"],
        };
        Self {
            name,
            permissive: rng.random_bool(0.8),
            select_only: rng.random_bool(0.4),
            roles: roles.into_iter().map(str::to_owned).collect(),
            using: Expr::random(rng, level, can, at, 2),
            selects: rng.random_bool(0.5),
        }
    }

    /// The condition.
    pub fn sql(&self, tables: &[Table], table: &Table) -> String {
        asked(self.selects, self.using.sql(tables, table))
    }

    pub fn create(&self, tables: &[Table], table: &Table) -> String {
        format!(
            "CREATE POLICY {} ON {} AS {} FOR {} TO {} USING ({})",
            self.name,
            table.name,
            if self.permissive { "PERMISSIVE" } else { "RESTRICTIVE" },
            if self.select_only { "SELECT" } else { "ALL" },
            if self.roles.is_empty() { "PUBLIC".to_owned() } else { self.roles.join(", ") },
            self.sql(tables, table)
        )
    }
}
