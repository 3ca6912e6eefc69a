//! Lines of text on a socket: a request is one line, and so is its answer.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;

/// Of something that is done.
const DONE: char = '+';
/// Of something that is not.
const FAILED: char = '-';

/// How long a server may take to be there, and to answer: emulation is slow.
const LIMIT: Duration = Duration::from_secs(100);

/// Sends a request, and returns its answer. Waits for the server, if it is yet to come.
pub(crate) fn ask(path: &str, words: &[&str]) -> Result<String, Failure> {
    let deadline = Instant::now() + LIMIT;
    let mut stream = loop {
        match UnixStream::connect(path) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    };
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all((words.join(" ") + "\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match (answer.strip_prefix(DONE), answer.strip_prefix(FAILED)) {
        (Some(answer), _) => Ok(answer.trim_end().to_owned()),
        (_, Some(why)) => Err(why.trim_end().into()),
        _ => Err("it is gone".into()),
    }
}

/// Serves requests one after the other, until one of them says to end.
pub(crate) fn serve(
    path: &str,
    mut answer: impl FnMut(&[&str]) -> Result<Option<String>, Failure>,
) -> Result<(), Failure> {
    // Who asks waits for a socket that is listened on.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut line = String::new();
        BufReader::new(stream.try_clone()?).read_line(&mut line)?;
        let words: Vec<_> = line.split_whitespace().collect();
        let (text, is_over) = match answer(&words) {
            Ok(Some(text)) => (format!("{DONE}{text}\n"), false),
            Ok(None) => (format!("{DONE}ended\n"), true),
            Err(error) => (format!("{FAILED}{error}\n"), false),
        };
        stream.write_all(text.as_bytes())?;
        if is_over {
            break;
        }
    }
    Ok(())
}
