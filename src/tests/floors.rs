//! The plan of the house (src/lib.rs): arrows go down only.

use super::source::files;

/// From the top floor down. A file belongs to the room whose name its path begins with; those at the top stand above all.
const ROOMS: [&str; 9] = ["push", "pull", "sight", "track", "collections", "policies", "log", "values", "server"];

/// Those that `crate::` paths in a text name.
fn named(code: &str) -> impl Iterator<Item = &str> {
    let word = |rest: &'_ str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    code.split("crate::").skip(1).map(move |rest| &rest[..word(rest)])
}

fn floor(room: &str) -> Option<usize> {
    ROOMS.iter().position(|r| *r == room)
}

/// The line that a push walks, its end first: a part takes from those before it, which are below here.
const PUSH: [&str; 19] = [
    "drift",
    "mutate",
    "once",
    "again",
    "answer",
    "write",
    "standing",
    "constraints",
    "apply",
    "echo",
    "statement",
    "steps",
    "order",
    "decide",
    "item",
    "rejection",
    "pusher",
    "target",
    "payload",
];

/// The parts of the push that a file of it names.
fn parts<'c>(name: &str, code: &'c str) -> Vec<&'c str> {
    let words = |list: &'c str| list.split(|c: char| !c.is_alphanumeric() && c != '_');
    let own = if name.matches('/').count() == 1 { "super::" } else { "crate::push::" };
    let paths = code.split(own).skip(1).chain(code.split("crate::push::").skip(1));
    let listed = |path: &'c str| match path.strip_prefix('{') {
        Some(list) => words(&list[..list.find('}').unwrap_or(0)]).collect::<Vec<_>>(),
        None => words(path).take(1).collect(),
    };
    paths.flat_map(listed).collect()
}

#[test]
fn a_push_walks_one_way() {
    let at = |part: &str| PUSH.iter().position(|p| *p == part);
    for (name, code) in files() {
        let Some(rest) = name.strip_prefix("push/") else { continue };
        let own = rest.split(['/', '.']).next().unwrap_or("");
        let own = at(own).unwrap_or_else(|| panic!("{name} is no part of the line"));
        let back: Vec<&str> = parts(&name, &code).into_iter().filter(|p| at(p).is_some_and(|at| at < own)).collect();
        assert!(back.is_empty(), "{name} takes from {back:?}, which come after it");
    }
}

#[test]
fn no_file_imports_from_a_room_above_its_own() {
    for (name, code) in files() {
        let Some(own) = floor(name.split(['/', '.']).next().unwrap_or("")) else { continue };
        let up: Vec<&str> = named(&code).filter(|room| floor(room).is_none_or(|at| at < own)).collect();
        assert!(up.is_empty(), "{name} imports from {up:?}, above its own room");
    }
}
