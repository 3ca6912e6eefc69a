//! What a vGPU is to be.

use mdev::Attributes;
use mdev::dma::DmaLimits;
use mdev::polling::Polling;
use worker::arguments::{self, Arguments};
use worker::protocol::SeatRequest;

/// What a vGPU is to be.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What it is called in the log, if there are others.
    pub(crate) name: Option<String>,
    pub(crate) attributes: Attributes,
    pub(crate) leased: bool,
    pub(crate) polling: Polling,
    pub(crate) limits: DmaLimits,
}

impl Plan {
    pub(crate) fn of_arguments(arguments: &Arguments) -> Self {
        Self {
            name: None,
            attributes: Attributes(arguments.attributes.clone()),
            leased: arguments.leased,
            polling: arguments.poll,
            limits: arguments.dma_limits(),
        }
    }

    /// What is asked for, or what makes no sense in it.
    pub(crate) fn of_request(request: &SeatRequest) -> Result<Self, String> {
        let attributes = request.attributes.iter();
        let attributes = attributes.map(|it| (it.name.clone(), it.value.clone()));
        let mut limits = DmaLimits::default();
        if let Some(most) = request.max_dma_maps {
            limits.max_mappings = most;
        }
        if let Some(text) = &request.memory_files {
            limits.files = arguments::file_policy(text)
                .map_err(|words| format!("memory-files is {words}, not '{text}'"))?;
        }
        let polling = request.poll.as_deref().map(|text| {
            arguments::polling(text).map_err(|words| format!("poll is {words}, not '{text}'"))
        });
        Ok(Self {
            name: request.name.clone(),
            attributes: Attributes(attributes.collect()),
            leased: request.leased,
            polling: polling.transpose()?.unwrap_or_default(),
            limits,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use worker::protocol::Attribute;

    use super::*;

    /// What a request says, and the arguments that say the same.
    #[test]
    fn a_request_asks_for_what_arguments_would() {
        let base = ["vgpu-worker", "--type", "t", "--socket-path", "s"];
        let least = SeatRequest {
            type_name: "t".into(),
            ..SeatRequest::default()
        };
        let most = SeatRequest {
            attributes: vec![Attribute {
                name: "a".into(),
                value: "b=c".into(),
            }],
            leased: true,
            poll: Some("7".into()),
            max_dma_maps: Some(9),
            memory_files: Some("sealed".into()),
            ..least.clone()
        };
        let said = [
            "-o",
            "a=b=c",
            "--leased",
            "--poll",
            "7",
            "--max-dma-maps",
            "9",
            "--memory-files",
            "sealed",
            "--control",
            "c",
        ];
        for (request, more) in [(least, &[][..]), (most, &said)] {
            let arguments = Arguments::parse_from(base.iter().chain(more));
            let expected = format!("{:?}", Plan::of_arguments(&arguments));
            let plan = Plan::of_request(&request).unwrap();
            assert_eq!(format!("{plan:?}"), expected);
        }
    }
}
