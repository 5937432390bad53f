//! A signer that is another process: a command started by the bank, asked line by line ([`crate::answer`]).
//!
//! The command may be a bridge to a device, a login on another machine, or `skerry key serve` under another user. Nothing
//! it says is believed: every signature is verified under the pinned public key before it is used.
//!
//! ```text
//! sign ─► running? ─ no ─► start ─┐      one request at a time; all of it within one timeout
//!             └──── yes ──────────┴─► ask ─► verify ─► signature
//!                                        └─ silence, death, a lie: the process group is killed, the next request starts
//!                                           another
//! ```
//!
//! # Invariants
//!
//! - A call of `sign` returns within the timeout (and the moment that killing takes), whatever the command does.
//! - At most [`ANSWER_LENGTH_MAX`] bytes of an answer are kept in memory.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use skerry_proof::{PublicKey, SignError, Signature, Signer};

use crate::answer::{ANSWER_LENGTH_MAX, Answer, AnswerError, request};

/// What an external signer is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// The program and its arguments. Secrets do not belong here: every process can read them.
    pub command: Vec<String>,
    /// The key that its signatures must verify under.
    pub public_key: PublicKey,
    /// From asking to the whole answer, starting included.
    pub timeout: Duration,
}

/// Asks a command for signatures.
pub struct ExternalSigner {
    external: External,
    seat: Mutex<Seat>,
    freed: Condvar,
}

/// Who may talk to the process, and the process.
#[derive(Default)]
struct Seat {
    taken: bool,
    running: Option<Running>,
}

/// Why a command gave no signature.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("could not start it: {0}")]
    Start(std::io::Error),
    #[error("it has ended")]
    Ended,
    #[error("it did not answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("it was busy for {} ms", .0.as_millis())]
    Busy(Duration),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error("it said: {0}")]
    Told(String),
    #[error("its signature is not that of the pinned key")]
    Lie,
}

impl ExternalSigner {
    /// A signer whose command is started when it is first asked.
    ///
    /// # Panics
    ///
    /// If the command is empty.
    #[must_use]
    pub fn new(external: External) -> Self {
        assert!(!external.command.is_empty(), "a command has a program");
        Self { external, seat: Mutex::default(), freed: Condvar::new() }
    }

    fn ask(&self, message: &[u8]) -> Result<Signature, Failure> {
        let until = Instant::now() + self.external.timeout;
        let mut running = self.take_seat(until)?;
        let asked = self.ask_in_turn(&mut running, message, until);
        // Whoever failed is not trusted with another question; one that refuses politely is.
        if !matches!(asked, Ok(_) | Err(Failure::Told(_))) {
            running = None;
        }
        let mut seat = self.seat();
        seat.running = running;
        seat.taken = false;
        self.freed.notify_one();
        asked
    }

    fn take_seat(&self, until: Instant) -> Result<Option<Running>, Failure> {
        let mut seat = self.seat();
        while seat.taken {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(Failure::Busy(self.external.timeout));
            }
            seat = self.freed.wait_timeout(seat, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        seat.taken = true;
        Ok(seat.running.take())
    }

    fn ask_in_turn(
        &self,
        running: &mut Option<Running>,
        message: &[u8],
        until: Instant,
    ) -> Result<Signature, Failure> {
        let line = request(self.external.public_key.id(), message);
        if let Some(process) = running {
            match self.exchange(process, line.clone(), message, until) {
                // It lived for its requests so far and has gone: that is its right.
                Err(Failure::Ended) => {}
                answered => return answered,
            }
        }
        *running = None;
        let process = running.insert(Running::start(&self.external.command).map_err(Failure::Start)?);
        self.exchange(process, line, message, until)
    }

    fn exchange(
        &self,
        process: &Running,
        line: String,
        message: &[u8],
        until: Instant,
    ) -> Result<Signature, Failure> {
        process.requests.send(line).map_err(|_| Failure::Ended)?;
        let answer = match process.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => return Err(Failure::Silent(self.external.timeout)),
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::Ended),
        };
        match Answer::parse(&answer)? {
            Answer::Signature(signature) if self.external.public_key.verify(message, &signature) => {
                Ok(signature)
            }
            Answer::Signature(_) => Err(Failure::Lie),
            Answer::Error(text) => Err(Failure::Told(text)),
        }
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signer for ExternalSigner {
    fn public_key(&self) -> PublicKey {
        self.external.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        self.ask(message).map_err(|failure| {
            let program = self.external.command.first().map_or("", String::as_str);
            SignError { key: self.key_id(), reason: format!("the command {program:?}: {failure}") }
        })
    }
}

/// Shows program and key; arguments may say more than a log should.
impl fmt::Debug for ExternalSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ExternalSigner({:?}, {})", self.external.command.first(), self.key_id())
    }
}

/// A process with a thread that talks to it; killed with all it has started when dropped.
struct Running {
    child: Child,
    requests: SyncSender<String>,
    answers: Receiver<Vec<u8>>,
}

impl Running {
    fn start(command: &[String]) -> std::io::Result<Self> {
        let (program, arguments) = command.split_first().expect("a command has a program");
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (requests, asked) = sync_channel(1);
        let (said, answers) = sync_channel(1);
        let running = Self { child, requests, answers };
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(std::io::Error::other("its input and output are not there"));
        };
        std::thread::Builder::new()
            .name("signer".to_owned())
            .spawn(move || talk(stdin, stdout, &asked, &said))?;
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It may have ended by itself; what it has started may not.
        if let Some(group) = group {
            let _gone = kill_process_group(group, Signal::KILL);
        }
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Hands requests to the process and its answers back, until either end is closed.
fn talk(mut stdin: ChildStdin, stdout: ChildStdout, asked: &Receiver<String>, said: &SyncSender<Vec<u8>>) {
    let mut stdout = BufReader::with_capacity(ANSWER_LENGTH_MAX, stdout);
    while let Ok(line) = asked.recv() {
        if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
            return;
        }
        let Some(answer) = read_line(&mut stdout) else { return };
        if said.send(answer).is_err() {
            return;
        }
    }
}

/// A line without its end, cut one byte beyond the longest that is an answer; `None` where the output ends.
fn read_line(stdout: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let most = u64::try_from(ANSWER_LENGTH_MAX).unwrap_or(u64::MAX).saturating_add(1);
    stdout.by_ref().take(most).read_until(b'\n', &mut line).ok()?;
    match line.pop() {
        None => None,
        Some(b'\n') => Some(line),
        Some(_) if line.len() < ANSWER_LENGTH_MAX => None, // it ended within its line
        Some(byte) => {
            line.push(byte);
            Some(line)
        }
    }
}
