//! JSON's punctuation.

use super::escape::escape_json;
use super::output::Buffer;

use crate::server::memory;

/// Writes JSON into a buffer: it knows where commas go. What is opened is closed by who opened it.
pub struct Writer<B> {
    out: B,
    /// Something stands before in the array or object: a comma comes first.
    comma: bool,
    between: &'static [u8],
    after_name: &'static [u8],
}

/// A place in what a writer has written.
#[derive(Clone, Copy)]
pub struct Mark {
    length: usize,
    comma: bool,
}

impl<B: Buffer> Writer<B> {
    pub fn new(out: B) -> Self {
        Writer { out, comma: false, between: b",", after_name: b":" }
    }

    /// With blanks behind commas and colons, for people.
    pub fn spaced(out: B) -> Self {
        Writer { between: b", ", after_name: b": ", ..Writer::new(out) }
    }

    /// Where the next value is written to, by the caller.
    #[inline(always)]
    pub fn value(&mut self) -> &mut B {
        if std::mem::replace(&mut self.comma, true) {
            self.out.put(self.between);
        }
        &mut self.out
    }

    pub fn raw(&mut self, json: &str) {
        self.value().put(json.as_bytes());
    }

    pub fn text(&mut self, text: &str) {
        escape_json(self.value(), text.as_bytes());
    }

    /// A text or null.
    pub fn text_or_null(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.raw("null"),
        }
    }

    /// A member's name, whose value comes next.
    pub fn name(&mut self, name: &str) {
        escape_json(self.value(), name.as_bytes());
        self.out.put(self.after_name);
        self.comma = false;
    }

    /// The same of a name that is written as JSON with its colon already.
    #[inline(always)]
    pub fn label(&mut self, label: &str) {
        self.value().put(label.as_bytes());
        self.comma = false;
    }

    pub fn object(&mut self) {
        self.open(b"{");
    }

    pub fn end_object(&mut self) {
        self.close(b"}");
    }

    pub fn array(&mut self) {
        self.open(b"[");
    }

    pub fn end_array(&mut self) {
        self.close(b"]");
    }

    pub fn empty_array(&mut self) {
        self.value().put(b"[]");
    }

    #[inline(always)]
    fn open(&mut self, bracket: &[u8]) {
        self.value().put(bracket);
        self.comma = false;
    }

    #[inline(always)]
    fn close(&mut self, bracket: &[u8]) {
        self.out.put(bracket);
        self.comma = true;
    }

    pub fn length(&self) -> usize {
        self.out.length()
    }

    /// Where it is, to go back to.
    pub fn mark(&self) -> Mark {
        Mark { length: self.out.length(), comma: self.comma }
    }

    /// Takes away what was written since.
    pub fn back_to(&mut self, mark: Mark) {
        self.out.truncate(mark.length);
        self.comma = mark.comma;
    }

    pub fn done(self) -> B {
        self.out
    }
}

impl Writer<Vec<u8>> {
    pub fn into_text(self) -> String {
        String::from_utf8(self.out).expect("what was written is text")
    }
}

/// A JSON string.
pub fn text(text: &str) -> String {
    let mut json = Writer::new(memory::list(text.len() + 2));
    json.text(text);
    json.into_text()
}

#[cfg(test)]
mod tests {
    use super::Writer;

    fn write(mut json: Writer<Vec<u8>>) -> String {
        json.object();
        json.name("a\"");
        json.array();
        json.object();
        json.end_object();
        json.text("x\n");
        json.text_or_null(None);
        json.empty_array();
        json.end_array();
        json.label("\"b\":");
        json.raw("1.10");
        json.name("c");
        json.object();
        json.name("d");
        json.array();
        json.end_array();
        json.end_object();
        json.end_object();
        json.into_text()
    }

    #[test]
    fn commas_stand_between() {
        assert_eq!(write(Writer::new(Vec::new())), r#"{"a\"":[{},"x\n",null,[]],"b":1.10,"c":{"d":[]}}"#);
        assert!(write(Writer::spaced(Vec::new())).starts_with(r#"{"a\"": [{}, "x\n", null, []], "b":1.10, "c": "#));
    }
}
