//! Commands run one by one in a root of Debian's, while what they started lives on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::DebianRoot;
use crate::guest::Output;
use crate::{Error, Process, Result};

/// Runs the commands that are put beside it, by number. Should its test have been killed, it ends for
/// want of any, and all that was started with it.
const LOOP: &str = r#"
number=1
while :; do
    idle=0
    until [ -e "/shell/$number" ]; do
        sleep 0.02
        idle=$((idle + 1))
        [ "$idle" -lt 15000 ] || exit 1
    done
    bash "/shell/$number" >"/shell/$number.stdout" 2>"/shell/$number.stderr" </dev/null
    echo $? >"/shell/$number.new"
    mv "/shell/$number.new" "/shell/$number.status"
    number=$((number + 1))
done
"#;

/// For one command.
const LIMIT: Duration = Duration::from_secs(180);

/// A root where commands are run. Dropping it ends all that runs there.
#[derive(Debug)]
pub struct Shell {
    process: Process,
    dir: TempDir,
    ran: u32,
    /// It holds the place where the root is mounted.
    _root: DebianRoot,
}

impl DebianRoot {
    /// Enters it, and runs `before` in bash. The commands that follow are run by `enter`, a command
    /// that runs its arguments, as `before` left things: its variables that are exported, its folder.
    pub fn shell(self, before: &str, enter: &str) -> Result<Shell> {
        let dir = tempfile::tempdir().map_err(Error::doing("make a folder for a shell"))?;
        write(&dir.path().join("loop"), LOOP)?;
        let root = self.bind(dir.path(), "/shell");
        let script = format!("{before}\nexec {enter} bash /shell/loop\n");
        let process = root.run(&script, &dir.path().join("log"))?;
        Ok(Shell {
            process,
            dir,
            ran: 0,
            _root: root,
        })
    }
}

impl Shell {
    /// A folder that is `/shell` inside.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Runs commands of bash. What they leave in the background lives on.
    pub fn run(&mut self, commands: &str) -> Result<Output> {
        self.ran += 1;
        let name = |end: &str| self.dir.path().join(format!("{}{end}", self.ran));
        // Moved into place, for it is read as soon as it is there.
        let new = name(".command");
        write(&new, commands)?;
        fs::rename(&new, name("")).map_err(Error::io("rename", &new))?;
        let read = |end: &str| fs::read(name(end)).map_err(Error::io("read", &name(end)));
        if let Err(error) = self.process.wait_path(&name(".status"), LIMIT) {
            self.process.mark_failed();
            return Err(error);
        }
        let status = String::from_utf8_lossy(&read(".status")?)
            .trim()
            .parse()
            .map_err(|_| Error::Malformed(format!("the status of `{commands}`")))?;
        Ok(Output {
            status,
            stdout: read(".stdout")?,
            stderr: read(".stderr")?,
        })
    }

    /// The same, which must succeed: the text that was printed, its ends trimmed.
    pub fn sh(&mut self, commands: &str) -> Result<String> {
        let output = self.run(commands)?;
        if output.status != 0 {
            let words = String::from_utf8_lossy(&output.stderr);
            let status = output.status;
            return Err(Error::Gone(format!(
                "`{commands}` ended with {status}: {words}"
            )));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The same, which must be refused: the words on standard error.
    pub fn refused(&mut self, commands: &str) -> Result<String> {
        let output = self.run(commands)?;
        if output.status == 0 {
            return Err(Error::Malformed(format!("`{commands}` was not refused")));
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Repeats commands until they succeed.
    pub fn wait_for(&mut self, commands: &str) -> Result<()> {
        let tries = LIMIT.as_millis() / 2 / 50;
        self.sh(&format!(
            "for try in {{1..{tries}}}; do
                if {{ {commands}\n}} >/dev/null 2>/shell/last; then exit 0; fi
                sleep 0.05
            done
            cat /shell/last >&2; exit 1"
        ))
        .map(drop)
    }
}

/// When a test fails, what has been logged to `/shell/*.log` is printed.
impl Drop for Shell {
    fn drop(&mut self) {
        if !self.process.has_failed() {
            return;
        }
        let entries = fs::read_dir(self.dir.path())
            .into_iter()
            .flatten()
            .flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.extension().is_some_and(|end| end == "log") {
                let bytes = fs::read(&path).unwrap_or_default();
                let name = path.file_name().unwrap_or_default().display();
                eprintln!("---- {name} ----\n{}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io("write", path))
}
