//! `vgpu libvirt-hook`: what libvirt's hook script runs at each step of a domain's life.
//!
//! | step | what is done |
//! |---|---|
//! | `prepare` | the vGPUs that the domain names are started, or none and the domain does not start |
//! | `release` | they are ended: also after a crash, and after a start that failed |
//! | `migrate` | a domain with vGPUs is refused: QEMU would lose what their devices hold |
//! | others | nothing |
//!
//! libvirt shows what is said on standard error when `prepare` or `migrate` fails, and logs it when
//! `release` does, whose failure changes nothing about the domain's end.

use std::io::{self, Read};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use uuid::Uuid;
use vgpud::api::{Instance, InstanceState};
use vgpud::client::{Client, ClientError};

use super::metadata::{MAX_XML, Metadata, Vgpu};
use crate::output::one_line;
use crate::target::Api;

/// How long the daemon may take. libvirt itself waits for its hooks for ever, and the domain with it.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a vGPU may take to notice that its VMM is gone. It is gone by then, save where the vGPU
/// is another domain's.
const NOTICE: Duration = Duration::from_secs(2);

/// How often that is tried again.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The domain's name
    domain: String,
    /// The step of its life
    operation: String,
    /// Whether the step begins or ends
    phase: Option<String>,
    /// Why it ended, for `release`
    reason: Option<String>,
    #[command(flatten)]
    api: Api,
}

/// What the hook has to do with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Prepare,
    Release { has_failed: bool },
    Migrate,
}

impl Step {
    fn of(operation: &str, reason: Option<&str>) -> Option<Self> {
        match operation {
            "prepare" => Some(Self::Prepare),
            "release" => Some(Self::Release {
                has_failed: reason == Some("failed"),
            }),
            "migrate" => Some(Self::Migrate),
            _ => None,
        }
    }
}

pub(crate) fn obey(arguments: Arguments) -> anyhow::Result<()> {
    // It is read whatever it is for: libvirt writes it.
    let mut xml = Vec::new();
    let longest = MAX_XML as u64 + 1;
    io::stdin().lock().take(longest).read_to_end(&mut xml)?;
    let Some(step) = Step::of(&arguments.operation, arguments.reason.as_deref()) else {
        return Ok(());
    };
    let read = Metadata::of_domain(&xml);
    let domain = one_line(&arguments.domain);
    let read = read.map_err(|words| {
        let words = one_line(&words);
        anyhow::anyhow!("what domain '{domain}' says of vGPUs is not understood: {words}")
    });
    let Some(metadata) = read? else {
        return Ok(());
    };
    if metadata.vgpus.is_empty() {
        return Ok(());
    }
    within(LIMIT, move || take(step, &arguments.api, &metadata))
}

/// Does the work, and no longer waits for it after so long.
fn within(
    limit: Duration,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more if it took too long.
        let _ = ended.send(work());
    });
    match end.recv_timeout(limit) {
        Ok(done) => done,
        Err(_) => bail!("vgpud does not answer within {limit:?}"),
    }
}

fn take(step: Step, api: &Api, metadata: &Metadata) -> anyhow::Result<()> {
    let client = match &metadata.api {
        Some(path) => Client::new(path).context("cannot prepare for the daemon's answers")?,
        None => api.client()?,
    };
    match step {
        Step::Prepare => prepare(&client, &metadata.vgpus),
        Step::Release { has_failed } => release(&client, &metadata.vgpus, has_failed),
        Step::Migrate => bail!(
            "a domain with vGPUs cannot be migrated: QEMU would lose what their devices hold\n\
             remedy: shut it down, and start it on the other host"
        ),
    }
}

/// How to put a vGPU back as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    Nothing,
    Stop(Uuid),
    Destroy(Uuid),
}

impl Undo {
    fn undo(self, client: &Client) -> Result<(), ClientError> {
        match self {
            Self::Nothing => Ok(()),
            Self::Stop(uuid) => client.stop(uuid, false).map(drop),
            Self::Destroy(uuid) => client.destroy(uuid, false),
        }
    }
}

