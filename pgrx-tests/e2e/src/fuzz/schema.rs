//! Random worlds: a members table and one to three tables that all have the same columns, so that any policy and any
//! operation fits any of them.

use rand::rngs::StdRng;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::postgrest::Caller;
use crate::replica::Spec;

use super::hostile;
use super::policy_grammar::{asked, Expr, Policy};
use super::settings::{Settings, Side};
use super::{Abilities, Level};

/// The place of the members table.
pub const MEMBERS: usize = 0;
pub const ORGS: i64 = 4;
pub const USERS: i64 = 4;
/// Few keys, so that rows are deleted and born again.
pub const KEYS: i64 = 30;

/// Everybody who pulls: role and user number.
pub const ACTORS: [(&str, i64); 8] = [
    ("app", 1),
    ("app", 2),
    ("app", 3),
    ("app", 4),
    ("auditor", 9),
    // a member of app: policies TO app are for it as well
    ("manager", 2),
    // BYPASSRLS
    ("bypasser", 9),
    // owns the tables
    ("tabler", 3),
];

pub fn actor(at: usize) -> Caller {
    let (role, sub) = ACTORS[at];
    Caller { role: role.to_owned(), claims: json!({ "role": role, "sub": sub.to_string() }) }
}

/// Roles are the cluster's: made once.
pub const ROLES: &str = r"
CREATE ROLE app NOLOGIN;
CREATE ROLE auditor NOLOGIN;
CREATE ROLE manager NOLOGIN INHERIT;
CREATE ROLE bypasser NOLOGIN BYPASSRLS;
CREATE ROLE tabler NOLOGIN;
CREATE ROLE authenticator LOGIN NOINHERIT;
GRANT app TO manager;
GRANT app, auditor, manager, bypasser, tabler TO authenticator;
";

/// Before each world: operations change the roles, and these are the cluster's.
pub const ROLES_AS_MADE: &str = r"
REVOKE auditor FROM app;
REVOKE auditor, tabler FROM manager;
GRANT app TO manager;
ALTER ROLE app NOBYPASSRLS;
ALTER ROLE auditor NOBYPASSRLS;
ALTER ROLE manager INHERIT NOBYPASSRLS;
ALTER ROLE bypasser BYPASSRLS;
";

/// The function that hides the members table.
pub fn my_orgs(level: i64, hostile: bool) -> String {
    let level = if level > 0 { format!(" AND level >= {level}") } else { String::new() };
    // Whoever may call it has a search path of his own: what its author has to see to.
    let (path, since) = if hostile { ("SET search_path = pg_catalog, public ", SINCE) } else { ("", "") };
    format!(
        "CREATE OR REPLACE FUNCTION public.my_orgs() RETURNS SETOF int STABLE SECURITY DEFINER {path}LANGUAGE sql AS \
         $$ SELECT org FROM public.members WHERE usr = public.me(){level}{since} $$"
    )
}

/// Who is a member yet, in a hostile world.
const SINCE: &str = " AND since <= '2025-02-01'::date";

/// Partitions: keys below 16, and the others, which come and go.
pub fn attach(table: &str) -> String {
    format!("ALTER TABLE {table} ATTACH PARTITION {table}_high FOR VALUES FROM (16) TO (MAXVALUE)")
}

/// How rows are deleted softly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Soft {
    Flag,
    Time,
}

/// Where a table's scopes come from when a client asks for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScopeValues {
    /// the same for ever
    Fixed,
    /// memberships, declared as an access table
    Memberships,
    /// the same, found by itself
    Found,
}

impl ScopeValues {
    pub fn sql(self, hostile: bool) -> String {
        match self {
            Self::Fixed => "ARRAY[(1 + public.me() % 4)::text, '2']".to_owned(),
            Self::Memberships | Self::Found => format!(
                "ARRAY(SELECT m.org::text FROM public.members m WHERE m.usr = public.me(){})",
                if hostile { SINCE } else { "" }
            ),
        }
    }
}

/// Members are of circles (by `usr`), and each circle is somebody's.
const CIRCLES: &str =
    "CREATE TABLE circles (id int PRIMARY KEY, usr int NOT NULL); ALTER TABLE circles OWNER TO tabler; \
    ALTER TABLE circles ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON circles USING (usr = me()); \
    GRANT SELECT ON circles TO app, auditor, manager, bypasser";

/// Lets the members table hang on circles, and most policies of others on what is seen of it.
fn nest(tables: &mut [Table], rng: &mut StdRng) {
    for (at, table) in tables.iter_mut().enumerate() {
        // Where they alone decide, most.
        let only = rng.random_bool(0.6);
        table.policies.truncate(if only { 1 } else { usize::MAX });
        for policy in &mut table.policies {
            if at == MEMBERS {
                (policy.permissive, policy.using) = (true, Expr::Circle { own: rng.random_bool(0.5) });
                policy.roles.clear();
            } else if policy.permissive && (only || rng.random_bool(0.6)) {
                policy.using = Expr::AnyMember { exists: rng.random_bool(0.5) };
            }
        }
        table.rls |= at == MEMBERS;
    }
}

