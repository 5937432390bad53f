//! A bank as deploy/README.md installs it, under a folder of its own instead of `/`, and runbooks whose commands are typed there.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "each test file uses its part, and one uses all"
)]
#![expect(clippy::unwrap_used, reason = "a fixture that does not stand ends its test here")]
#![expect(unreachable_pub, reason = "read in the test files that use it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use skerry_client::{Client, Options};

use crate::common::{Folder, SKERRY, block_on};

/// The project's own folder.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// What was said, and whether it worked.
#[derive(Debug)]
pub struct Said {
    pub done: bool,
    pub text: String,
}

/// A machine of our own: `/etc/skerry`, `/var/lib/skerry` and `/srv/skerry` under one folder.
pub struct Place {
    pub folder: Folder,
    pub server: String,
    /// What else is written otherwise on this machine than in the pages.
    pub instead: Vec<(String, String)>,
    /// A file system that goes with it.
    pub mounted: Option<PathBuf>,
}

impl Place {
    /// A machine whose bank is configured with `more` and not founded yet.
    pub fn new(name: &str, branches: u16, more: &str) -> Self {
        Self::reached(name, branches, "http", "", more)
    }

    /// The same, whose bank has the certificate and key `server.pem` and `server.key` in `/etc/skerry`.
    pub fn with_tls(name: &str, branches: u16) -> Self {
        let tls = "tls_certificate = \"/etc/skerry/server.pem\"\ntls_key = \"/etc/skerry/server.key\"\n";
        Self::reached(name, branches, "https", tls, "")
    }

