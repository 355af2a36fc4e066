//! Memory that cannot be had is an ERROR (server/memory.rs). So in the rooms that data goes through nothing is allocated all at once without
//! being asked for, and each loop that heeds interrupts heeds that, too. What is bounded otherwise stands on `memory.list`, with the reason, a
//! line for each function.

use std::collections::BTreeMap;

use super::source::files;

/// Where data goes through: whole rooms, and files of others.
const ROOMS: [&str; 6] = ["push", "pull", "sight", "track", "log", "values"];
const FILES: [&str; 6] = [
    "functions.rs",
    "server/spi.rs",
    "server/spi/plans.rs",
    "server/statement.rs",
    "server/receiver.rs",
    "collections/lookup.rs",
];

/// What allocates for all that it is given: std's, which end the session, and not those of server/memory. (A list that grows by `push`
/// doubles; for that there is the reserve.)
const AT_ONCE: [&str; 14] = [
    ".collect(",
    ".collect::<",
    "::with_capacity(",
    "vec![",
    ".sort(",
    ".sort_by(",
    ".sort_by_key(",
    ".sort_by_cached_key(",
    ".to_vec(",
    ".extend(",
    ".extend_from_slice(",
    ".append(",
    ".unzip(",
    ".partition(",
];

/// The text up to its unit tests.
fn of_the_server(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod tests {").map_or(code, |at| &code[..at])
}

/// Does this line do it? A list of what stands there (`vec![a, b]`) is no larger than the source.
fn allocates(line: &str) -> bool {
    AT_ONCE.iter().any(|word| match line.find(word) {
        Some(at) if *word == "vec![" => line[at..].contains(';') && line[at..].find(';') < line[at..].find(']'),
        found => found.is_some(),
    })
}

/// The function that this line begins.
fn begins(line: &str) -> Option<&str> {
    let at = line.find("fn ").filter(|at| *at == 0 || line[..*at].ends_with([' ', '(']))?;
    line[at + 3..].split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())
}

#[test]
fn what_grows_with_data_asks_for_memory() {
    let mut found = BTreeMap::new();
    for (name, code) in files() {
        let room = name.split(['/', '.']).next().unwrap_or("");
        if !ROOMS.contains(&room) && !FILES.contains(&&*name) || name.ends_with("/properties.rs") {
            continue;
        }
        let mut function = "?";
        for line in of_the_server(&code).lines() {
            function = begins(line).unwrap_or(function);
            if allocates(line) {
                found.entry(format!("{name} {function}")).or_insert_with(|| line.trim().to_string());
            }
        }
    }
    let listed: Vec<&str> =
        include_str!("memory.list").lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let listed: Vec<&str> =
        listed.into_iter().map(|l| l.split_once(": ").unwrap_or_else(|| panic!("no reason: {l}")).0).collect();
    let missing: Vec<_> = found.iter().filter(|(who, _)| !listed.contains(&&***who)).collect();
    assert!(
        missing.is_empty(),
        "allocate without asking; take `gather` and the like from server/memory.rs, or say on src/tests/memory.list what bounds it: {missing:#?}"
    );
    let gone: Vec<&&str> = listed.iter().filter(|who| !found.contains_key(**who)).collect();
    assert!(gone.is_empty(), "are on src/tests/memory.list, and are no more: {gone:#?}");
}

#[test]
fn who_heeds_interrupts_heeds_a_lack_of_memory() {
    let own = |(name, code): &(String, String)| name != "server/memory.rs" && code.contains("check_for_interrupts!");
    let found: Vec<String> = files().into_iter().filter(own).map(|(name, _)| name).collect();
    assert!(found.is_empty(), "take `memory::heed` instead: {found:#?}");
}
