//! Dialects: how a column's values are written for one kind of client. Pure decisions; [`crate::values::json`] carries them out.
//!
//! | type | `postgrest` (as `to_json`) | `watermelondb` | `drift` |
//! | --- | --- | --- | --- |
//! | timestamptz, timestamp, date | ISO 8601 text, `"infinity"` | milliseconds since 1970-01-01 UTC, rounded down; infinity: +/-8640000000000000 | ISO 8601 text in UTC, of the years 1 to 9999: what is beyond is the first or last of them |
//! | json, jsonb, arrays, composites, types with a cast to json | nested | their JSON text in a string | nested |
//! | int2, int4, int8, numeric, float4, float8 | a number with every digit; `"NaN"`, `"Infinity"` | the same; NaN and infinity are null | as `watermelondb` |
//! | bool | true, false | the same | the same |
//! | anything else | the type's text form in a string | the same | the same |
//!
//! A `timestamp` or `date` has no time zone: its milliseconds are counted as if it were UTC. 8640000000000000 is the last
//! instant a JavaScript `Date` can hold. WatermelonDB itself reads null for a number that is NaN or infinite. Dart's `DateTime.parse`, by which
//! the Drift client reads times, knows no infinity, no year of five digits without a sign, and no offset with seconds.
//!
//! [`encoder_for`] follows PostgreSQL's own `json_categorize_type()`, which is the same in 15 to 18: domains count as their
//! base types; only types that are not built in can have a cast to json that counts.

use pgrx::{pg_sys, PostgresGucEnum};
use thiserror::Error;

/// Oids below are PostgreSQL's own (`FirstNormalObjectId`).
const FIRST_NORMAL_OID: u32 = 16384;

/// How values are written. Also the values of the setting `snapsync.dialect`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum Dialect {
    /// Rows exactly as `row_to_json` writes them, as PostgREST does.
    #[name = c"postgrest"]
    Postgrest,
    /// Flat rows of strings, numbers and booleans, as WatermelonDB's columns are.
    #[name = c"watermelondb"]
    WatermelonDb,
    /// Rows as the Drift/Supabase client reads them: times in UTC, and what is deleted is a row, too.
    #[name = c"drift"]
    Drift,
}

/// A name that is no dialect's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown dialect \"{}\"", crate::values::excerpt::cut(.0, crate::values::excerpt::VALUE))]
pub struct DialectError(String);

impl Dialect {
    /// The dialect of this name.
    pub fn parse(name: &str) -> Result<Dialect, DialectError> {
        match name {
            "postgrest" => Ok(Dialect::Postgrest),
            "watermelondb" => Ok(Dialect::WatermelonDb),
            "drift" => Ok(Dialect::Drift),
            other => Err(DialectError(other.to_string())),
        }
    }

    /// Is a row's `id` its wire id, a text, whatever its columns are called?
    pub fn has_wire_ids(self) -> bool {
        self != Dialect::Postgrest
    }
}

/// What the catalog says about a column's type, domains looked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeFacts {
    /// The type itself, or what the domain is over.
    pub base: pg_sys::Oid,
    /// `pg_type.typtype` of `base`.
    pub typtype: u8,
    /// `pg_type.typcategory` of `base`.
    pub category: u8,
    /// `pg_type.typoutput` of `base`.
    pub output: pg_sys::Oid,
}

impl TypeFacts {
    /// Is it an array, JSON's `[...]`?
    pub fn is_array(&self) -> bool {
        self.category == b'A'
    }

    /// Is it an array or a composite type, JSON's `[...]` or `{...}`?
    pub fn is_nested(&self) -> bool {
        self.is_array() || self.typtype == b'c'
    }

    /// The name to cast a key's text to: one of the types that a sync key can have.
    pub fn base_type_name(&self) -> &'static str {
        match self.base {
            pg_sys::UUIDOID => "pg_catalog.uuid",
            pg_sys::TEXTOID => "pg_catalog.text",
            pg_sys::VARCHAROID => "pg_catalog.varchar",
            pg_sys::INT2OID => "pg_catalog.int2",
            pg_sys::INT4OID => "pg_catalog.int4",
            pg_sys::INT8OID => "pg_catalog.int8",
            _ => "pg_catalog.numeric",
        }
    }

    /// Can a key of this type be equal to one of another text? (1.0 and 1.00; a key's collation is deterministic.)
    pub fn has_equal_texts(&self) -> bool {
        self.base == pg_sys::NUMERICOID
    }
}

/// How the column stands in the select list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SelectAs {
    /// The column itself.
    Column,
    /// `pg_catalog.to_json(column)`: a kind of type that no encoder knows.
    ToJson,
}

/// How the values of one column of the result become JSON.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Encoder {
    /// The type that the column of the result must have, domains looked through.
    pub base: pg_sys::Oid,
    /// What to do with its values.
    pub form: Form,
}

