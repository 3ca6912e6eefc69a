//! JSON as the document says it: an object is an object, and a choice is a string.
//!
//! What serde derives takes more: the fields of a struct as an array, and a choice as an object.
//! [`Strict`] stands around each deserializer, visitor and access on the way down, so this holds
//! at every level, and for types that are yet to come.

use std::fmt::{self, Formatter};

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// A value that is read to the letter; or what reads one.
pub(super) struct Strict<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(Strict(deserializer)).map(Self)
    }
}

/// JSON tells its own kinds, so that most need not be asked for.
impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Strict(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(Strict(visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(Strict(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Strict(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_str(Choice(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct map identifier ignored_any
    }
}

/// What JSON can hold; all else is refused by what is visited, in its own words.
impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<V> {
    type Value = V::Value;

    fn expecting(&self, words: &mut Formatter<'_>) -> fmt::Result {
        self.0.expecting(words)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.0.visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.0.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.0.visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        self.0.visit_f64(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.0.visit_str(value)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Strict(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Strict(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Strict(fields))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        // A key is a string, whatever it is to be made into.
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }
}

/// What visits a choice, of which the name alone is taken.
struct Choice<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Choice<V> {
    type Value = V::Value;

    fn expecting(&self, words: &mut Formatter<'_>) -> fmt::Result {
        words.write_str("a string")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<V::Value, E> {
        self.0.visit_enum(StrDeserializer::new(name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::de::DeserializeOwned;

    use super::*;
    use crate::api::{AttributeChanges, CreateRequest, DefinitionRequest, SocketAccess};

    fn refusal<T: DeserializeOwned>(json: &str) -> Option<String> {
        let read = serde_json::from_str::<Strict<T>>(json);
        read.err().map(|error| error.to_string())
    }

    fn read<T: DeserializeOwned>(json: &str) -> T {
        serde_json::from_str::<Strict<T>>(json).unwrap().0
    }

    #[test]
    fn fields_in_an_array_are_refused_at_every_level() {
        let creation = |field: &str| {
            let json = format!(r#"{{"parent":"soft0","type":"edu-1",{field}}}"#);
            // Without this it would be taken.
            serde_json::from_str::<CreateRequest>(&json).unwrap();
            refusal::<CreateRequest>(&json)
        };
        let changes = refusal::<AttributeChanges>;
        let map = refusal::<BTreeMap<String, Vec<Option<SocketAccess>>>>;
        for (refused, expected) in [
            (
                refusal::<CreateRequest>(r#"["soft0","edu-1",[],{},true]"#),
                "CreateRequest",
            ),
            (changes(r#"[[["dma","copy"]]]"#), "AttributeChanges"),
            (changes(r#"{"attributes":[["dma","copy"]]}"#), "Attribute"),
            (creation(r#""socket":[]"#), "SocketAccess"),
            (creation(r#""socket":["root",null,"0600"]"#), "SocketAccess"),
            (
                creation(r#""attributes":[{"name":"a","value":"b"},["dma","copy"]]"#),
                "Attribute",
            ),
            (map(r#"{"a":[null,{},[]]}"#), "SocketAccess"),
        ] {
            let refused = refused.unwrap_or_else(|| panic!("taken: {expected}"));
            let words = format!("invalid type: sequence, expected struct {expected} at line 1");
            assert!(refused.starts_with(&words), "{refused}");
        }
    }

    #[test]
    fn a_choice_is_its_name_alone() {
        for (start, words) in [
            (r#""auto""#, None),
            (
                r#"{"auto":null}"#,
                Some("invalid type: map, expected a string"),
            ),
            (
                r#""now""#,
                Some("unknown variant `now`, expected `auto` or `manual`"),
            ),
            ("0", Some("invalid type: integer `0`, expected a string")),
            ("null", Some("invalid type: null, expected a string")),
        ] {
            let json = format!(r#"{{"type":"edu-1","start":{start}}}"#);
            let refused = refusal::<DefinitionRequest>(&json);
            assert_eq!(refused.is_some(), words.is_some(), "{start}: {refused:?}");
            let refused = refused.unwrap_or_default();
            assert!(
                refused.starts_with(words.unwrap_or_default()),
                "{start}: {refused}"
            );
        }
    }

    #[test]
    fn what_is_well_formed_is_what_serde_makes_of_it() {
        for json in [
            r#"{"parent":"soft0","type":"edu-1"}"#,
            r#"{"type":"edu-1","start":false,"parent":"\u00e9\n"}"#,
            r#"{"parent":"","type":"","attributes":[],"socket":{}}"#,
            r#"{"parent":"a","type":"b","attributes":[{"name":"n","value":"v"}],
                "socket":{"owner":null,"group":"kvm","mode":"0660"},"start":true}"#,
        ] {
            let plain: CreateRequest = serde_json::from_str(json).unwrap();
            assert_eq!(read::<CreateRequest>(json), plain, "{json}");
        }
        let numbers = "[0,-1,1.5,18446744073709551615,null,true,\"x\",[],{\"a\":[{}]}]";
        let plain: serde_json::Value = serde_json::from_str(numbers).unwrap();
        assert_eq!(read::<serde_json::Value>(numbers), plain);
    }

    #[test]
    fn what_serde_refuses_is_refused_in_the_same_words() {
        for json in [
            "",
            "{",
            "null",
            "0",
            "{}",
            r#"{"parent":"soft0","type":"edu-1"}}"#,
            r#"{"parent":"soft0","parent":"soft0","type":"edu-1"}"#,
            r#"{"parent":"soft0","type":"edu-1","colour":1}"#,
            r#"{"parent":0,"type":"edu-1"}"#,
            r#"{"parent":"soft0","type":"edu-1","start":"no"}"#,
            r#"{"parent":"soft0","type":"edu-1","attributes":{}}"#,
            r#"{"parent":"soft0","type":"edu-1","attributes":[{"name":"a"}]}"#,
            r#"{"parent":"soft0","type":"edu-1","socket":{"mode":8}}"#,
        ] {
            let plain = serde_json::from_str::<CreateRequest>(json).unwrap_err();
            assert_eq!(refusal::<CreateRequest>(json), Some(plain.to_string()));
        }
    }
}
