//! One vGPU: what it is to be (`plan`), what it stands on, its device, and the threads around that.
//!
//! A worker has one, made of its arguments; that of a physical device has one for each request.

mod plan;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use mdev::device::BuildError;
use mdev::engine::EngineLease;
use mdev::input::InputPort;
use mdev::instance::{self, Clients, Resumption};
use mdev::keep::{Held, Keep};
use mdev::mailbox::{MailSender, Mailbox};
use mdev::metrics::Metrics;
use mdev::session::Surroundings;
use mdev::{Attributes, Driver, MediatedDevice, Parent, Services, TypeSpec};
use worker::arguments::Arguments;
use worker::claimed::ClaimedPath;
use worker::protocol::Sandbox;
use worker::seat::SeatFiles;

use crate::attendants::{Attendants, MAX_ASKERS};
use crate::listener::{self, ClientSource};
use crate::requests::{self, Responder};
use crate::taking_over::{self, Alone, Pause, Predecessor};

pub(crate) use plan::Plan;

/// Who builds devices.
pub(crate) enum Maker {
    /// A driver, of a device in software.
    Driver(&'static dyn Driver),
    /// A physical device.
    Parent(Arc<dyn Parent>),
}

impl Maker {
    fn build(
        &self,
        spec: &TypeSpec,
        attributes: &Attributes,
        services: Services,
    ) -> Result<Box<dyn MediatedDevice>, BuildError> {
        match self {
            Self::Driver(driver) => driver.build(spec, attributes, services),
            Self::Parent(parent) => parent.build(spec, attributes, services),
        }
    }
}

/// What a vGPU stands on, before its device is there.
pub(crate) struct Ground {
    source: ClientSource,
    control: Option<(OwnedFd, Option<ClaimedPath>)>,
    keep: Keep,
    listener: Option<Held>,
    predecessor: Option<Predecessor>,
    alone: Alone,
}

impl Ground {
    pub(crate) fn of_arguments(arguments: &Arguments) -> anyhow::Result<Self> {
        let source = ClientSource::open(arguments)?;
        let control = arguments.control.as_deref().map(|path| {
            let (socket, path) =
                listener::claim_control(path).context("cannot take control requests")?;
            anyhow::Ok((socket, Some(path)))
        });
        let control = control.transpose()?;
        let (keeper, resume) = taking_over::inherited(arguments)?;
        let (keep, predecessor) = taking_over::keep(keeper, resume, &arguments.dma_limits())?;
        Ok(Self::new(source, control, keep, predecessor, Alone::Yes))
    }

    /// That of one vGPU among several, which came with a request.
    pub(crate) fn of_seat(files: SeatFiles, plan: &Plan) -> anyhow::Result<Self> {
        let source = ClientSource::of_seat(files.listener)?;
        listener::check_control(&files.control)?;
        let (keep, predecessor) = taking_over::keep(files.keeper, files.resume, &plan.limits)?;
        let control = Some((files.control, None));
        Ok(Self::new(source, control, keep, predecessor, Alone::No))
    }

    fn new(
        source: ClientSource,
        control: Option<(OwnedFd, Option<ClaimedPath>)>,
        keep: Keep,
        predecessor: Option<Predecessor>,
        alone: Alone,
    ) -> Self {
        Self {
            listener: taking_over::hold_listener(&keep, &source),
            source,
            control,
            keep,
            predecessor,
            alone,
        }
    }

    /// Socket files of ours: that for clients, and that for control requests.
    pub(crate) fn paths(&self) -> [Option<&ClaimedPath>; 2] {
        let control = self.control.as_ref();
        [
            self.source.path(),
            control.and_then(|(_, path)| path.as_ref()),
        ]
    }

