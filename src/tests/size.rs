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
