//! Stage 1: the shape of the payload, and where its fields are. One pass of serde_json, which is handed places ([`PayloadPlace`]) to
//! visit rather than types to fill.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::inspect::inspect;
use super::{collection_path, kind, small, source_path, step, Array, BatchError, Check, Source};
use crate::server::memory;
use crate::values::excerpt::{cut, NAME};

/// An element of one of the arrays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    /// Index into `shapes`, or [`Element::BARE`].
    pub(super) shape: u32,
    /// Where its values begin.
    pub(super) start: u32,
}

impl Element {
    /// The shape of an element of `deleted` that is an id and not a record: its one value is the id.
    pub(super) const BARE: u32 = u32::MAX;
}

/// The changes of one collection, checked for shape; nothing is known about the table yet.
#[derive(Debug)]
pub struct RawCollection<'a> {
    pub(super) name: Cow<'a, str>,
    /// The elements of the arrays, in the order of [`Array::ALL`].
    pub(super) entries: [Vec<Element>; 3],
    /// All field names, each once, in order of appearance.
    pub(super) names: Vec<Cow<'a, str>>,
    /// All lists of field names (indexes into `names`), each once.
    pub(super) shapes: Vec<Box<[u32]>>,
    /// The values of all records one after the other, as they stand in the payload.
    pub(super) values: Vec<&'a str>,
    pub(super) check: Check,
}

impl<'a> RawCollection<'a> {
    /// The collection's name as the client wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many elements the array has.
    pub fn len(&self, array: Array) -> usize {
        self.entries[array as usize].len()
    }

    /// The collection's path, for error messages: `changes.todos`.
    pub fn path(&self) -> String {
        collection_path(&self.name)
    }
}

/// Checks the shape of a payload and finds its records, in the order of the payload.
pub fn parse(text: &str, check: Check) -> Result<Vec<RawCollection<'_>>, BatchError> {
    let mut state = Parser::new(check);
    let mut json = serde_json::Deserializer::from_str(text);
    let outcome = Walk(ChangesPlace(&mut state)).deserialize(&mut json).and_then(|()| json.end());
    state.outcome(outcome)?;
    Ok(state.done)
}

/// What [`parse`] has so far.
struct Parser<'a> {
    done: Vec<RawCollection<'a>>,
    collections: HashSet<Cow<'a, str>>,
    current: Option<Builder<'a>>,
    /// The element being read, for the path of errors.
    source: Option<Source>,
    /// The error to report. serde carries errors of its own type only, and those repeat the payload.
    error: Option<BatchError>,
    check: Check,
}

/// A collection in the making.
struct Builder<'a> {
    collection: RawCollection<'a>,
    name_index: HashMap<Cow<'a, str>, u32>,
    shape_index: HashMap<Box<[u32]>, u32>,
    /// The shape of the record before, which the next one most often has, too.
    last_shape: Option<u32>,
    /// The names of the record being read.
    shape: Vec<u32>,
}

impl<'a> Builder<'a> {
    fn new(name: Cow<'a, str>, check: Check) -> Self {
        Builder {
            collection: RawCollection {
                name,
                entries: Default::default(),
                names: Vec::new(),
                shapes: Vec::new(),
                values: Vec::new(),
                check,
            },
            name_index: HashMap::new(),
            shape_index: HashMap::new(),
            last_shape: None,
            shape: Vec::new(),
        }
    }

    /// The index of a field's name: the one at the same place in the record before, or else looked up.
    fn name(&mut self, name: Cow<'a, str>) -> u32 {
        if let Some(last) = self.last_shape {
            if let Some(&guess) = self.collection.shapes[last as usize].get(self.shape.len()) {
                if self.collection.names[guess as usize] == name {
                    return guess;
                }
            }
        }
        if let Some(&known) = self.name_index.get(&name) {
            return known;
        }
        let new = small(self.collection.names.len());
        self.collection.names.push(name.clone());
        self.name_index.insert(name, new);
        new
    }

