//! What a push answers: `{}`, or the rows that were left out, with the reasons.

use super::rejection::Rejection;
use super::target::Target;
use crate::server::memory::{self, Gather};
use crate::values::json::Writer;

/// `{}`, or what was left out.
pub fn answer(rejected: Vec<Rejection>, failed: Vec<Rejection>, targets: &[Target]) -> String {
    let mut sorted: Vec<Rejection> = rejected.into_iter().chain(failed).gather();
    if sorted.is_empty() {
        return "{}".into();
    }
    memory::sort_by(&mut sorted, |a, b| (targets[a.target].asked, &a.id).cmp(&(targets[b.target].asked, &b.id)));
    sorted.dedup_by(|a, b| targets[a.target].asked == targets[b.target].asked && a.id == b.id);
    let mut json = Writer::new(Vec::new());
    json.object();
    json.name("experimentalRejectedIds");
    json.object();
    for same in sorted.chunk_by(|a, b| targets[a.target].asked == targets[b.target].asked) {
        json.name(targets[same[0].target].asked);
        json.array();
        for r in same {
            memory::heed();
            json.text(targets[r.target].as_sent(&r.id));
        }
        json.end_array();
    }
    json.end_object();
    json.name("rejected");
    json.array();
    for r in &sorted {
        memory::heed();
        json.object();
        json.name("collection");
        json.text(targets[r.target].asked);
        json.name("id");
        json.text(targets[r.target].as_sent(&r.id));
        write_failure(&mut json, &r.error.code, &r.error.message, r.error.names[4].as_deref());
        json.end_object();
    }
    json.end_array();
    json.end_object();
    json.into_text()
}

/// `"code": ..., "message": ..., "constraint": ...`
pub fn write_failure(json: &mut Writer<Vec<u8>>, code: &str, message: &str, constraint: Option<&str>) {
    json.name("code");
    json.text(code);
    json.name("message");
    json.text(message);
    json.name("constraint");
    json.text_or_null(constraint);
}
