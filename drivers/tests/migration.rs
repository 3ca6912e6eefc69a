//! Every type is saved and restored, by a client as a VMM would and at once, and refuses what is
//! not a state of it.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mdev::instance::{self, Clients};
use mdev::mailbox::{Mail, MailSender, Mailbox};
use mdev::migration::snapshot;
use mdev::session::Surroundings;
use mdev::{Attributes, Services, TypeSpec};
use vfu::Errno;
use vfu::client::{Client, ClientError};
use vfu::wire::migration::{MigState, MigrationFlags};
use vfu::wire::version::Capabilities;

const CONFIG: u32 = 7;
/// Bytes of the BARs that are scribbled over and compared.
const LOOKED_AT: u64 = 0x600;

/// A device in its own thread.
struct Instance {
    mail: MailSender,
    thread: Option<JoinHandle<Result<(), Errno>>>,
}

impl Instance {
    fn new(type_name: &str) -> Self {
        let (driver, spec) = drivers::find_type(type_name).unwrap();
        let services = Services::default();
        let around = Surroundings::new(&services);
        let device = driver.build(&spec, &Attributes::default(), services);
        let device = device.unwrap();
        let (mailbox, mail) = Mailbox::new().unwrap();
        let serve = move || instance::run(device, &mailbox, &around, Clients::Any, None);
        Self {
            mail,
            thread: Some(thread::spawn(serve)),
        }
    }

    fn client(&self) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        self.mail.send(Mail::Client(theirs.into())).unwrap();
        Client::negotiate(ours.into(), Capabilities::default()).unwrap()
    }

    /// What is saved at once.
    fn snapshot(&self) -> Vec<u8> {
        let save = |device: &mut dyn mdev::MediatedDevice| {
            let mut bytes = Vec::new();
            snapshot::save(device, &mut bytes).map(|()| bytes)
        };
        self.mail.call(save).unwrap().unwrap()
    }

    /// Puts a state in at once; the words for what is wrong with it.
    fn restore(&self, bytes: Vec<u8>) -> Result<(), String> {
        let restore = move |device: &mut dyn mdev::MediatedDevice| {
            let restored = snapshot::restore(device, &mut &bytes[..]);
            restored.map_err(|error| error.to_string())
        };
        self.mail.call(restore).unwrap()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.mail.send(Mail::Stop);
        let end = self.thread.take().unwrap().join();
        assert!(thread::panicking() || end.is_ok(), "the instance panicked");
    }
}

fn types() -> Vec<TypeSpec> {
    drivers::DRIVERS.iter().flat_map(|it| it.types()).collect()
}

