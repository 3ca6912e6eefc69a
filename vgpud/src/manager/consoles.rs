//! Consoles: one for each head of a vGPU that has one, started when it is asked for.

use mdev::scanout::MAX_HEADS;
use uuid::Uuid;
use worker::control::{Control, ControlError};

use crate::accounts::Access;
use crate::api::{Console, ConsoleRequest};
use crate::blocking::{blocking, detached};
use crate::console_process::{self, ConsolePlan};
use crate::error::Error;

use super::Manager;

impl Manager {
    /// The console of a head of an instance that runs. It is started, unless one runs.
    pub async fn console(&self, uuid: Uuid, request: ConsoleRequest) -> Result<Console, Error> {
        let manager = self.clone();
        detached(async move {
            let _turn = manager.0.turns.wait(uuid).await;
            manager.worker_of(uuid)?;
            let (consoles, head) = (manager.0.consoles.clone(), request.head);
            let running = blocking(move || consoles.find(uuid, head)).await;
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
        let head = request.head;
        self.need_head(uuid, head).await?;
        // Before the plan, in which the table is locked.
        let functions = self.parts(uuid).into_iter();
        let functions = functions.map(|(function, _)| function).collect();
        let plan = ConsolePlan {
            uuid,
            head,
            access: self.access_of(uuid)?,
            user: self.table().entry(uuid).and_then(|entry| entry.record.user),
            tcp: request.tcp,
            functions,
        };
        let consoles = self.0.consoles.clone();
        let (console, child) = blocking(move || consoles.launch(&plan)).await?;
        let (consoles, pid) = (self.0.consoles.clone(), child.id());
        // A thread of its own: it waits for as long as the console lives.
        let waited = std::thread::Builder::new().name("console".to_owned());
        let waited = waited.spawn(move || {
            console_process::reap(child);
            consoles.clean_up(uuid, head, pid);
        });
        if let Err(error) = waited {
            tracing::warn!("nobody waits for the console of {uuid}: {error}");
        }
        tracing::info!(%uuid, head, pid, "its console has started");
        Ok(console)
    }

    /// Refuses a head that a display has not.
    async fn need_head(&self, uuid: Uuid, head: u32) -> Result<(), Error> {
        if head == 0 {
            return Ok(());
        }
        let control = self.0.paths.control(uuid);
        let shown = blocking(move || Control::connect(&control)?.scanout(head)).await;
        match shown {
            Err(ControlError::Refused { errno, message }) if errno == "EINVAL" => {
                Err(Error::Invalid(message))
            }
            // It may show nothing yet; whatever else is wrong, the console meets with it too.
            _ => Ok(()),
        }
    }

    pub(super) fn access_of(&self, uuid: Uuid) -> Result<Access, Error> {
        let table = self.table();
        let entry = table.entry(uuid).ok_or(Error::NoInstance(uuid))?;
        Access::resolve(&entry.record.request.socket, &self.0.config.sockets)
    }

    /// Ends the console of a head of an instance, or those of all. If none runs, that is as it should
    /// be.
    pub async fn end_console(&self, uuid: Uuid, head: Option<u32>) -> Result<(), Error> {
        if let Some(head) = head.filter(|head| *head >= MAX_HEADS) {
            return Err(Error::Invalid(format!(
                "there is no head {head}: displays have {MAX_HEADS} at most, from 0"
            )));
        }
        let manager = self.clone();
        detached(async move {
            let _turn = manager.0.turns.wait(uuid).await;
            manager.parent_of(uuid)?;
            let consoles = manager.0.consoles.clone();
            blocking(move || match head {
                Some(head) => consoles.end(uuid, head),
                None => consoles.end_all(uuid),
            })
            .await;
            Ok(())
        })
        .await
    }
}
