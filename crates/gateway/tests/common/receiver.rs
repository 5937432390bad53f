//! A receiver of webhooks: HTTP/1.1 over plain sockets, a thread a connection, answering as it is told to.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "each test file uses its part, and a fixture that does not stand ends its test here"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What was posted.
#[derive(Debug, Clone)]
pub struct Call {
    pub head: HashMap<String, String>,
    pub path: String,
    pub body: Vec<u8>,
}

impl Call {
    pub fn id(&self) -> &str {
        &self.head["webhook-id"]
    }

    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16),
    /// A status with one more header.
    With(u16, &'static str, String),
    /// Nothing, ever.
    Hang,
    /// A body without end.
    Flood,
}

type Answerer = dyn Fn(&Call) -> Answer + Send + Sync;

struct State {
    calls: Mutex<Vec<Call>>,
    answerer: Mutex<Arc<Answerer>>,
    over: AtomicBool,
}

pub struct Receiver {
    pub address: SocketAddr,
    state: Arc<State>,
    listening: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    pub fn new(answerer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), answerer)
    }

    pub fn at(address: SocketAddr, answerer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            calls: Mutex::default(),
            answerer: Mutex::new(Arc::new(answerer)),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream.unwrap(), &state)));
            }
        });
        Self { address, state, listening: Some(listening) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    pub fn answer(&self, answerer: impl Fn(&Call) -> Answer + Send + Sync + 'static) {
        *self.state.answerer.lock().unwrap() = Arc::new(answerer);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.state.calls.lock().unwrap().len()
    }

    pub fn forget(&self) {
        self.state.calls.lock().unwrap().clear();
    }

    /// Ends it, with all that it has taken: what comes from now on has no answer.
    pub fn end(self) -> Vec<Call> {
        let mut calls = self.state.calls.lock().unwrap();
        self.state.over.store(true, Ordering::SeqCst);
        std::mem::take(&mut *calls)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(listening) = self.listening.take() {
            listening.join().unwrap();
        }
    }
}

fn serve(stream: TcpStream, state: &State) -> std::io::Result<()> {
    // Between two looks at whether it is over, not to win a race.
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(call) = read(&mut reader, state)? {
        {
            let mut calls = state.calls.lock().unwrap();
            if state.over.load(Ordering::SeqCst) {
                return Ok(());
            }
            calls.push(call.clone());
        }
        let answerer = Arc::clone(&*state.answerer.lock().unwrap());
        match answerer(&call) {
            Answer::Status(status) => {
                say(&mut stream, &format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nok"))?;
            }
            Answer::With(status, name, value) => {
                let head = format!("HTTP/1.1 {status} x\r\n{name}: {value}\r\ncontent-length: 0\r\n\r\n");
                say(&mut stream, &head)?;
            }
            Answer::Hang => {
                while still_there(&stream) {
                    if state.over.load(Ordering::SeqCst) {
                        break;
                    }
                }
                return Ok(());
            }
            Answer::Flood => {
                say(&mut stream, "HTTP/1.1 200 x\r\nconnection: close\r\n\r\n")?;
                while !state.over.load(Ordering::SeqCst) {
                    stream.write_all(&[b'x'; 4096])?;
                }
            }
        }
    }
    Ok(())
}

/// In one piece: what goes in several waits for the other side's acknowledgement of the first.
fn say(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes())
}

/// Waits a moment for the other side to close.
fn still_there(mut stream: &TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 1]), Ok(0))
}

fn read(reader: &mut BufReader<TcpStream>, state: &State) -> std::io::Result<Option<Call>> {
    let Some(first) = line(reader, state)? else { return Ok(None) };
    let path = first.split(' ').nth(1).unwrap_or("").to_owned();
    let mut head = HashMap::new();
    while let Some(line) = line(reader, state)?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        head.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = head.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match reader.read(&mut body[filled..]) {
            Ok(0) => return Ok(None),
            Ok(count) => filled += count,
            Err(error) if is_timeout(&error) && !state.over.load(Ordering::SeqCst) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(Call { head, path, body }))
}

fn line(reader: &mut BufReader<TcpStream>, state: &State) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    loop {
        match reader.read_line(&mut line) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(line.trim_end().to_owned())),
            Err(error) if is_timeout(&error) && !state.over.load(Ordering::SeqCst) => {}
            Err(_) => return Ok(None),
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// Waits until it is so; what it is about if it never is.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it never came about: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await; // between two looks
    }
}