/// The types without much memory: it takes long to read, and tells no more.
fn small_types() -> Vec<TypeSpec> {
    let is_small = |spec: &TypeSpec| spec.video_memory <= 4 << 20;
    types().into_iter().filter(is_small).collect()
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Writes to every BAR and to configuration space, as no guest would.
fn scribble(client: &mut Client, random: &mut Random) {
    for _ in 0..400 {
        let region = [0, 1, 2, CONFIG][random.below(4) as usize];
        let (info, _) = client.region_info(region).unwrap();
        let Some(last) = info.size.min(LOOKED_AT).checked_sub(8) else {
            continue;
        };
        let at = random.below(last + 1);
        // No transfers: they would go on while it is looked at.
        let len = [1, 2, 4][random.below(3) as usize];
        let data = random.below(u64::MAX).to_le_bytes();
        client.region_write(region, at, &data[..len]).unwrap();
    }
}

/// What a guest can read without changing anything, and all of configuration space.
fn look(client: &mut Client) -> Vec<u8> {
    let mut seen = vec![0; 256];
    client.region_read(CONFIG, 0, &mut seen).unwrap();
    for region in 0..6 {
        let (info, _) = client.region_info(region).unwrap();
        for at in (0..info.size.min(LOOKED_AT)).step_by(4) {
            // Reads of serial ports and of a VGA's status change what they read.
            if info.size > 8 && !(0x400..0x420).contains(&at) {
                let mut data = [0; 4];
                client.region_read(region, at, &mut data).unwrap();
                seen.extend(data);
            }
        }
    }
    seen
}

/// Reads the state in pieces of this size.
fn read_all(client: &mut Client, piece: u32) -> Vec<u8> {
    let mut stream = Vec::new();
    loop {
        let read = client.mig_data_read(piece).unwrap();
        stream.extend(&read);
        if read.len() < piece as usize {
            return stream;
        }
    }
}

/// Takes a device to RESUMING and gives it a stream in pieces; what became of that.
fn load(client: &mut Client, stream: &[u8], piece: usize) -> Result<(), ClientError> {
    client.set_mig_state(MigState::Resuming)?;
    for piece in stream.chunks(piece) {
        client.mig_data_write(piece)?;
    }
    client.set_mig_state(MigState::Running)
}

#[test]
fn a_device_goes_on_in_another_process_as_it_was() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for spec in types() {
        let name = &spec.name;
        let (from, to) = (Instance::new(name), Instance::new(name));
        let (mut source, mut target) = (from.client(), to.client());
        for round in 0..3 {
            scribble(&mut source, &mut random);
            scribble(&mut target, &mut random);
            let before = look(&mut source);
            source.set_mig_state(MigState::StopCopy).unwrap();
            let stream = read_all(&mut source, [1 << 20, 4096, 77][round % 3]);
            assert!(source.mig_data_read(100).unwrap().is_empty(), "{name}");
            source.set_mig_state(MigState::Running).unwrap();
            load(&mut target, &stream, [1 << 20, 999, 5][round % 3]).unwrap();
            assert!(look(&mut target) == before, "{name}, round {round}");
            assert!(look(&mut source) == before, "{name} is as it was");
            assert!(to.snapshot() == from.snapshot(), "{name}, round {round}");
        }
    }
}

#[test]
fn what_changes_while_the_device_runs_is_read_before_the_end() {
    for spec in types() {
        let (from, to) = (Instance::new(&spec.name), Instance::new(&spec.name));
        let (mut source, mut target) = (from.client(), to.client());
        let flags = source.migration_flags().unwrap();
        if !flags.contains(MigrationFlags::PRE_COPY) {
            assert!(source.set_mig_state(MigState::PreCopy).is_err());
            assert_eq!(source.mig_state().unwrap(), MigState::Running);
            continue;
        }
        let memory = if spec.name.starts_with("edu") { 2 } else { 0 };
        if source.region_info(memory).unwrap().1.is_empty() {
            // No client writes to it: only commands do.
            continue;
        }
        let write = |client: &mut Client, at: u64, byte: u8| {
            client.region_write(memory, at, &[byte; 64]).unwrap();
        };
        write(&mut source, 0, 1);
        write(&mut source, 0x3000, 2);
        source.set_mig_state(MigState::PreCopy).unwrap();
        let early = read_all(&mut source, 4096);
        assert!(early.len() > 8192, "both pages");
        write(&mut source, 0x3000, 3);
        write(&mut source, 0x1000, 4);
        assert!(source.mig_data_read(4096).unwrap().is_empty(), "once each");
        source.set_mig_state(MigState::StopCopy).unwrap();
        let late = read_all(&mut source, 4096);
        assert!(late.len() > 8192);
        load(&mut target, &[early, late].concat(), 3000).unwrap();
        for (at, byte) in [(0, 1), (0x1000, 4), (0x2000, 0), (0x3000, 3)] {
            let mut data = [0; 64];
            target.region_read(memory, at, &mut data).unwrap();
            assert_eq!(data, [byte; 64], "{at:#x} of {}", spec.name);
        }
    }
}