/// What to do with a value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `true` or `false`.
    Bool,
    /// A number.
    Int2,
    /// A number.
    Int4,
    /// A number with every digit.
    Int8,
    /// A number, as float4out writes it.
    Float4(NonFinite),
    /// A number, as float8out writes it.
    Float8(NonFinite),
    /// A number with every digit.
    Numeric(NonFinite),
    /// A date.
    Date(Time),
    /// A timestamp without time zone.
    Timestamp(Time),
    /// A timestamp with time zone.
    TimestampTz(Time),
    /// A string: text, varchar, char(n).
    Text,
    /// A string: name.
    Name,
    /// A string: uuid.
    Uuid,
    /// The JSON text itself.
    Json(Nesting),
    /// JSON text, as jsonb_out writes it.
    Jsonb(Nesting),
    /// As array_to_json writes it.
    Array(Nesting),
    /// As row_to_json writes it.
    Composite(Nesting),
    /// A string: what this output function returns.
    Output(pg_sys::Oid),
    /// A type that is not built in: by its cast to json if there is one when the query starts, else its text in a string.
    UserType(Nesting),
}

/// How NaN and infinity are written, for which JSON has no number.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NonFinite {
    /// `"NaN"`, `"Infinity"`, `"-Infinity"`.
    Quoted,
    /// `null`.
    Null,
}

/// How times are written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Time {
    /// ISO 8601 text, timestamps with time zone in the session's `TimeZone`.
    Iso,
    /// Milliseconds since 1970-01-01 UTC, rounded down.
    Millis,
    /// ISO 8601 text in UTC, with a `Z`, of the years 1 to 9999.
    Utc,
}

/// Where JSON inside a value goes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Nesting {
    /// Into the row, as JSON.
    Inline,
    /// Into a string that holds JSON text.
    InString,
}

