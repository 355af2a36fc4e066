//! What a push answers: `{}`, or the rows that were left out, with the reasons.

use super::rejection::Rejection;
use super::target::Target;
use crate::server::error::SyncError;
use crate::values::json;

/// `{}`, or what was left out.
pub fn answer(rejected: Vec<Rejection>, failed: Vec<Rejection>, targets: &[Target]) -> String {
    let mut sorted: Vec<Rejection> = rejected.into_iter().chain(failed).collect();
    if sorted.is_empty() {
        return "{}".into();
    }
    sorted.sort_by(|a, b| (targets[a.target].asked, &a.id).cmp(&(targets[b.target].asked, &b.id)));
    sorted.dedup_by(|a, b| targets[a.target].asked == targets[b.target].asked && a.id == b.id);
    let mut out = Vec::from(b"{\"experimentalRejectedIds\":{");
    let mut last: Option<&str> = None;
    for r in &sorted {
        pgrx::check_for_interrupts!();
        let asked = targets[r.target].asked;
        if last == Some(asked) {
            out.push(b',');
        } else {
            out.extend_from_slice(if last.is_some() { b"]," } else { b"" });
            json::escape_json(&mut out, asked.as_bytes());
            out.extend_from_slice(b":[");
            last = Some(asked);
        }
        json::escape_json(&mut out, r.id.as_bytes());
    }
    out.extend_from_slice(b"]},\"rejected\":[");
    for (i, r) in sorted.iter().enumerate() {
        pgrx::check_for_interrupts!();
        if i > 0 {
            out.push(b',');
        }
        let fields = [("collection", Some(targets[r.target].asked)), ("id", Some(r.id.as_str()))].into_iter();
        write_failure(&mut out, fields, &r.error);
    }
    out.extend_from_slice(b"]}");
    String::from_utf8_lossy(&out).into_owned()
}

/// `{<fields>, "code": ..., "message": ..., "constraint": ...}`.
pub fn write_failure<'s>(
    out: &mut Vec<u8>,
    fields: impl Iterator<Item = (&'s str, Option<&'s str>)>,
    e: &'s SyncError,
) {
    let rest =
        [("code", Some(e.code.as_str())), ("message", Some(e.message.as_str())), ("constraint", e.names[4].as_deref())];
    out.push(b'{');
    for (i, (name, value)) in fields.chain(rest).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::escape_json(out, name.as_bytes());
        out.push(b':');
        match value {
            Some(value) => json::escape_json(out, value.as_bytes()),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}
