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

#[test]
fn no_file_imports_from_a_room_above_its_own() {
    for (name, code) in files() {
        let Some(own) = floor(name.split(['/', '.']).next().unwrap_or("")) else { continue };
        let up: Vec<&str> = named(&code).filter(|room| floor(room).is_none_or(|at| at < own)).collect();
        assert!(up.is_empty(), "{name} imports from {up:?}, above its own room");
    }
}