/// What every world's database begins with.
pub const TEMPLATE: &str = r"
CREATE EXTENSION snapsync;
GRANT CREATE ON SCHEMA public TO tabler;
CREATE FUNCTION me() RETURNS int STABLE LANGUAGE sql AS
  $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub')::int $$;
";

/// Lets policies ask for the caller's own memberships wherever they ask for any: then pulls read no others.
fn own_members(tables: &mut [Table], rng: &mut StdRng) {
    // By its own policy each sees his own, and no other asks for more.
    let by_its_own = rng.random_bool(0.4);
    if by_its_own {
        (tables[MEMBERS].rls, tables[MEMBERS].policies[0].using) = (true, Expr::Myself);
    }
    for (at, table) in tables.iter_mut().enumerate() {
        table.policies.iter_mut().for_each(|policy| policy.using.of_own_members(rng, by_its_own));
        if at == MEMBERS {
            table.collection &= rng.random_bool(0.3);
        } else if table.scope_values != Some(ScopeValues::Fixed) {
            table.scope_values = None;
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    pub name: String,
    /// the key is text, not int (never for a table that another has as its parent)
    pub text_key: bool,
    /// a foreign key to this table, ON DELETE CASCADE
    pub parent: Option<usize>,
    pub rls: bool,
    pub force: bool,
    pub policies: Vec<Policy>,
    /// synced; the members table need not be
    pub collection: bool,
    /// enabled with `scope_column => 'org'`
    pub scoped: bool,
    #[serde(default)]
    pub scope_values: Option<ScopeValues>,
    #[serde(default)]
    pub soft: Option<Soft>,
    #[serde(default)]
    pub partitioned: bool,
    /// not synced
    #[serde(default)]
    pub exclude: Option<String>,
    /// hidden access tables are declared with a predicate
    #[serde(default)]
    pub predicate: bool,
    /// and with the columns that are read of them
    #[serde(default)]
    pub columns_read: bool,
    /// the columns that role app may read, if not all
    #[serde(default)]
    pub narrow: Option<String>,
}

impl Table {
    pub fn spec(&self) -> Spec {
        if self.name == "members" {
            Spec::new(&self.name, &["org", "usr"])
        } else {
            Spec::new(&self.name, &["id"])
        }
    }

    /// Whether functions hide from the extension that the members table counts.
    pub fn hides_members(&self) -> bool {
        self.scope_values == Some(ScopeValues::Memberships) || self.policies.iter().any(|p| p.using.hides_members())
    }

    /// The wire id that a number stands for in a filter.
    pub fn wire_id(&self, id: i64) -> String {
        if self.name == "members" {
            format!("{}.{}", 1 + id % ORGS, 1 + id / ORGS % USERS)
        } else if self.text_key {
            format!("k {id}/é")
        } else {
            id.to_string()
        }
    }

    /// The condition that a row has one of these.
    pub fn has_id(&self, ids: &[i64]) -> String {
        let ids: Vec<String> = ids.iter().map(|id| format!("'{}'", self.wire_id(*id))).collect();
        let key = if self.name == "members" { "org || '.' || usr" } else { "id::text" };
        format!("{key} = ANY (ARRAY[{}]::text[])", ids.join(", "))
    }

    /// A key as an SQL literal.
    pub fn key(&self, id: i64) -> String {
        if self.text_key {
            format!("'k {id}/é'")
        } else {
            id.to_string()
        }
    }
}

/// A client: who it is, and which rows it asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicaDef {
    pub actor: usize,
    pub filter: Option<Vec<i64>>,
    #[serde(default)]
    pub ids: Option<Vec<i64>>,
}

/// Which rows a client asks for: of these organisations, where a table is scoped, and with these keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub orgs: Option<Vec<i64>>,
    pub ids: Option<Vec<i64>>,
}

