//! The files that `mdevctl` keeps definitions in: bytes to values and back, no I/O.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::{Attribute, DefinitionRequest, StartMode};

/// A file, as mdevctl writes and reads it. What else stands in one is left alone by it too.
#[derive(Serialize, Deserialize)]
struct File {
    mdev_type: String,
    #[serde(default)]
    start: StartMode,
    #[serde(default)]
    attrs: Vec<BTreeMap<String, String>>,
}

/// The definition in a file.
pub fn parse(content: &[u8]) -> Result<DefinitionRequest, String> {
    let file: File = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    let attributes = file.attrs.into_iter().map(|attribute| {
        let mut pairs = attribute.into_iter();
        match (pairs.next(), pairs.next()) {
            (Some((name, value)), None) => Ok(Attribute { name, value }),
            _ => Err("each of 'attrs' has one name and one value".to_owned()),
        }
    });
    Ok(DefinitionRequest {
        type_name: file.mdev_type,
        start: file.start,
        attributes: attributes.collect::<Result<_, _>>()?,
    })
}

/// The file for a definition.
pub fn emit(definition: &DefinitionRequest) -> Vec<u8> {
    let attributes = definition.attributes.iter().cloned();
    let file = File {
        mdev_type: definition.type_name.clone(),
        start: definition.start,
        attrs: attributes
            .map(|Attribute { name, value }| BTreeMap::from([(name, value)]))
            .collect(),
    };
    // Text alone: writing it cannot fail.
    serde_json::to_vec_pretty(&file).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_mdevctl_writes_is_read() {
        // As mdevctl 1.4 leaves it in /etc/mdevctl.d/PARENT/UUID.
        let file = br#"{
  "mdev_type": "bochs-16m",
  "start": "auto",
  "attrs": [
    {
      "mode": "1280x720"
    },
    {
      "mode": "800x600"
    }
  ]
}"#;
        let definition = parse(file).unwrap();
        assert_eq!(definition.type_name, "bochs-16m");
        assert_eq!(definition.start, StartMode::Auto);
        let values: Vec<_> = definition
            .attributes
            .iter()
            .map(|a| a.value.as_str())
            .collect();
        assert_eq!(values, ["1280x720", "800x600"]);
        assert_eq!(emit(&definition), file);
    }

    #[test]
    fn start_and_attributes_may_be_left_out() {
        let definition = parse(br#"{"mdev_type":"edu-1","other":1}"#).unwrap();
        assert_eq!(definition.start, StartMode::Manual);
        assert!(definition.attributes.is_empty());
    }

    #[test]
    fn what_is_no_definition_is_refused() {
        for file in [
            "",
            "{}",
            "[]",
            r#"{"mdev_type":1}"#,
            r#"{"mdev_type":"a","start":"now"}"#,
            r#"{"mdev_type":"a","attrs":{"b":"c"}}"#,
            r#"{"mdev_type":"a","attrs":[{"b":1}]}"#,
            r#"{"mdev_type":"a","attrs":[{}]}"#,
            r#"{"mdev_type":"a","attrs":[{"b":"c","d":"e"}]}"#,
            r#"{"mdev_type":"a","attrs":[{"b":"c"}]"#,
        ] {
            assert!(parse(file.as_bytes()).is_err(), "{file}");
        }
    }

    proptest! {
        #[test]
        fn a_definition_comes_back_as_it_was(
            type_name in ".*",
            is_auto: bool,
            attributes in proptest::collection::vec((".*", ".*"), 0..5),
        ) {
            let definition = DefinitionRequest {
                type_name,
                start: if is_auto { StartMode::Auto } else { StartMode::Manual },
                attributes: attributes
                    .into_iter()
                    .map(|(name, value)| Attribute { name, value })
                    .collect(),
            };
            prop_assert_eq!(parse(&emit(&definition)).unwrap(), definition);
        }

        #[test]
        fn no_bytes_make_it_panic(content: Vec<u8>) {
            let _ = parse(&content);
        }
    }
}
