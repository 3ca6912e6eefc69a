//! What a seat is to be.

use serde::{Deserialize, Serialize};

use super::Attribute;

/// One vGPU on a physical device, as a worker's command line would have it: what is left out is as
/// there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SeatRequest {
    /// A type that can be had on this device.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What it is called in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its attributes, in the order in which they are to be applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// Whether it is to wait before each job until time on the engine is granted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leased: bool,
    /// How long it looks for the next message before it sleeps: what `--poll` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<String>,
    /// Most mappings of guest memory that a VMM may make: what `--max-dma-maps` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_dma_maps: Option<usize>,
    /// Which files are taken as guest memory: what `--memory-files` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_files: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Envelope, Request, VERSION};

    #[test]
    fn what_a_seat_is_to_be_keeps_its_form() {
        let least = SeatRequest {
            type_name: "edu-shared".into(),
            ..SeatRequest::default()
        };
        let most = SeatRequest {
            name: Some("first".into()),
            attributes: vec![Attribute {
                name: "dma".into(),
                value: "pin".into(),
            }],
            leased: true,
            poll: Some("off".into()),
            max_dma_maps: Some(64),
            memory_files: Some("sealed".into()),
            ..least.clone()
        };
        let more = r#","name":"first","attributes":[{"name":"dma","value":"pin"}],"leased":true,"poll":"off","max-dma-maps":64,"memory-files":"sealed""#;
        for (seat, more) in [(least, ""), (most, more)] {
            let envelope = Envelope {
                version: VERSION,
                request: Request::Serve(seat),
            };
            let json = format!(r#"{{"version":1,"request":"serve","type":"edu-shared"{more}}}"#);
            assert_eq!(serde_json::to_string(&envelope).unwrap(), json);
            assert_eq!(serde_json::from_str::<Envelope>(&json).unwrap(), envelope);
        }
        let unknown = r#"{"version":1,"request":"serve","type":"edu-shared","other":1}"#;
        assert!(serde_json::from_str::<Envelope>(unknown).is_err());
    }
}
