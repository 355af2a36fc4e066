//! SQL that runs under the caller's search path names its operators' schema. Some forms name no operator, and look one up all the same. (Statements in
//! `.sql` files run under a path of ours.)

use super::source::files;

/// The rooms whose statements run under it.
const ROOMS: [&str; 5] = ["push/", "pull/", "sight/", "values/", "collections/lookup.rs"];

/// Each with what makes it harmless where it comes next: a `CASE` without an operand, a comparison with NULL.
const FORMS: [(&str, &str); 7] = [
    ("CASE ", "WHEN "),
    (" USING (", ""),
    ("NULLIF(", ""),
    (" IN (", ""),
    (" BETWEEN ", ""),
    (" LIKE ", ""),
    (" DISTINCT FROM ", "NULL"),
];

#[test]
fn no_statement_looks_up_an_operator_by_the_path() {
    let mut found = Vec::new();
    for (name, code) in files() {
        if !ROOMS.iter().any(|room| name.starts_with(room)) {
            continue;
        }
        for line in code.lines() {
            for (form, harmless) in FORMS {
                let after = line.split(form).skip(1);
                if after.into_iter().any(|rest| harmless.is_empty() || !rest.starts_with(harmless)) {
                    found.push(format!("{name}: {}", line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "look an operator up by the caller's search path: {found:#?}");
}
