//! A cable between client and server that can be cut in either direction, also at a word.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

/// What becomes of bytes on their way.
const WHOLE: u8 = 0;
const REQUESTS_LOST: u8 = 1;
const ANSWERS_LOST: u8 = 2;
const CUT: u8 = 3;

/// The cable; it ends with the process.
#[derive(Clone)]
pub struct Cable {
    pub port: u16,
    state: Arc<AtomicU8>,
    /// After a request with this word the next ones are lost.
    trap: Arc<Mutex<Option<&'static str>>>,
}

impl Cable {
    /// A whole cable to `port`.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let cable = Self { port: own, state: Arc::new(AtomicU8::new(WHOLE)), trap: Arc::default() };
        let laid = cable.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                laid.carry(&client, &server, REQUESTS_LOST);
                laid.carry(&server, &client, ANSWERS_LOST);
            }
        });
        cable
    }

    /// The next request with `word` arrives, and what is said after it does not, as if the client had been stopped then.
    pub fn lose_requests_after(&self, word: &'static str) {
        *self.trap.lock().unwrap() = Some(word);
    }

    /// Whether that has come about.
    pub fn is_losing_requests(&self) -> bool {
        self.state.load(Ordering::SeqCst) == REQUESTS_LOST
    }

    /// From now on nothing that the client says arrives.
    pub fn lose_requests(&self) {
        self.state.store(REQUESTS_LOST, Ordering::SeqCst);
    }

    /// From now on nothing that the server says arrives.
    pub fn lose_answers(&self) {
        self.state.store(ANSWERS_LOST, Ordering::SeqCst);
    }

    /// Connections break when something is said.
    pub fn cut(&self) {
        self.state.store(CUT, Ordering::SeqCst);
    }

    pub fn mend(&self) {
        self.state.store(WHOLE, Ordering::SeqCst);
    }

    /// Carries one direction; what is said on a cable that is not whole is gone, and the connection with it once that is mended.
    fn carry(&self, from: &TcpStream, to: &TcpStream, lost_if: u8) {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let cable = self.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            let mut torn = false;
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let (state, said) = (cable.state.load(Ordering::SeqCst), &buffer[..count]);
                torn |= state == lost_if;
                if state == CUT || (torn && state != lost_if) || (!torn && to.write_all(said).is_err()) {
                    break;
                }
                let mut trap = cable.trap.lock().unwrap();
                let springs = |word: &mut &str| said.windows(word.len()).any(|part| part == word.as_bytes());
                if lost_if == REQUESTS_LOST && !torn && trap.take_if(springs).is_some() {
                    cable.state.store(REQUESTS_LOST, Ordering::SeqCst);
                }
            }
            let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
}