#[test]
fn a_bad_state_is_refused_and_the_device_is_as_it_was() {
    let mut random = Random(0x0bad_5eed_0bad_5eed);
    for spec in small_types() {
        let instance = Instance::new(&spec.name);
        let mut client = instance.client();
        scribble(&mut client, &mut random);
        let stream = instance.snapshot();
        let mut bad = vec![
            ("nothing".to_owned(), vec![]),
            ("more".to_owned(), [&stream[..], &[0]].concat()),
            ("twice".to_owned(), [&stream[..], &stream].concat()),
            ("noise".to_owned(), vec![0x5a; 100]),
        ];
        for other in small_types().into_iter().filter(|it| it.name != spec.name) {
            let foreign = Instance::new(&other.name).snapshot();
            bad.push((format!("a {}", other.name), foreign));
        }
        for _ in 0..24 {
            let at = random.below(stream.len() as u64) as usize;
            bad.push((format!("{at} bytes"), stream[..at].to_vec()));
            let mut flipped = stream.clone();
            flipped[at] ^= 1 << random.below(8);
            bad.push((format!("a bit of byte {at}"), flipped));
        }
        for (what, bad) in bad {
            let what = format!("{what}, of {} bytes of {}", stream.len(), spec.name);
            assert!(instance.restore(bad.clone()).is_err(), "{what}");
            assert!(instance.snapshot() == stream, "{what}");
            let error = load(&mut client, &bad, 4096).unwrap_err();
            assert!(matches!(error, ClientError::Refused(_)), "{what}: {error}");
            assert_eq!(client.mig_state().unwrap(), MigState::Resuming, "{what}");
            // It is refused to the end, and can then be sent again, and be right.
            assert!(client.set_mig_state(MigState::Stop).is_err(), "{what}");
            load(&mut client, &stream, 4096).unwrap();
            assert!(instance.snapshot() == stream, "{what}");
        }
    }
}

#[test]
fn a_state_is_restored_at_once_with_words_for_what_is_wrong() {
    let (edu, bochs) = (Instance::new("edu-1"), Instance::new("bochs-4m"));
    let state = edu.snapshot();
    assert_eq!(edu.restore(state.clone()), Ok(()));
    for (bytes, words) in [
        (
            bochs.snapshot(),
            "the state is of a 'bochs-4m', and this is a 'edu-1'",
        ),
        (state[..100].to_vec(), "the state is cut off"),
        (b"GIF89a".to_vec(), "this is no saved state of a vGPU"),
    ] {
        assert_eq!(edu.restore(bytes), Err(words.to_owned()));
    }
    let mut client = edu.client();
    client.set_mig_state(MigState::Stop).unwrap();
    let words = "the VMM is migrating this vGPU";
    assert_eq!(edu.restore(state), Err(words.to_owned()));
}

#[test]
fn a_stopped_device_answers_nothing_but_configuration_space_until_it_is_reset() {
    for spec in types() {
        let instance = Instance::new(&spec.name);
        let mut client = instance.client();
        let before = look(&mut client);
        for state in [MigState::Stop, MigState::StopCopy, MigState::Resuming] {
            client.set_mig_state(state).unwrap();
            let mut data = [0; 4];
            client.region_write(0, 4, &[0x5a; 4]).unwrap();
            client.region_read(0, 4, &mut data).unwrap();
            assert_eq!(data, [0xff; 4], "{state:?} of {}", spec.name);
            client.region_read(CONFIG, 0, &mut data).unwrap();
            assert_ne!(data, [0xff; 4], "{state:?} of {}", spec.name);
            client.reset().unwrap();
            assert_eq!(client.mig_state().unwrap(), MigState::Running);
            assert!(look(&mut client) == before, "{state:?} of {}", spec.name);
        }
        client.set_mig_state(MigState::StopCopy).unwrap();
        drop(client);
        let mut next = instance.client();
        assert_eq!(next.mig_state().unwrap(), MigState::Running);
        assert!(look(&mut next) == before, "{}", spec.name);
    }
}