    fn reached(name: &str, branches: u16, scheme: &str, tls: &str, more: &str) -> Self {
        let folder = Folder::new(name);
        for path in ["etc/skerry", "var/lib", "srv/skerry"] {
            std::fs::create_dir_all(folder.0.join(path)).unwrap();
        }
        // Free now; nobody else in these tests asks for this very one.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = Self {
            folder,
            server: format!("{scheme}://127.0.0.1:{port}"),
            instead: Vec::new(),
            mounted: None,
        };
        let text = format!(
            "[bank]\nbranches = {branches}\n[server]\nlisten = \"127.0.0.1:{port}\"\n{tls}{more}\n\
             [storage]\ndata = \"/var/lib/skerry\"\nsegment_bytes = 1048576\n"
        );
        std::fs::write(place.path("/etc/skerry/skerry.toml"), place.here(&text)).unwrap();
        place
    }

    /// Where `path` of a page is on this machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.0.join(path.trim_start_matches('/'))
    }

    pub fn data(&self) -> PathBuf {
        self.path("/var/lib/skerry")
    }

    /// `text` with this machine's paths and addresses.
    pub fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for path in ["/etc/skerry", "/var/lib/skerry", "/srv/skerry"] {
            text = text.replace(path, self.path(path).to_str().unwrap());
        }
        text = text.replace("http://127.0.0.1:7117", &self.server);
        for (page, machine) in &self.instead {
            text = text.replace(page, machine);
        }
        text
    }

    /// Types `script`, as one who has said where the bank is.
    pub fn try_shell(&self, script: &str) -> Said {
        let bin = Path::new(SKERRY).parent().unwrap();
        let told = blocks("README").remove(0);
        let script = self.here(&format!("set -eu\n{told}\n{script}"));
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(&self.folder.0);
        command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
        if self.server.starts_with("https") {
            command.env("SKERRY_CERTIFICATE", self.path("/etc/skerry/server.pem"));
        }
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned());
        Said { done: output.status.success(), text: text.concat() }
    }

    /// The same; it must work.
    pub fn shell(&self, script: &str) -> String {
        let said = self.try_shell(script);
        assert!(said.done, "{script}\n{}\n{}", said.text, self.log());
        said.text
    }

    pub fn up(&self) {
        self.shell("skerry up --detach");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data().join("bank.log")).unwrap_or_default()
    }

    /// kill -9.
    pub fn kill(&self) {
        let running: Value =
            serde_json::from_slice(&std::fs::read(self.data().join("running.json")).unwrap()).unwrap();
        let killed = Command::new("kill").args(["-9", &running["process"].to_string()]).status().unwrap();
        assert!(killed.success());
        let began = Instant::now();
        while self.is_held() {
            assert!(began.elapsed() < Duration::from_secs(30), "it outlives kill -9");
            std::thread::sleep(Duration::from_millis(5)); // between two looks, not to win a race
        }
    }

    fn is_held(&self) -> bool {
        let lock = std::fs::File::options().write(true).open(self.data().join("LOCK"));
        lock.is_ok_and(|file| file.try_lock().is_err())
    }

    /// A client with the operator's token.
    pub fn client(&self) -> Client {
        let token = std::fs::read_to_string(self.data().join("operator.token")).unwrap();
        let certificate = self.server.starts_with("https").then(|| self.path("/etc/skerry/server.pem"));
        let options = Options {
            server: self.server.clone(),
            token: Some(token.trim().to_owned()),
            certificate,
            retries: 0,
            ..Options::default()
        };
        Client::new(options).unwrap()
    }

    /// What `/metrics` says.
    pub fn metrics(&self) -> String {
        let client = self.client();
        let call = client.call(hyper::Method::GET, "/metrics", None, bytes::Bytes::new(), &[]);
        String::from_utf8(block_on(call).unwrap().body.to_vec()).unwrap()
    }

    /// Waits until `/metrics` has this line.
    pub fn until_metric(&self, line: &str) {
        let began = Instant::now();
        loop {
            let text = self.metrics();
            if text.lines().any(|found| found == line) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{line} never comes in {text}");
            std::thread::sleep(Duration::from_millis(20)); // between two looks, not to win a race
        }
    }

    /// Asks until it is so.
    pub fn until<T>(&self, path: &str, is: impl Fn(&Value) -> Option<T>) -> T {
        let client = self.client();
        let began = Instant::now();
        loop {
            let seen: Value = block_on(client.get(path)).unwrap();
            if let Some(found) = is(&seen) {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it never came so far: {path} {seen}");
            std::thread::sleep(Duration::from_millis(20)); // between two looks, not to win a race
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.data().join("running.json").exists() && self.is_held() {
            self.kill();
        }
        if let Some(mounted) = &self.mounted {
            let _gone = Command::new("umount").arg("-l").arg(mounted).status();
        }
    }
}

/// The commands of a page, block by block.
fn blocks(page: &str) -> Vec<String> {
    let path = project().join(format!("docs/runbooks/{page}.md"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("no page {}", path.display()));
    let parts = text.split("```sh\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// Whether `text` says `words` with whatever blanks between them: tables are padded.
pub fn shows(text: &str, words: &str) -> bool {
    let plain: Vec<&str> = text.split_whitespace().collect();
    format!(" {} ", plain.join(" ")).contains(&format!(" {words} "))
}

/// A runbook: its commands are typed one block after another, all of them.
pub struct Page {
    name: &'static str,
    blocks: std::vec::IntoIter<String>,
}

impl Page {
    pub fn open(name: &'static str) -> Self {
        Self { name, blocks: blocks(name).into_iter() }
    }

    /// Types the next block; it must work.
    pub fn step(&mut self, place: &Place) -> String {
        place.shell(&self.next())
    }

    /// Types the next block, which cannot work in this situation.
    pub fn refused(&mut self, place: &Place) -> String {
        let script = self.next();
        let said = place.try_shell(&script);
        assert!(!said.done, "{script}\n{}", said.text);
        said.text
    }

    /// The next block as it stands, for a test that types it itself.
    pub fn next(&mut self) -> String {
        self.blocks.next().unwrap_or_else(|| panic!("{} has no more commands", self.name))
    }

    /// Says that this was all.
    pub fn end(mut self) {
        assert_eq!(self.blocks.next(), None, "{} has commands that nobody has run", self.name);
    }
}
