//! `vgpu start`, `vgpu stop`.

use std::path::PathBuf;

use uuid::Uuid;
use vgpud::api::{Attribute, CreateRequest, SocketAccess};
use vgpud::client::Client;

use crate::define::read_file;
use crate::failure::Usage;
use crate::output::{print, print_json};
use crate::target::{Api, Target, Way, attribute, whole_uuid};

#[derive(clap::Args)]
pub(crate) struct StartArguments {
    /// Its UUID
    #[arg(value_name = "UUID", value_parser = whole_uuid, required_unless_present_any = ["uuid", "parent"])]
    name: Option<Uuid>,
    /// Its UUID, as mdevctl takes it
    #[arg(short, long, value_name = "UUID", value_parser = whole_uuid, conflicts_with = "name")]
    uuid: Option<Uuid>,
    /// The parent that it takes its share of
    #[arg(short, long, value_name = "PARENT")]
    parent: Option<String>,
    /// Its type
    #[arg(short = 't', long = "type", value_name = "TYPE", requires = "parent")]
    type_name: Option<String>,
    /// An attribute; may be given several times
    #[arg(long = "attr", value_name = "NAME=VALUE", value_parser = attribute, requires = "type_name")]
    attributes: Vec<Attribute>,
    /// Take type and attributes from a file of mdevctl's form; '-' for standard input
    #[arg(
        long,
        value_name = "FILE",
        requires = "parent",
        conflicts_with = "type_name"
    )]
    jsonfile: Option<PathBuf>,
    #[command(flatten)]
    socket: Socket,
    /// Print the vGPU as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

/// Who may connect.
#[derive(clap::Args)]
struct Socket {
    /// Who owns the socket that a VMM connects to: a name or a number
    #[arg(long, value_name = "USER", requires = "parent")]
    socket_owner: Option<String>,
    /// The group that owns it
    #[arg(long, value_name = "GROUP", requires = "parent")]
    socket_group: Option<String>,
    /// Its mode, in octal
    #[arg(long, value_name = "MODE", requires = "parent")]
    socket_mode: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct StopArguments {
    #[command(flatten)]
    target: Target,
    /// Keep its place, attributes and UUID, to be started again
    #[arg(long, conflicts_with = "control")]
    keep: bool,
    /// Do so though a VMM is connected: it reads all-ones from the device from then on
    #[arg(short, long, conflicts_with = "control")]
    force: bool,
    #[command(flatten)]
    api: Api,
}

pub(crate) fn start(arguments: &StartArguments) -> anyhow::Result<()> {
    let uuid = arguments.name.or(arguments.uuid);
    let client = arguments.api.client()?;
    let instance = match (wanted(arguments, &client)?, uuid) {
        (Some(request), Some(uuid)) => client.create(uuid, &request)?,
        (Some(request), None) => client.create_any(&request)?,
        (None, Some(uuid)) => client.start(uuid)?,
        (None, None) => return Err(Usage("a UUID or a parent is wanted".to_owned()).into()),
    };
    if arguments.json {
        return print_json(&instance);
    }
    if uuid.is_none() {
        print(&format!("{}\n", instance.uuid))?;
    }
    Ok(())
}

/// What is to be created; nothing if the UUID alone says it.
fn wanted(arguments: &StartArguments, client: &Client) -> anyhow::Result<Option<CreateRequest>> {
    let Some(parent) = &arguments.parent else {
        return Ok(None);
    };
    let uuid = arguments.name.or(arguments.uuid);
    let (type_name, attributes) = match (&arguments.type_name, &arguments.jsonfile, uuid) {
        (Some(type_name), _, _) => (type_name.clone(), arguments.attributes.clone()),
        (None, Some(file), _) => {
            let file = read_file(file)?;
            (file.type_name, file.attributes)
        }
        (None, None, Some(uuid)) => {
            let kept = client.definition(parent, uuid)?;
            (kept.type_name, kept.attributes)
        }
        (None, None, None) => {
            let words = "a parent wants a UUID, --type or --jsonfile beside it";
            return Err(Usage(words.to_owned()).into());
        }
    };
    Ok(Some(CreateRequest {
        parent: parent.clone(),
        type_name,
        attributes,
        socket: SocketAccess {
            owner: arguments.socket.socket_owner.clone(),
            group: arguments.socket.socket_group.clone(),
            mode: arguments.socket.socket_mode.clone(),
        },
        start: true,
    }))
}

pub(crate) fn stop(arguments: &StopArguments) -> anyhow::Result<()> {
    match arguments.target.reach(&arguments.api)? {
        Way::Daemon(client, uuid) if arguments.keep => {
            client.stop(uuid, arguments.force)?;
        }
        Way::Daemon(client, uuid) => client.destroy(uuid, arguments.force)?,
        Way::Worker(control) => control.stop()?,
    }
    Ok(())
}