/// Starts all, or none.
fn prepare(client: &Client, vgpus: &[Vgpu]) -> anyhow::Result<()> {
    let mut begun = Vec::new();
    for vgpu in vgpus {
        match start(client, vgpu) {
            Ok(undo) => begun.push(undo),
            Err(error) => {
                for undo in begun.into_iter().rev() {
                    if let Err(error) = undo.undo(client) {
                        let words = one_line(&error.to_string());
                        eprintln!("vgpu: {undo:?} was left to do: {words}");
                    }
                }
                eprintln!("vgpu: the domain's vGPU {} cannot be started:", vgpu.uuid);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn start(client: &Client, vgpu: &Vgpu) -> anyhow::Result<Undo> {
    let uuid = vgpu.uuid;
    let found = find(client, uuid)?;
    let is_up = |instance: &Instance| {
        use InstanceState::{Recovering, Running, Starting};
        matches!(instance.state, Running | Recovering | Starting)
    };
    if found.as_ref().is_some_and(is_up) && client.status(uuid)?.connected {
        bail!("a VMM is connected to it (EBUSY)\nremedy: end that one first, or take another UUID");
    }
    if let Some(request) = &vgpu.created {
        // One that is there already is refused unless it is what is asked for.
        client.create(uuid, request)?;
    }
    match &found {
        Some(instance) if is_up(instance) => return Ok(Undo::Nothing),
        None if vgpu.created.is_some() => return Ok(Undo::Destroy(uuid)),
        _ => {}
    }
    match client.start(uuid) {
        Ok(_) if found.is_some() => Ok(Undo::Stop(uuid)),
        Ok(_) => Ok(Undo::Destroy(uuid)),
        Err(error) if is_missing(&error) => bail!(
            "it is neither there nor defined (ENODEV)\n\
             remedy: vgpu define it, or give it a parent and a type in the domain's metadata"
        ),
        Err(error) => Err(error.into()),
    }
}

/// Ends all that can be ended, and tells of the others.
fn release(client: &Client, vgpus: &[Vgpu], has_failed: bool) -> anyhow::Result<()> {
    let mut failed = None;
    for vgpu in vgpus {
        if let Err(error) = end(client, vgpu, has_failed) {
            let words = one_line(&error.to_string());
            eprintln!(
                "vgpu: the domain's vGPU {} was not ended: {words}",
                vgpu.uuid
            );
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Ends a vGPU, and frees its place. A definition is kept.
fn end(client: &Client, vgpu: &Vgpu, has_failed: bool) -> Result<(), ClientError> {
    let Some(instance) = find(client, vgpu.uuid)? else {
        return Ok(());
    };
    if !is_the_domains(vgpu, &instance, has_failed) {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        match client.destroy(vgpu.uuid, false) {
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) if errno(&error) == Some("EBUSY") && begun.elapsed() < NOTICE => {
                thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

/// Whether a vGPU that is there goes with the domain. What somebody else made is left to him: that
/// may be why the domain did not start.
fn is_the_domains(vgpu: &Vgpu, instance: &Instance, has_failed: bool) -> bool {
    let Some(request) = &vgpu.created else {
        return instance.defined;
    };
    let is_kind = request.parent == instance.parent && request.type_name == instance.type_name;
    // While the domain ran, attributes may have been set.
    is_kind && (!has_failed || request.attributes == instance.attributes)
}

fn find(client: &Client, uuid: Uuid) -> Result<Option<Instance>, ClientError> {
    match client.instance(uuid) {
        Ok(instance) => Ok(Some(instance)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &ClientError) -> bool {
    errno(error) == Some("ENODEV")
}

fn errno(error: &ClientError) -> Option<&str> {
    error.problem().map(|problem| problem.errno.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_domains_life_its_ends_and_a_migration_matter() {
        let failed = Step::Release { has_failed: true };
        let ended = Step::Release { has_failed: false };
        for (operation, reason, expected) in [
            ("prepare", None, Some(Step::Prepare)),
            ("release", Some("failed"), Some(failed)),
            ("release", Some("crashed"), Some(ended)),
            ("release", Some("-"), Some(ended)),
            ("release", None, Some(ended)),
            ("migrate", None, Some(Step::Migrate)),
            ("start", None, None),
            ("started", None, None),
            ("stopped", None, None),
            ("reconnect", None, None),
            ("attach", None, None),
            ("restore", None, None),
            ("", None, None),
        ] {
            assert_eq!(Step::of(operation, reason), expected, "{operation}");
        }
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_not_waited_for() {
        let (_held, never) = mpsc::channel::<()>();
        let mute = move || never.recv().context("it has gone");
        let error = within(Duration::from_millis(10), mute).unwrap_err();
        assert!(error.to_string().contains("does not answer"), "{error}");
        within(Duration::from_secs(60), || Ok(())).unwrap();
        let error = within(Duration::from_secs(60), || bail!("no")).unwrap_err();
        assert_eq!(error.to_string(), "no");
    }
}
