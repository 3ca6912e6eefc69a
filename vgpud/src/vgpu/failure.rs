//! What went wrong: words, the remedy, and the exit code.

use std::io;
use std::process::ExitCode;

use mdev::host::BindError;
use vgpud::client::ClientError;

use crate::output::one_line;
use crate::physical::HasVgpus;

/// The command line makes no sense; the parser of arguments ends with the same.
const USAGE: u8 = 2;

/// The daemon cannot be reached.
const UNREACHABLE: u8 = 3;

/// What is asked for makes no sense, and the parser of arguments could not know.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// The daemon ended while it was listened to.
#[derive(Debug, thiserror::Error)]
#[error("the daemon has ended")]
pub(crate) struct Ended;

/// Tells what went wrong.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_reader_gone(error) {
        return ExitCode::SUCCESS;
    }
    if let Some(error) = find::<ClientError>(error) {
        return report_client(error);
    }
    eprintln!("vgpu: {error:#}");
    if let Some(remedy) = find::<BindError>(error).and_then(BindError::remedy) {
        eprintln!("remedy: {remedy}");
    }
    if let Some(error) = find::<HasVgpus>(error) {
        eprintln!("remedy: {}", error.remedy());
    }
    if find::<Usage>(error).is_some() {
        eprintln!("For more information, try '--help'.");
        return ExitCode::from(USAGE);
    }
    if find::<Ended>(error).is_some() {
        return ExitCode::from(UNREACHABLE);
    }
    ExitCode::FAILURE
}

fn find<E: std::error::Error + 'static>(error: &anyhow::Error) -> Option<&E> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// Whether whoever read our output has seen enough: `vgpu list | head -1`. The daemon's own broken
/// connections come as a `ClientError`.
fn is_reader_gone(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match find::<ClientError>(error) {
        Some(ClientError::Io(error)) => broken(error),
        Some(_) => false,
        None => error.downcast_ref::<io::Error>().is_some_and(broken),
    }
}

fn report_client(error: &ClientError) -> ExitCode {
    match error {
        ClientError::Refused(problem) => {
            let detail = one_line(&problem.detail);
            eprintln!("vgpu: {detail} ({})", problem.errno);
            if let Some(remedy) = &problem.remedy {
                eprintln!("remedy: {}", in_commands(remedy));
            }
            ExitCode::FAILURE
        }
        ClientError::Unreachable { source, .. } => {
            eprintln!("vgpu: {error}");
            eprintln!("remedy: {}", reach_remedy(source.kind()));
            ExitCode::from(UNREACHABLE)
        }
        ClientError::Broken(_) => {
            eprintln!("vgpu: {error}");
            ExitCode::from(UNREACHABLE)
        }
        ClientError::Garbled(_) | ClientError::Late(_) | ClientError::Io(_) => {
            eprintln!("vgpu: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What to do about a daemon that does not answer.
pub(crate) fn reach_remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => {
            "be root, or in the group that owns the socket (api.group in vgpud.toml)"
        }
        _ => "start vgpud, or name its socket: --api PATH, or VGPUD_API",
    }
}

/// A remedy that names requests, with the commands that send them.
pub(crate) fn in_commands(remedy: &str) -> String {
    const COMMANDS: [(&str, &str); 6] = [
        ("GET /v1/instances", "vgpu list"),
        ("GET /v1/definitions", "vgpu list --defined"),
        ("GET /v1/parents/", "vgpu types --parent "),
        ("GET /v1/parents", "vgpu types"),
        ("POST /v1/instances/", "vgpu "),
        ("DELETE /v1/instances/", "vgpu "),
    ];
    let Some((request, command)) = COMMANDS
        .into_iter()
        .find(|(request, _)| remedy.contains(request))
    else {
        return remedy.to_owned();
    };
    let (before, after) = remedy.split_once(request).unwrap_or((remedy, ""));
    // "UUID/start", "UUID/stop?force=true"
    let rest = match after.split_once('/') {
        Some((uuid, "start")) => format!("start {uuid}"),
        Some((uuid, "console")) => format!("console {uuid} --stop"),
        Some((uuid, "stop?force=true")) => format!("stop {uuid} --force"),
        _ => after.to_owned(),
    };
    format!("{before}{command}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_name_commands() {
        for (told, expected) in [
            (
                "list what there is: GET /v1/instances",
                "list what there is: vgpu list",
            ),
            ("GET /v1/definitions", "vgpu list --defined"),
            ("see GET /v1/parents/soft0", "see vgpu types --parent soft0"),
            ("see GET /v1/parents", "see vgpu types"),
            (
                "start it: POST /v1/instances/x/start",
                "start it: vgpu start x",
            ),
            (
                "POST /v1/instances/x/stop?force=true",
                "vgpu stop x --force",
            ),
            ("free room on that disk", "free room on that disk"),
        ] {
            assert_eq!(in_commands(told), expected);
        }
    }

    #[test]
    fn only_a_reader_of_ours_that_has_gone_is_no_failure() {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_reader_gone(&gone().into()));
        assert!(is_reader_gone(&ClientError::Io(gone()).into()));
        let file = anyhow::Error::from(gone()).context("cannot write x");
        assert!(is_reader_gone(&file));
        assert!(!is_reader_gone(&io::Error::other("x").into()));
        assert!(!is_reader_gone(&ClientError::Garbled("x".into()).into()));
    }
}