    /// A record begins, with these fields: where its values are.
    fn begin(&mut self, fields: &[(&'a str, &'a str)]) -> u32 {
        self.shape.clear();
        let start = small(self.collection.values.len());
        for (name, value) in fields {
            let name = self.name(Cow::Borrowed(name));
            self.shape.push(name);
            self.collection.values.push(value);
        }
        start
    }

    /// All fields of the record that began there have been read.
    fn end(&mut self, array: Array, start: u32) {
        let entry = Element { shape: self.shape(), start };
        self.collection.entries[array as usize].push(entry);
    }

    /// An element of `deleted` that is an id.
    fn bare(&mut self, id: &'a str) {
        let entry = Element { shape: Element::BARE, start: small(self.collection.values.len()) };
        self.collection.values.push(id);
        self.collection.entries[Array::Deleted as usize].push(entry);
    }

    /// The index of the shape of the record just read.
    fn shape(&mut self) -> u32 {
        let shapes = &mut self.collection.shapes;
        if let Some(last) = self.last_shape {
            if *shapes[last as usize] == *self.shape {
                return last;
            }
        }
        let found = match self.shape_index.get(self.shape.as_slice()) {
            Some(&known) => known,
            None => {
                let new = small(shapes.len());
                shapes.push(self.shape.clone().into_boxed_slice());
                self.shape_index.insert(self.shape.clone().into_boxed_slice(), new);
                new
            }
        };
        self.last_shape = Some(found);
        found
    }
}

/// Rows of one collection that come one by one, not as a payload.
pub struct Rows<'a>(Parser<'a>);

impl<'a> Rows<'a> {
    pub fn of(collection: &'a str, check: Check) -> Self {
        let mut parser = Parser::new(check);
        parser.current = Some(Builder::new(Cow::Borrowed(collection), check));
        Rows(parser)
    }

    /// A row to write, as a JSON object. It has the fields of its key, each a JSON value, before its own.
    pub fn updated(&mut self, key: &[(&'a str, &'a str)], row: &'a str) -> Result<(), BatchError> {
        let parser = &mut self.0;
        (parser.check)();
        let array = Array::Updated;
        parser.source = Some(Source { array, index: small(parser.builder().collection.len(array)) });
        let mut json = serde_json::Deserializer::from_str(row);
        let outcome = Walk(Fields { parser, array, key }).deserialize(&mut json).and_then(|()| json.end());
        self.0.outcome(outcome)
    }

    /// The id of a row to delete, as a JSON string.
    pub fn deleted(&mut self, id: &'a str) {
        (self.0.check)();
        self.0.builder().bare(id);
    }

    pub fn done(mut self) -> RawCollection<'a> {
        self.0.current.take().expect("a collection").collection
    }
}

impl<'a> Parser<'a> {
    fn new(check: Check) -> Self {
        Parser { done: Vec::new(), collections: HashSet::new(), current: None, source: None, error: None, check }
    }

    /// What came of reading: the error that is remembered says more than serde's.
    fn outcome(&mut self, outcome: serde_json::Result<()>) -> Result<(), BatchError> {
        match (outcome, self.error.take()) {
            (Ok(()), None) => Ok(()),
            (_, Some(error)) => Err(error),
            (Err(error), None) => Err(BatchError::Syntax { path: self.path(), problem: error.to_string() }),
        }
    }

    /// Remembers the error to report and gives serde something to stop with.
    fn fail<E: serde::de::Error>(&mut self, error: BatchError) -> E {
        self.error = Some(error);
        E::custom("refused")
    }

