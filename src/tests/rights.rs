//! Who acts with other rights than the caller's stands on a list, with the reason: `rights.list`, a line for each function.
//!
//! Statements that run as the extension's owner are constants: no name, expression or value of a user's becomes part of their text.
//! The few that are put together from parts say so on the list (`builds:`), with what the parts are.

use std::collections::BTreeMap;
use std::path::Path;

/// What raises rights: takes another role's, or runs what such a function is given.
const RAISING: [&str; 15] = [
    "as_owner",
    "as_table_owner",
    "as_author",
    "as_role",
    "owner_query",
    "owner_execute",
    "owner_maintain",
    "query_now",
    "read_now",
    "read_as_before",
    "SetUserIdAndSecContext",
    "checkAsUser",
    "requiredPerms",
    "selectedCols",
    // What row-level security has put on a table.
    "securityQuals",
];

/// Those whose first argument is the statement.
const TAKES_STATEMENT: [&str; 6] =
    ["owner_query", "owner_execute", "owner_maintain", "query_now", "read_now", "read_as_before"];

/// The text after this word, at each place where it stands as a word of its own.
fn after_word<'t>(text: &'t str, word: &'static str) -> impl Iterator<Item = (usize, &'t str)> {
    let of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).filter_map(move |(at, _)| {
        let rest = &text[at + word.len()..];
        (!text[..at].ends_with(of_name) && !rest.starts_with(of_name)).then_some((at, rest))
    })
}

/// The function that this line begins.
fn begins(line: &str) -> Option<&str> {
    let at = line.find("fn ")?;
    let name = line[at + 3..].split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (!name.is_empty() && (at == 0 || line[..at].ends_with([' ', '(']))).then_some(name)
}

/// Is what follows the function's name a call with a text, or the name of a constant, as its first argument?
fn is_constant(rest: &str) -> bool {
    let argument = rest.strip_prefix('(').unwrap_or("").trim_start();
    let name: String = argument.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    argument.starts_with('"') || !name.is_empty() && !name.chars().any(char::is_lowercase)
}

/// `file function` of everything that raises rights; and whether it builds a statement.
fn raising() -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    for (name, code) in super::source::files() {
        for word in RAISING {
            for (at, rest) in after_word(&code, word) {
                let line = code[..at].lines().count().max(1);
                let lines: Vec<&str> = code.lines().take(line).collect();
                let here = lines.last().map_or("", |l| l.trim_start());
                if here.starts_with("use ") || here.starts_with("pub use ") || here.contains(&format!("fn {word}")) {
                    continue;
                }
                let function = lines.iter().rev().find_map(|l| begins(l)).unwrap_or("?");
                let builds = TAKES_STATEMENT.contains(&word) && !is_constant(rest);
                *found.entry(format!("{name} {function}")).or_insert(false) |= builds;
            }
        }
    }
    found
}

#[test]
fn all_that_raise_rights_are_on_the_list() {
    let found = raising();
    let mut listed = BTreeMap::new();
    for line in include_str!("rights.list").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (who, reason) = line.split_once(": ").unwrap_or_else(|| panic!("no reason: {line}"));
        assert!(listed.insert(who.to_string(), reason).is_none(), "listed twice: {who}");
    }
    let missing: Vec<&String> = found.keys().filter(|who| !listed.contains_key(*who)).collect();
    assert!(
        missing.is_empty(),
        "act with other rights than the caller's, and src/tests/rights.list does not say why: {missing:#?}"
    );
    let gone: Vec<&String> = listed.keys().filter(|who| !found.contains_key(*who)).collect();
    assert!(gone.is_empty(), "are on src/tests/rights.list, and are no more: {gone:#?}");
    let building = found.iter().filter(|(who, builds)| **builds != listed[*who].starts_with("builds: "));
    let building: Vec<&String> = building.map(|(who, _)| who).collect();
    assert!(
        building.is_empty(),
        "what runs as the extension's owner is a constant, or put together and \"builds: \" says of what: {building:#?}"
    );
}

#[test]
fn no_function_is_security_definer() {
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let mut definer = Vec::new();
    for entry in std::fs::read_dir(sql).expect("the install script's files").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("a file");
        let text: Vec<&str> = text.lines().filter(|l| !l.trim_start().starts_with(['-', '\''])).collect();
        let text = text.join("\n");
        for (at, _) in after_word(&text, "SECURITY DEFINER") {
            let before = text[..at].rfind("CREATE FUNCTION ").map_or("?", |f| &text[f + 16..]);
            definer.push(before.split('(').next().unwrap_or("?").to_string());
        }
    }
    assert_eq!(definer, Vec::<String>::new());
}
