//! What a reader can hold in his head: files of at most 600 lines, functions of at most 80. And where to look for what the compiler does
//! not check: only these files say `unsafe`.

use super::source::files;

const LINES_OF_A_FILE: usize = 600;
const LINES_OF_A_FUNCTION: usize = 80;

/// All of server/, which is there for that, and these.
const UNSAFE: &str = include_str!("unsafe.list");

/// The functions of a text, with their lines.
fn functions(code: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let begins = |line: &str| line.contains("fn ") && !line.contains('=') && line.ends_with(['{', '(']);
    let function = |(at, line): (usize, &&'_ str)| {
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[at..].iter().position(|l| *l == end)? + 1;
        Some((lines[at].trim(), length))
    };
    lines
        .iter()
        .enumerate()
        .filter(|(_, line)| begins(line) && line.ends_with(['{', '(']))
        .filter_map(function)
        .collect()
}

#[test]
fn files_and_functions_are_short() {
    for (name, code) in files() {
        let lines = code.lines().count();
        assert!(lines <= LINES_OF_A_FILE, "{name} has {lines} lines");
        for (function, lines) in functions(&code) {
            assert!(lines <= LINES_OF_A_FUNCTION, "{name}: {function} has {lines} lines");
        }
    }
}

#[test]
fn only_listed_files_say_unsafe() {
    let listed: Vec<&str> = UNSAFE.lines().filter(|line| !line.starts_with('#')).collect();
    let says = |code: &str| code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
    let found: Vec<String> = files()
        .into_iter()
        .filter(|(name, code)| !name.starts_with("server/") && says(code))
        .map(|(name, _)| name)
        .collect();
    let (mut found, mut listed) = (found, listed);
    found.sort_unstable();
    listed.sort_unstable();
    assert_eq!(found, listed, "src/tests/unsafe.list is not what the source says");
}

/// Words that are taken again and again for other things are read twice. Names of types inside a function, or of a trait's own, do not count.
#[test]
fn a_type_name_is_one_type() {
    let mut places = std::collections::BTreeMap::<String, Vec<String>>::new();
    for (file, code) in files() {
        for line in code.lines() {
            let line = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(super) ")).unwrap_or(line);
            let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if matches!(words.next(), Some("struct" | "enum" | "trait" | "type" | "union")) {
                places.entry(words.next().unwrap_or_default().to_owned()).or_default().push(file.clone());
            }
        }
    }
    assert!(places.len() > 100);
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "names of several types: {places:?}");
}