    fn builder(&mut self) -> &mut Builder<'a> {
        self.current.as_mut().expect("a collection is being read")
    }

    /// Where the parser is.
    fn path(&self) -> String {
        match (&self.current, self.source) {
            (None, _) => "changes".to_owned(),
            (Some(builder), None) => collection_path(&builder.collection.name),
            (Some(builder), Some(source)) => source_path(&builder.collection.name, source),
        }
    }

    /// Checks a value of a record or an element of `deleted`. `field` is none for the latter.
    fn check(&self, raw: &str, field: Option<u32>) -> Result<(), BatchError> {
        let Err(flaw) = inspect(raw) else { return Ok(()) };
        let mut path = self.path();
        if let (Some(field), Some(builder)) = (field, &self.current) {
            step(&mut path, &builder.collection.names[field as usize]);
        }
        Err(flaw.at(path))
    }
}

/// A place in the payload and what may stand there. [`Walk`] makes a serde visitor of it that refuses everything else with
/// the path, without repeating the payload.
trait PayloadPlace<'a>: Sized {
    const EXPECTED: &'static str;
    fn parser(&mut self) -> &mut Parser<'a>;

    fn object<A: MapAccess<'a>>(self, _: A) -> Result<(), A::Error> {
        self.wrong("an object")
    }
    fn array<A: SeqAccess<'a>>(self, _: A) -> Result<(), A::Error> {
        self.wrong("an array")
    }
    fn null<E: serde::de::Error>(self) -> Result<(), E> {
        self.wrong("null")
    }
    fn wrong<E: serde::de::Error>(mut self, found: &'static str) -> Result<(), E> {
        let parser = self.parser();
        let error = BatchError::Shape { path: parser.path(), found, expected: Self::EXPECTED };
        Err(parser.fail(error))
    }
}

struct Walk<P>(P);

impl<'a, P: PayloadPlace<'a>> DeserializeSeed<'a> for Walk<P> {
    type Value = ();
    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'a, P: PayloadPlace<'a>> Visitor<'a> for Walk<P> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(P::EXPECTED)
    }
    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<(), A::Error> {
        self.0.object(map)
    }
    fn visit_seq<A: SeqAccess<'a>>(self, seq: A) -> Result<(), A::Error> {
        self.0.array(seq)
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.null()
    }
    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.0.wrong("a boolean")
    }
    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.0.wrong("a number")
    }
    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.0.wrong("a number")
    }
    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.0.wrong("a number")
    }
    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.0.wrong("a string")
    }
}

/// A name, borrowed where it is written without escapes.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;
    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_borrowed_str<E: serde::de::Error>(self, name: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }
    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// The next key of an object; a zero character in it is refused.
fn next_name<'a, A: MapAccess<'a>>(parser: &mut Parser<'a>, map: &mut A) -> Result<Option<Cow<'a, str>>, A::Error> {
    (parser.check)();
    let name = map.next_key_seed(Name)?;
    if name.as_ref().is_some_and(|n| matches!(n, Cow::Owned(n) if n.contains('\0'))) {
        let path = parser.path();
        return Err(parser.fail(BatchError::Nul { path }));
    }
    Ok(name)
}

/// The whole payload.
struct ChangesPlace<'p, 'a>(&'p mut Parser<'a>);

impl<'a> PayloadPlace<'a> for ChangesPlace<'_, 'a> {
    const EXPECTED: &'static str = "an object";
    fn parser(&mut self) -> &mut Parser<'a> {
        self.0
    }
    fn object<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let parser = self.0;
        while let Some(name) = next_name(parser, &mut map)? {
            if !parser.collections.insert(name.clone()) {
                return Err(parser.fail(BatchError::Duplicate { path: collection_path(&name) }));
            }
            parser.current = Some(Builder::new(name, parser.check));
            map.next_value_seed(Walk(CollectionPlace(parser)))?;
            memory::extend(&mut parser.done, parser.current.take().map(|builder| builder.collection));
        }
        Ok(())
    }
}

/// `{"created": ..., "updated": ..., "deleted": ...}`
struct CollectionPlace<'p, 'a>(&'p mut Parser<'a>);

