//! A cable between client and server that can be cut in either direction.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

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
}

impl Cable {
    /// A whole cable to `port`.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cable =
            Self { port: listener.local_addr().unwrap().port(), state: Arc::new(AtomicU8::new(WHOLE)) };
        let state = Arc::clone(&cable.state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                carry(&client, &server, REQUESTS_LOST, &state);
                carry(&server, &client, ANSWERS_LOST, &state);
            }
        });
        cable
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
}

/// Carries one direction; what is said on a cable that is not whole is gone, and the connection with it once that is mended.
fn carry(from: &TcpStream, to: &TcpStream, lost_if: u8, state: &Arc<AtomicU8>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        let mut torn = false;
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let state = state.load(Ordering::SeqCst);
            torn |= state == lost_if;
            if state == CUT
                || (torn && state != lost_if)
                || (!torn && to.write_all(&buffer[..count]).is_err())
            {
                break;
            }
        }
        let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}
