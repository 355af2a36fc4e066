//! Generated text inside a page that people write.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Puts the text between the lines `<!-- name -->` and `<!-- /name -->` of a file; where there are none, it is the whole file.
pub fn replace(path: &Path, name: &str, text: &str) -> Result<()> {
    let old = fs::read_to_string(path).unwrap_or_default();
    write(path, &replaced(&old, name, text))
}

/// Writes a file, and makes its directory.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn replaced(old: &str, name: &str, text: &str) -> String {
    let (from, to) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    match old.split_once(&from).and_then(|(head, rest)| Some((head, rest.split_once(&to)?.1))) {
        Some((head, tail)) => format!("{head}{from}\n{}\n\n{to}{tail}", text.trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        let new = replaced(page, "x", "new\n");
        assert_eq!(new, "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n");
        assert_eq!(replaced(&new, "x", "new\n"), new);
        assert_eq!(replaced("", "x", "new\n"), "new\n");
    }
}