impl Ask {
    pub fn random(rng: &mut StdRng, scoped: bool) -> Self {
        let orgs = (scoped && rng.random_bool(0.5))
            .then(|| (0..rng.random_range(0..4)).map(|_| rng.random_range(1..=ORGS)).collect());
        let most = if rng.random_bool(0.2) { 200 } else { KEYS };
        let ids = rng
            .random_bool(if scoped { 0.3 } else { 0.8 })
            .then(|| (0..rng.random_range(0..most)).map(|_| rng.random_range(1..=most)).collect());
        Self { orgs, ids }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct World {
    pub tables: Vec<Table>,
    pub replicas: Vec<ReplicaDef>,
    /// with random session settings, and what they matter to
    #[serde(default)]
    pub hostile: bool,
    /// what is seen of the members table is decided by another one, `circles`
    #[serde(default)]
    pub nested: bool,
    /// of the sessions that made the policies and enabled the tables
    #[serde(default)]
    pub policies_under: Settings,
    #[serde(default)]
    pub enabled_under: Settings,
}

impl World {
    pub fn random(rng: &mut StdRng, level: Level, abilities: Abilities) -> Self {
        let others = rng.random_range(1..4);
        let mut tables: Vec<Table> = Vec::new();
        for at in 0..=others {
            let members = at == MEMBERS;
            let permissive = rng.random_range(1..4);
            let mut policies: Vec<Policy> = (0..if members { 1 } else { permissive })
                .map(|i| Policy::random(rng, level, abilities, at, format!("p{i}")))
                .collect();
            // By half of them a column divides the rows among the users: a scope.
            if !members && rng.random_bool(0.5) {
                let column = rng.random_range(0..3);
                for policy in policies.iter_mut().filter(|p| p.permissive) {
                    policy.using = Expr::dividing(rng, level, abilities, at, column);
                }
            }
            // At least one opens something.
            policies[0].permissive = true;
            tables.push(Table {
                name: if members { "members".into() } else { format!("t{at}") },
                text_key: at == others && !members && rng.random_bool(0.3),
                parent: (at > 1 && rng.random_bool(0.6)).then(|| rng.random_range(1..at)),
                rls: if members { rng.random_bool(0.4) } else { rng.random_bool(0.9) },
                force: rng.random_bool(0.2),
                policies,
                collection: !members || rng.random_bool(0.5),
                scoped: !members && level >= Level::All && abilities.scopes && rng.random_bool(0.5),
                scope_values: None,
                soft: None,
                partitioned: false,
                exclude: None,
                predicate: rng.random_bool(0.5),
                columns_read: rng.random_bool(0.5),
                narrow: None,
            });
            let table = tables.last_mut().expect("just pushed");
            if level >= Level::All && rng.random_bool(0.15) {
                let some =
                    if members { ["org, usr"; 3] } else { ["id", "id, n, parent, org", "id, owner, parent, body"] };
                table.narrow = Some(some[rng.random_range(0..3)].to_owned());
            }
            if !members && level >= Level::All {
                if table.scoped && rng.random_bool(0.4) {
                    let values = [ScopeValues::Fixed, ScopeValues::Memberships, ScopeValues::Found, ScopeValues::Found];
                    table.scope_values = Some(values[rng.random_range(0..values.len())]);
                }
                table.soft = match rng.random_range(0..5) {
                    0 => Some(Soft::Flag),
                    1 => Some(Soft::Time),
                    _ => None,
                };
                table.partitioned = !table.text_key && rng.random_bool(0.25);
                table.exclude = rng.random_bool(0.2).then(|| ["body", "owner", "n"][rng.random_range(0..3)].to_owned());
            }
        }
        let nested = level >= Level::Membership && rng.random_bool(abilities.nested);
        if nested {
            nest(&mut tables, rng);
        }
        if level >= Level::Membership && rng.random_bool(abilities.own_members) {
            own_members(&mut tables, rng);
        }
        let scoped = tables.iter().any(|t| t.scoped);
        let replicas = (0..rng.random_range(2..6))
            .map(|_| ReplicaDef {
                actor: if rng.random_bool(0.6) { rng.random_range(0..4) } else { rng.random_range(0..ACTORS.len()) },
                filter: (scoped && rng.random_bool(0.5))
                    .then(|| (0..rng.random_range(1..3)).map(|_| rng.random_range(1..=ORGS)).collect()),
                ids: (level >= Level::All && abilities.scopes && rng.random_bool(0.25))
                    .then(|| (0..rng.random_range(0..KEYS)).map(|_| rng.random_range(1..=KEYS)).collect()),
            })
            .collect();
        let hostile = abilities.hostile;
        let mut under = || if hostile { Settings::random(rng, Side::Writes) } else { Settings::default() };
        let (policies_under, enabled_under) = (under(), under());
        Self { tables, replicas, hostile, nested, policies_under, enabled_under }
    }

    /// Does this client ask for other rows from time to time?
    pub fn asks(&self, replica: usize) -> bool {
        let def = &self.replicas[replica];
        def.filter.is_some() || def.ids.is_some()
    }

    pub fn collections(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(|t| t.collection)
    }

    /// The statements that make the world in a database of the template, and the settings of their sessions.
    pub fn ddl(&self) -> Vec<(Settings, String)> {
        let under = |settings: &Settings, ddl: Vec<String>| {
            ddl.into_iter().map(|sql| (settings.clone(), sql)).collect::<Vec<_>>()
        };
        // Here names mean what the usual path says; later statements find tables by any path of `Side::Writes`.
        let mut all = under(&Settings::default(), self.tables_ddl());
        all.extend(under(&self.policies_under, self.policies_ddl()));
        all.extend(under(&self.enabled_under, self.enable_ddl()));
        all
    }

    fn tables_ddl(&self) -> Vec<String> {
        let columns = if self.hostile { hostile::COLUMNS } else { "" };
        let mut ddl = Vec::new();
        if self.nested {
            ddl.push(CIRCLES.to_owned());
        }
        for (at, table) in self.tables.iter().enumerate() {
            let name = &table.name;
            if at == MEMBERS {
                ddl.push(format!(
                    "CREATE TABLE {name} (org int NOT NULL, usr int NOT NULL, level int NOT NULL DEFAULT 1{}, PRIMARY KEY (org, usr))",
                    if self.hostile { ", since date NOT NULL DEFAULT '2025-01-15'" } else { "" }
                ));
                ddl.push(my_orgs(0, self.hostile));
                ddl.push(format!("CREATE VIEW memberships AS SELECT org, usr FROM {name}"));
                ddl.push("GRANT SELECT ON memberships TO app, auditor, manager, bypasser, tabler".to_owned());
            } else {
                let key = if table.text_key { "text" } else { "int" };
                let parent = table.parent.map_or(String::new(), |p| {
                    format!(" REFERENCES {} ON DELETE CASCADE ON UPDATE CASCADE", self.tables[p].name)
                });
                ddl.push(format!(
                    "CREATE TABLE {name} (id {key} PRIMARY KEY, owner int, org int, parent int{parent}, \
                     public boolean NOT NULL DEFAULT false, n int, body text DEFAULT 'b', gone {}{columns}){}",
                    if table.soft == Some(Soft::Time) { "timestamptz" } else { "boolean" },
                    if table.partitioned { " PARTITION BY RANGE (id)" } else { "" }
                ));
                if table.partitioned {
                    ddl.push(format!("CREATE TABLE {name}_low PARTITION OF {name} FOR VALUES FROM (MINVALUE) TO (16)"));
                    ddl.push(format!("CREATE TABLE {name}_high (LIKE {name} INCLUDING DEFAULTS)"));
                    ddl.push(attach(name));
                }
            }
            ddl.push(format!("ALTER TABLE {name} OWNER TO tabler"));
            ddl.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO app, auditor, manager, bypasser"));
            if let Some(columns) = &table.narrow {
                ddl.push(format!("REVOKE SELECT ON {name} FROM app; GRANT SELECT ({columns}) ON {name} TO app"));
            }
        }
        ddl
    }

    fn policies_ddl(&self) -> Vec<String> {
        let mut ddl = Vec::new();
        for table in &self.tables {
            for policy in &table.policies {
                ddl.push(policy.create(&self.tables, table));
            }
            if table.rls {
                ddl.push(format!("ALTER TABLE {} ENABLE ROW LEVEL SECURITY", table.name));
            }
            if table.force {
                ddl.push(format!("ALTER TABLE {} FORCE ROW LEVEL SECURITY", table.name));
            }
        }
        ddl
    }

    fn enable_ddl(&self) -> Vec<String> {
        let mut ddl = Vec::new();
        for table in self.collections() {
            let mut arguments = format!("'{}'", table.name);
            let selects = table.policies.first().is_some_and(|p| p.selects);
            if table.scoped {
                arguments += ", scope_column => 'org'";
            }
            if let Some(values) = table.scope_values {
                arguments += &format!(", scope_values => $${}$$", asked(selects, values.sql(self.hostile)));
            }
            if table.soft.is_some() {
                arguments += ", soft_delete_column => 'gone'";
            }
            if let Some(column) = &table.exclude {
                arguments += &format!(", exclude => '{{{column}}}'");
            }
            if table.hides_members() {
                let since = if self.hostile { SINCE } else { "" };
                let predicate = if table.predicate {
                    asked(selects, format!(r#""usr = public.me(){since}""#))
                } else {
                    "null".to_owned()
                };
                let declared = if table.columns_read {
                    let since = if self.hostile { r#", "since""# } else { "" };
                    format!(r#"{{"members": {{"predicate": {predicate}, "columns": ["org", "usr", "level"{since}]}}}}"#)
                } else {
                    format!(r#"{{"members": {predicate}}}"#)
                };
                arguments += &format!(", access_tables => $${declared}$$");
            }
            ddl.push(format!("SELECT snapsync.enable({arguments})"));
        }
        ddl
    }
}