impl<'a> PayloadPlace<'a> for CollectionPlace<'_, 'a> {
    const EXPECTED: &'static str = "an object";
    fn parser(&mut self) -> &mut Parser<'a> {
        self.0
    }
    fn object<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let parser = self.0;
        let mut seen = [false; 3];
        while let Some(key) = next_name(parser, &mut map)? {
            let path = parser.path();
            let Some(array) = Array::ALL.into_iter().find(|array| array.name() == key) else {
                return Err(parser.fail(BatchError::UnknownKey { path, key: cut(&key, NAME) }));
            };
            if std::mem::replace(&mut seen[array as usize], true) {
                return Err(parser.fail(BatchError::Duplicate { path: format!("{path}.{key}") }));
            }
            map.next_value_seed(Walk(Elements { parser, array }))?;
        }
        Ok(())
    }
}

/// One of the three arrays.
struct Elements<'p, 'a> {
    parser: &'p mut Parser<'a>,
    array: Array,
}

impl<'a> PayloadPlace<'a> for Elements<'_, 'a> {
    const EXPECTED: &'static str = "an array";
    fn parser(&mut self) -> &mut Parser<'a> {
        self.parser
    }
    fn null<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn wrong<E: serde::de::Error>(self, found: &'static str) -> Result<(), E> {
        let path = format!("{}.{}", self.parser.path(), self.array.name());
        Err(self.parser.fail(BatchError::Shape { path, found, expected: Self::EXPECTED }))
    }
    fn array<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        let (parser, array) = (self.parser, self.array);
        for index in 0.. {
            (parser.check)();
            parser.source = Some(Source { array, index });
            let more = match array {
                Array::Created | Array::Updated => seq.next_element_seed(Walk(Fields { parser, array, key: &[] }))?,
                Array::Deleted => {
                    seq.next_element::<&'a RawValue>()?.map(|raw| deleted(parser, raw.get())).transpose()?
                }
            };
            if more.is_none() {
                break;
            }
        }
        parser.source = None;
        Ok(())
    }
}

/// An element of `deleted`. It has been scanned once to find its end; only records are scanned a second time.
fn deleted<'a, E: serde::de::Error>(parser: &mut Parser<'a>, raw: &'a str) -> Result<(), E> {
    if raw.starts_with('{') {
        let mut json = serde_json::Deserializer::from_str(raw);
        return Walk(Fields { parser, array: Array::Deleted, key: &[] }).deserialize(&mut json).map_err(|_| {
            // The raw value was JSON but for half surrogate pairs in names. Line and column would be those in the record.
            let problem = || "a field has a name that is no text".to_owned();
            let error =
                parser.error.take().unwrap_or_else(|| BatchError::Syntax { path: parser.path(), problem: problem() });
            parser.fail(error)
        });
    }
    if !raw.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let error =
            BatchError::Shape { path: parser.path(), found: kind(raw), expected: "an id or an object with an id" };
        return Err(parser.fail(error));
    }
    if let Err(error) = parser.check(raw, None) {
        return Err(parser.fail(error));
    }
    parser.builder().bare(raw);
    Ok(())
}

/// A record.
struct Fields<'p, 'a> {
    parser: &'p mut Parser<'a>,
    array: Array,
    /// Fields that it has before those that stand there.
    key: &'p [(&'a str, &'a str)],
}

impl<'a> PayloadPlace<'a> for Fields<'_, 'a> {
    const EXPECTED: &'static str = "an object";
    fn parser(&mut self) -> &mut Parser<'a> {
        self.parser
    }
    fn object<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let parser = self.parser;
        let start = parser.builder().begin(self.key);
        while let Some(name) = next_name(parser, &mut map)? {
            let builder = parser.builder();
            let name = builder.name(name);
            builder.shape.push(name);
            let raw = map.next_value::<&'a RawValue>()?.get();
            if let Err(error) = parser.check(raw, Some(name)) {
                return Err(parser.fail(error));
            }
            parser.builder().collection.values.push(raw);
        }
        parser.builder().end(self.array, start);
        Ok(())
    }
}
