//! What an input device says, as programs in the guest hear it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Failure;

/// Bytes of an event (`struct input_event`): a time of 16 bytes, then type, code and value.
const EVENT: usize = 24;

/// How long the next event may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The node of the input device that has this name.
fn node(name: &str) -> Result<PathBuf, Failure> {
    for entry in fs::read_dir("/sys/class/input")? {
        let path = entry?.path();
        let Some(node) = path.file_name().and_then(|node| node.to_str()) else {
            continue;
        };
        let is_it = || fs::read_to_string(path.join("device/name"));
        if node.starts_with("event") && is_it()?.trim_end() == name {
            return Ok(PathBuf::from("/dev/input").join(node));
        }
    }
    Err(format!("there is no input device '{name}'").into())
}

/// Prints the events of a device, `TYPE CODE VALUE`, until there were so many reports; each report
/// ends with an empty line. The kernel's own repetitions of keys that are held are left out. It has
/// opened the device once the file `ready` is there.
pub(crate) fn print(name: &str, reports: usize, ready: &str) -> Result<(), Failure> {
    let mut options = File::options();
    options.read(true);
    options.custom_flags(0o4000); // O_NONBLOCK
    let mut device = options.open(node(name)?)?;
    File::create(ready)?;
    let patience = Timespec::try_from(PATIENCE)?;
    let (mut seen, mut report) = (0, String::new());
    while seen < reports {
        let mut fds = [PollFd::new(&device, PollFlags::IN)];
        if poll(&mut fds, Some(&patience))? == 0 {
            return Err(format!("nothing more came after {seen} reports").into());
        }
        let mut bytes = [0; EVENT];
        device.read_exact(&mut bytes)?;
        let [.., t0, t1, c0, c1, v0, v1, v2, v3] = bytes;
        let (kind, code) = (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([c0, c1]));
        let value = i32::from_le_bytes([v0, v1, v2, v3]);
        match (kind, code, value) {
            (0, 0, _) if report.is_empty() => {}
            (0, 0, _) => {
                println!("{report}");
                report.clear();
                seen += 1;
            }
            (1, _, 2) => {}
            _ => report += &format!("{kind} {code} {value}\n"),
        }
    }
    Ok(())
}
