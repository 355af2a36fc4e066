//! The source as the tests about it read it.

use std::path::{Path, PathBuf};

fn add(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        match path.extension() {
            _ if path.is_dir() && path.file_name().is_some_and(|n| n != "tests") => add(&path, found),
            Some(extension) if extension == "rs" && path.file_stem().is_some_and(|n| n != "tests") => found.push(path),
            _ => {}
        }
    }
}

/// The files of the extension, by their paths below `src`, with lines of comments left empty.
pub fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    add(&root, &mut files);
    files.sort();
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let code = text.lines().map(|l| if l.trim_start().starts_with("//") { "" } else { l.trim_end() });
        let name = file.strip_prefix(&root).expect("a path below src").display().to_string();
        (name, code.flat_map(|line| [line, "\n"]).collect())
    };
    files.into_iter().map(read).collect()
}
