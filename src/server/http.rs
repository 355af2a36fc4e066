//! What PostgREST is told beside an answer.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use serde_json::{json, Value};

/// PostgREST passes the answer on as it is (sql/03_functions.sql), and calls it octets unless it is told what it is. Nothing is said
/// where the request is for another function, which calls this one and whose answer may be anything.
pub fn announce_json(function: pg_sys::Oid) {
    let Some(path) = setting(c"request.path") else { return };
    // SAFETY: a copy of the name in the current memory context, or null.
    let name = unsafe { pg_sys::get_func_name(function) };
    if name.is_null() {
        return;
    }
    // SAFETY: a valid string of the server's.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    if !path.strip_suffix(&*name).is_some_and(|front| front.ends_with("/rpc/")) {
        return;
    }
    if setting(c"request.headers").is_some_and(|headers| is_special(&headers)) {
        return;
    }
    let Some(headers) = with_type(&setting(c"response.headers").unwrap_or_default()) else { return };
    let Ok(headers) = CString::new(headers) else { return };
    // SAFETY: what set_config(name, value, true) does: until the transaction ends, as the caller. A setting that cannot be set
    // is no reason to fail: at this level it is not an ERROR.
    unsafe {
        pg_sys::set_config_option(
            c"response.headers".as_ptr(),
            headers.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            pg_sys::DEBUG1 as i32,
            false,
        );
    }
}

/// Does the client ask for a type of PostgREST's own (`.single()`, a plan)? Of those PostgREST makes the answer itself, and says so.
fn is_special(request_headers: &str) -> bool {
    let headers: Value = serde_json::from_str(request_headers).unwrap_or_default();
    headers.get("accept").and_then(Value::as_str).is_some_and(|accept| accept.contains("application/vnd.pgrst."))
}

/// A setting that PostgREST makes, if it is there.
pub fn setting(name: &CStr) -> Option<String> {
    // SAFETY: guc.c's own copy, or null; copied before anything can set it.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
    }
}

/// These headers with the answer's type; None where there is one, or where they are not what PostgREST takes.
fn with_type(headers: &str) -> Option<String> {
    let mut headers: Vec<Value> = if headers.is_empty() { Vec::new() } else { serde_json::from_str(headers).ok()? };
    let is_type = |h: &Value| h.as_object().is_some_and(|h| h.keys().any(|k| k.eq_ignore_ascii_case("content-type")));
    if headers.iter().any(is_type) {
        return None;
    }
    headers.push(json!({ "Content-Type": "application/json; charset=utf-8" }));
    Some(Value::from(headers).to_string())
}

#[cfg(test)]
mod tests {
    use super::{is_special, with_type};

    #[test]
    fn types_of_postgrests_own_stay() {
        assert!(is_special(r#"{"accept": "application/vnd.pgrst.object+json;nulls=stripped"}"#));
        for other in ["", "{}", r#"{"accept": "*/*"}"#, r#"{"accept": "application/json, text/plain"}"#] {
            assert!(!is_special(other));
        }
    }

    #[test]
    fn others_headers_stay() {
        let typed = r#"{"Content-Type":"application/json; charset=utf-8"}"#;
        assert_eq!(with_type(""), Some(format!("[{typed}]")));
        assert_eq!(with_type("[]"), Some(format!("[{typed}]")));
        assert_eq!(with_type(r#"[{"X-A": "1"}]"#), Some(format!(r#"[{{"X-A":"1"}},{typed}]"#)));
        for kept in [r#"[{"content-type": "text/html"}]"#, "{}", "no JSON"] {
            assert_eq!(with_type(kept), None);
        }
    }
}