    /// Builds its device.
    pub(crate) fn build(
        &self,
        maker: &Maker,
        spec: TypeSpec,
        plan: &Plan,
    ) -> anyhow::Result<Built> {
        let mut services = Services::default();
        services.polling = plan.polling;
        services.keep = self.keep.clone();
        if plan.leased {
            services.engine = EngineLease::awaited().context("cannot make an eventfd")?;
        }
        let device = maker
            .build(&spec, &plan.attributes, services.clone())
            .with_context(|| format!("cannot build a {}", spec.name))?;
        let around = Surroundings {
            polling: plan.polling,
            limits: plan.limits,
            ..Surroundings::new(&services)
        };
        Ok(Built {
            name: plan.name.clone(),
            spec,
            device,
            services,
            around,
        })
    }
}

/// A vGPU whose device is there, and that nobody reaches yet.
pub(crate) struct Built {
    name: Option<String>,
    spec: TypeSpec,
    device: Box<dyn MediatedDevice>,
    services: Services,
    around: Surroundings,
}

/// A vGPU that is served.
pub(crate) struct Served {
    /// To its device.
    pub(crate) mail: MailSender,
    /// Ends with it.
    pub(crate) thread: JoinHandle<anyhow::Result<()>>,
}

impl Built {
    /// What it counts.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.around.metrics
    }

    /// Serves it from now on. Once it has ended, and nothing is left of it but this, `at_end` is
    /// called.
    pub(crate) fn start(
        self,
        ground: Ground,
        sandbox: Sandbox,
        at_end: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<Served> {
        let attendants = Attendants::new(MAX_ASKERS).context("cannot make an eventfd")?;
        let served = self.start_with(ground, &attendants, sandbox, at_end);
        served.inspect_err(|_| attendants.end())
    }

    fn start_with(
        self,
        ground: Ground,
        attendants: &Attendants,
        sandbox: Sandbox,
        at_end: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<Served> {
        let (mailbox, mail) = Mailbox::new().context("cannot make the mailbox")?;
        let Self {
            name,
            spec,
            device,
            services,
            around,
        } = self;
        let paths = ground.paths().map(|path| path.map(shown));
        let responder = Responder {
            type_name: spec.name.clone(),
            mail: mail.clone(),
            metrics: Arc::clone(&around.metrics),
            sandbox,
            pause: Arc::new(Pause::new(services.input.clone())),
            alone: ground.alone,
            services: services.clone(),
        };
        let arrival = Arrival {
            source: ground.source,
            predecessor: ground.predecessor,
            alone: ground.alone,
        };
        let (clients, client_path, resumption) =
            arrival.begin(&services.input, &mail, attendants)?;
        let control_path = match ground.control {
            Some((socket, path)) => {
                requests::start(socket, attendants, move |asker| responder.serve(asker))?;
                path
            }
            None => None,
        };
        let (attendants, listener) = (attendants.clone(), ground.listener);
        drop((services, ground.keep));
        let body = move || {
            let _span = name.map(|name| tracing::info_span!("seat", name).entered());
            let end = instance::run(device, &mailbox, &around, clients, resumption)
                .context("the device cannot be served");
            // Whoever waits for the device is told that it is gone.
            drop((mailbox, around));
            attendants.end();
            drop((listener, client_path, control_path));
            if let Err(error) = &end
                && ground.alone == Alone::No
            {
                // Nobody waits for it.
                tracing::error!("{error:#}");
            }
            at_end();
            end
        };
        let thread = crate::spawn("device", body)?;
        let [socket, control] = paths;
        tracing::info!(socket, control, "serving {}", spec.name);
        Ok(Served { mail, thread })
    }
}

fn shown(path: &ClaimedPath) -> String {
    path.as_path().display().to_string()
}

/// How clients come: at once, or when another worker has left.
struct Arrival {
    source: ClientSource,
    predecessor: Option<Predecessor>,
    alone: Alone,
}

impl Arrival {
    fn begin(
        self,
        input: &InputPort,
        mail: &MailSender,
        attendants: &Attendants,
    ) -> anyhow::Result<(Clients, Option<ClaimedPath>, Option<Resumption>)> {
        let Some(predecessor) = self.predecessor else {
            let (clients, path) = self.source.start(mail, attendants)?;
            return Ok((clients, path, None));
        };
        let (source, input) = (self.source, input.clone());
        let (mail, attendants) = (mail.clone(), attendants.clone());
        input.hold();
        let resumption = predecessor.resumption(self.alone, move || {
            taking_over::take_input(&input);
            source.start(&mail, &attendants).map(drop)
        })?;
        Ok((Clients::Any, None, Some(resumption)))
    }
}
