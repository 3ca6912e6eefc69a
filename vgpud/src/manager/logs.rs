//! Logs of workers, kept short: a guest that makes its worker talk must not fill the run folder,
//! which lies in memory.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::blocking::blocking;

use super::Manager;

/// Most bytes of a log between two looks; more is forgotten. What a worker says of its client is
/// bounded by itself, to less than this in that time.
const MAX_LOG: u64 = 256 << 10;

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(60);

impl Manager {
    /// Keeps the logs of workers short, for ever.
    pub async fn trim_logs(&self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let logs: Vec<_> = {
                let table = self.table();
                let workers = table.entries().filter_map(|entry| entry.worker.as_ref());
                workers.map(|worker| worker.log.clone()).collect()
            };
            blocking(move || {
                for log in logs {
                    if let Err(error) = trim(&log) {
                        tracing::warn!("{} grows: {error}", log.display());
                    }
                }
            })
            .await;
        }
    }
}

/// Empties a log that is too long. Its worker appends, and goes on from the beginning.
fn trim(log: &Path) -> io::Result<()> {
    match std::fs::metadata(log) {
        Ok(file) if file.len() > MAX_LOG => {
            tracing::warn!(
                "{} was {} bytes long, and is emptied",
                log.display(),
                file.len()
            );
            File::options().write(true).open(log)?.set_len(0)
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_that_is_too_long_is_emptied_under_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut writer = File::options()
            .append(true)
            .create_new(true)
            .open(&log)
            .unwrap();
        writer.write_all(b"short").unwrap();
        trim(&log).unwrap();
        assert_eq!(std::fs::read(&log).unwrap(), b"short");
        writer.write_all(&[b'x'; MAX_LOG as usize]).unwrap();
        trim(&log).unwrap();
        writer.write_all(b"after").unwrap();
        assert_eq!(std::fs::read(&log).unwrap(), b"after");
        trim(&folder.path().join("none")).unwrap();
    }
}
