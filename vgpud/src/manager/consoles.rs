//! Consoles: one for each vGPU that has one, started when it is asked for.

use uuid::Uuid;

use crate::accounts::Access;
use crate::api::{Console, ConsoleRequest};
use crate::blocking::{blocking, detached};
use crate::console_process::{self, ConsolePlan};
use crate::error::Error;

use super::Manager;

impl Manager {
    /// The console of an instance that runs. It is started, unless one runs.
    pub async fn console(&self, uuid: Uuid, request: ConsoleRequest) -> Result<Console, Error> {
        let manager = self.clone();
        detached(async move {
            let _turn = manager.0.turns.wait(uuid).await;
            manager.worker_of(uuid)?;
            let consoles = manager.0.consoles.clone();
            let running = blocking(move || consoles.find(uuid)).await;
            if let Some((console, asked)) = running {
                let wanted = request.tcp.map(|tcp| tcp.address);
                return match wanted {
                    Some(address) if asked.as_ref() != Some(&address) => {
                        Err(Error::ConsoleElsewhere(uuid))
                    }
                    _ => Ok(console),
                };
            }
            manager.start_console(uuid, request).await
        })
        .await
    }

    async fn start_console(&self, uuid: Uuid, request: ConsoleRequest) -> Result<Console, Error> {
        let plan = ConsolePlan {
            uuid,
            access: self.access_of(uuid)?,
            user: self.table().entry(uuid).and_then(|entry| entry.record.user),
            tcp: request.tcp,
        };
        let consoles = self.0.consoles.clone();
        let (console, child) = blocking(move || consoles.launch(&plan)).await?;
        let (consoles, pid) = (self.0.consoles.clone(), child.id());
        // A thread of its own: it waits for as long as the console lives.
        let waited = std::thread::Builder::new().name("console".to_owned());
        let waited = waited.spawn(move || {
            console_process::reap(child);
            consoles.clean_up(uuid, pid);
        });
        if let Err(error) = waited {
            tracing::warn!("nobody waits for the console of {uuid}: {error}");
        }
        tracing::info!(%uuid, pid, "its console has started");
        Ok(console)
    }

    fn access_of(&self, uuid: Uuid) -> Result<Access, Error> {
        let table = self.table();
        let entry = table.entry(uuid).ok_or(Error::NoInstance(uuid))?;
        Access::resolve(&entry.record.request.socket, &self.0.config.sockets)
    }

    /// Ends the console of an instance. If none runs, that is as it should be.
    pub async fn end_console(&self, uuid: Uuid) -> Result<(), Error> {
        let manager = self.clone();
        detached(async move {
            let _turn = manager.0.turns.wait(uuid).await;
            manager.parent_of(uuid)?;
            let consoles = manager.0.consoles.clone();
            blocking(move || consoles.end(uuid)).await;
            Ok(())
        })
        .await
    }
}
