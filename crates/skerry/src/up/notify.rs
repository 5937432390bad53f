//! What a service manager wants to hear (sd_notify(3)): that the bank serves, and that it is stopping.
//!
//! The manager names a socket in the environment; without it there is nobody to tell. One datagram, no reply.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The bank serves, under this address.
pub(crate) fn ready(server: &str) {
    tell(&format!("READY=1\nSTATUS=serving at {server}"));
}

/// It has been told to stop.
pub(crate) fn stopping() {
    tell("STOPPING=1\nSTATUS=finishing what runs");
}

fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, ?socket, "the service manager could not be told");
    }
}

/// A leading `@` stands for the abstract name space.
fn send(socket: &OsStr, state: &str) -> std::io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_in_a_folder_and_one_without_hear_it() {
        let mut heard = [0; 64];
        let path = std::env::temp_dir().join(format!("skerry-notify-{}", std::process::id()));
        let _gone = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        let length = socket.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1");
        std::fs::remove_file(path).unwrap();

        let name = format!("skerry-notify-{}", std::process::id());
        let socket =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        let length = socket.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"STOPPING=1");
        assert!(send(OsStr::new("/nowhere/at/all"), "READY=1").is_err());
    }
}
