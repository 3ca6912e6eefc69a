//! `vgpu policy`: how the engine of a parent is shared.

use vgpud::api::Policy;

use crate::output::{print, print_json};
use crate::target::Api;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Whose engine
    #[arg(value_name = "PARENT")]
    parent: String,
    /// How it is to be shared from now on
    #[arg(value_name = "best-effort|equal-share|fixed-share", value_parser = policy)]
    policy: Option<Policy>,
    /// Print JSON: the engine, and what each vGPU has of it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

fn policy(text: &str) -> Result<Policy, &'static str> {
    serde_json::from_value(text.into()).map_err(|_| "best-effort, equal-share or fixed-share")
}

pub(crate) fn tell(arguments: &Arguments) -> anyhow::Result<()> {
    let client = arguments.api.client()?;
    let engine = match arguments.policy {
        Some(policy) => client.set_policy(&arguments.parent, policy)?,
        None => client.engine(&arguments.parent)?,
    };
    if arguments.json {
        return print_json(&engine);
    }
    if arguments.policy.is_some() {
        return Ok(());
    }
    let word = serde_json::to_value(engine.policy)?;
    Ok(print(&format!("{}\n", word.as_str().unwrap_or_default()))?)
}