/// How to select a column of this type and how to write what comes.
pub fn encoder_for(dialect: Dialect, facts: &TypeFacts) -> (SelectAs, Encoder) {
    let (time, nesting, non_finite) = match dialect {
        Dialect::Postgrest => (Time::Iso, Nesting::Inline, NonFinite::Quoted),
        Dialect::WatermelonDb => (Time::Millis, Nesting::InString, NonFinite::Null),
        Dialect::Drift => (Time::Utc, Nesting::Inline, NonFinite::Null),
    };
    let form = match facts.base {
        pg_sys::BOOLOID => Form::Bool,
        pg_sys::INT2OID => Form::Int2,
        pg_sys::INT4OID => Form::Int4,
        pg_sys::INT8OID => Form::Int8,
        pg_sys::FLOAT4OID => Form::Float4(non_finite),
        pg_sys::FLOAT8OID => Form::Float8(non_finite),
        pg_sys::NUMERICOID => Form::Numeric(non_finite),
        pg_sys::DATEOID => Form::Date(time),
        pg_sys::TIMESTAMPOID => Form::Timestamp(time),
        pg_sys::TIMESTAMPTZOID => Form::TimestampTz(time),
        pg_sys::JSONOID => Form::Json(nesting),
        pg_sys::JSONBOID => Form::Jsonb(nesting),
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Form::Text,
        pg_sys::NAMEOID => Form::Name,
        pg_sys::UUIDOID => Form::Uuid,
        _ if facts.is_array() => Form::Array(nesting),
        base => match facts.typtype {
            b'c' => Form::Composite(nesting),
            b'b' | b'e' | b'r' | b'm' if base.to_u32() >= FIRST_NORMAL_OID => Form::UserType(nesting),
            b'b' | b'e' | b'r' | b'm' => Form::Output(facts.output),
            // Domains are looked through and pseudo-types cannot be columns; should there ever be another kind:
            _ => return (SelectAs::ToJson, Encoder { base: pg_sys::JSONOID, form: Form::Json(nesting) }),
        },
    };
    (SelectAs::Column, Encoder { base: facts.base, form })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(base: pg_sys::Oid, typtype: u8, category: u8) -> TypeFacts {
        TypeFacts { base, typtype, category, output: pg_sys::Oid::from(43) }
    }

    fn form(dialect: Dialect, facts: &TypeFacts) -> Form {
        let (select, encoder) = encoder_for(dialect, facts);
        assert_eq!(select, SelectAs::Column);
        assert_eq!(encoder.base, facts.base);
        encoder.form
    }

    #[test]
    fn parses_the_three_names_only() {
        assert_eq!(Dialect::parse("postgrest"), Ok(Dialect::Postgrest));
        assert_eq!(Dialect::parse("watermelondb"), Ok(Dialect::WatermelonDb));
        assert_eq!(Dialect::parse("drift"), Ok(Dialect::Drift));
        for name in ["", "PostgREST", "watermelon", " postgrest", "Drift"] {
            let error = Dialect::parse(name).unwrap_err();
            assert_eq!(error.to_string(), format!("unknown dialect \"{name}\""));
        }
        assert!(Dialect::parse(&"x".repeat(10_000)).unwrap_err().to_string().len() < 500);
    }

    #[test]
    fn all_dialects_agree_on_flat_values() {
        let flat = [
            (pg_sys::BOOLOID, b'B', Form::Bool),
            (pg_sys::INT2OID, b'N', Form::Int2),
            (pg_sys::INT4OID, b'N', Form::Int4),
            (pg_sys::INT8OID, b'N', Form::Int8),
            (pg_sys::TEXTOID, b'S', Form::Text),
            (pg_sys::VARCHAROID, b'S', Form::Text),
            (pg_sys::BPCHAROID, b'S', Form::Text),
            (pg_sys::NAMEOID, b'S', Form::Name),
            (pg_sys::UUIDOID, b'U', Form::Uuid),
        ];
        for (base, category, expected) in flat {
            for dialect in [Dialect::Postgrest, Dialect::WatermelonDb, Dialect::Drift] {
                assert_eq!(form(dialect, &facts(base, b'b', category)), expected);
            }
        }
    }

    #[test]
    fn watermelondb_flattens_what_its_columns_cannot_hold() {
        let both = |base, typtype, category| {
            let facts = facts(base, typtype, category);
            (form(Dialect::Postgrest, &facts), form(Dialect::WatermelonDb, &facts))
        };
        use {Nesting::*, NonFinite::*, Time::*};
        let user = pg_sys::Oid::from(FIRST_NORMAL_OID);
        let timestamptz = (Form::TimestampTz(Iso), Form::TimestampTz(Millis));
        assert_eq!(both(pg_sys::TIMESTAMPTZOID, b'b', b'D'), timestamptz);
        assert_eq!(both(pg_sys::TIMESTAMPOID, b'b', b'D'), (Form::Timestamp(Iso), Form::Timestamp(Millis)));
        assert_eq!(both(pg_sys::DATEOID, b'b', b'D'), (Form::Date(Iso), Form::Date(Millis)));
        assert_eq!(both(pg_sys::JSONOID, b'b', b'U'), (Form::Json(Inline), Form::Json(InString)));
        assert_eq!(both(pg_sys::JSONBOID, b'b', b'U'), (Form::Jsonb(Inline), Form::Jsonb(InString)));
        assert_eq!(both(pg_sys::TEXTARRAYOID, b'b', b'A'), (Form::Array(Inline), Form::Array(InString)));
        assert_eq!(both(user, b'c', b'C'), (Form::Composite(Inline), Form::Composite(InString)));
        assert_eq!(both(user, b'b', b'U'), (Form::UserType(Inline), Form::UserType(InString)));
        assert_eq!(both(pg_sys::FLOAT4OID, b'b', b'N'), (Form::Float4(Quoted), Form::Float4(Null)));
        assert_eq!(both(pg_sys::FLOAT8OID, b'b', b'N'), (Form::Float8(Quoted), Form::Float8(Null)));
        assert_eq!(both(pg_sys::NUMERICOID, b'b', b'N'), (Form::Numeric(Quoted), Form::Numeric(Null)));
    }

    #[test]
    fn drift_nests_and_writes_times_in_utc() {
        use {Nesting::*, NonFinite::*, Time::*};
        let drift = |base, category| form(Dialect::Drift, &facts(base, b'b', category));
        assert_eq!(drift(pg_sys::TIMESTAMPTZOID, b'D'), Form::TimestampTz(Utc));
        assert_eq!(drift(pg_sys::TIMESTAMPOID, b'D'), Form::Timestamp(Utc));
        assert_eq!(drift(pg_sys::DATEOID, b'D'), Form::Date(Utc));
        assert_eq!(drift(pg_sys::JSONBOID, b'U'), Form::Jsonb(Inline));
        assert_eq!(drift(pg_sys::TEXTARRAYOID, b'A'), Form::Array(Inline));
        assert_eq!(drift(pg_sys::FLOAT8OID, b'N'), Form::Float8(Null));
    }

    #[test]
    fn other_types_are_written_as_text() {
        for (base, typtype, category) in [
            (pg_sys::OIDOID, b'b', b'N'),
            (pg_sys::BYTEAOID, b'b', b'U'),
            (pg_sys::INTERVALOID, b'b', b'T'),
            (pg_sys::TSRANGEOID, b'r', b'R'),
            (pg_sys::TSMULTIRANGEOID, b'm', b'R'),
        ] {
            let output = Form::Output(pg_sys::Oid::from(43));
            assert_eq!(form(Dialect::Postgrest, &facts(base, typtype, category)), output);
            assert_eq!(form(Dialect::WatermelonDb, &facts(base, typtype, category)), output);
        }
        for typtype in [b'e', b'r', b'm'] {
            let user = facts(pg_sys::Oid::from(FIRST_NORMAL_OID + 1), typtype, b'E');
            assert_eq!(form(Dialect::Postgrest, &user), Form::UserType(Nesting::Inline));
        }
    }

    #[test]
    fn an_unknown_kind_of_type_is_left_to_to_json() {
        let odd = facts(pg_sys::Oid::from(FIRST_NORMAL_OID), b'p', b'P');
        let json = Encoder { base: pg_sys::JSONOID, form: Form::Json(Nesting::Inline) };
        assert_eq!(encoder_for(Dialect::Postgrest, &odd), (SelectAs::ToJson, json));
    }
}
