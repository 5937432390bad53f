//! Mutual TLS and permissions: who has no certificate gets no connection, and a process may do only what its own
//! certificate allows.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Real, Servers};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use skerry_bus::contract::Rig;
use skerry_bus::{
    Answer, Bounds, Bus, Connect, Event, Limits, Message, Name, Pattern, RequestFault, ServeOptions, Subject,
    Takes,
};
use skerry_nats::{NatsBus, NatsConnector, NatsOptions, NatsTls};

/// An authority, a server certificate and one for each process, in PEM files.
fn certificates(folder: &Path, processes: &[&str]) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("a file");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test authority");
    let authority = params.self_signed(&key).expect("a certificate");
    write("ca.pem", authority.pem());
    let issuer = Issuer::new(params, key);
    for name in std::iter::once(&"server").chain(processes) {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), format!("{name}.bank.test")];
        let mut params = CertificateParams::new(names).expect("good names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, *name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let signed = params.signed_by(&key, &issuer).expect("a certificate");
        write(&format!("{name}.pem"), signed.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

fn tls(folder: &Path, process: &str) -> NatsTls {
    NatsTls {
        authority: folder.join("ca.pem"),
        certificate: folder.join(format!("{process}.pem")),
        key: folder.join(format!("{process}.key")),
    }
}

/// What docs/nats.md shows: a gateway asks branches, a node serves them, and each has its own inbox.
fn config(folder: &Path) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    format!(
        r#"tls {{ cert_file: "{}", key_file: "{}", ca_file: "{}", verify_and_map: true }}
authorization {{ users: [
  {{ user: "CN=gateway", permissions: {{
      publish: {{ allow: ["bank.r.*.branch.>", "bank.i.gateway.>"] }}, subscribe: {{ allow: ["bank.i.gateway.>"] }} }} }},
  {{ user: "CN=node", permissions: {{
      publish: {{ allow: ["bank.i.node.>"] }}, subscribe: {{ allow: ["bank.r.*.branch.>", "bank.i.node.>"] }},
      allow_responses: true }} }}
] }}"#,
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    )
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn connector(servers: &Servers, tls: Option<NatsTls>) -> NatsConnector {
    NatsConnector::new(NatsOptions {
        servers: vec![format!("tls://127.0.0.1:{}", servers.all[0].port)],
        prefix: name("bank"),
        replicas: 1,
        tls,
    })
}

/// Asks and answers until the request ends.
fn ask(
    rig: &mut Real,
    asker: &mut NatsBus,
    server: &mut NatsBus,
    subject: &str,
) -> Result<Message, RequestFault> {
    let message = Message::new(Subject::new(subject).expect("a subject"), "?");
    let deadline = rig.now().after(2_000_000);
    asker.poll(rig.now());
    asker.request(&message, deadline).expect("there is room");
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let now = rig.now();
        if let Some(Event::Asked { ask, .. }) = server.poll(now) {
            server.respond(ask, Answer::reply("!")).expect("in time");
        }
        if let Some(Event::Replied { outcome, .. }) = asker.poll(now) {
            return outcome;
        }
        assert!(Instant::now() < end, "the request does not end");
        rig.idle();
    }
}

#[test]
fn certificates_decide_who_may_do_what() {
    let folder: PathBuf = std::env::temp_dir().join(format!("skerry-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    certificates(&folder, &["gateway", "node", "stranger"]);
    let servers = Servers::new(1, &config(&folder), Some(tls(&folder, "gateway")));
    assert!(connector(&servers, None).connect(name("gateway"), Limits::default()).is_err(), "no certificate");
    let stranger = connector(&servers, Some(tls(&folder, "stranger")));
    assert!(stranger.connect(name("stranger"), Limits::default()).is_err(), "a certificate without a user");
    let node = connector(&servers, Some(tls(&folder, "node")));
    let mut rig = Real::new(servers);
    let mut gateway = rig.connect(name("gateway"), Limits::default());
    let mut node = node.connect(name("node"), Limits::default()).expect("it has a certificate");
    for pattern in ["branch.*", "vault"] {
        let (pattern, queue) = (Pattern::new(pattern).expect("a pattern"), Bounds::new(10, 1 << 20));
        node.serve(ServeOptions { pattern, takes: Takes::Everything, queue }).expect("there is room");
    }
    let end = Instant::now() + Duration::from_secs(30);
    let mut ready = 0;
    while ready < 2 {
        let now = rig.now();
        ready += u32::from(matches!(node.poll(now), Some(Event::Ready { .. })));
        assert!(Instant::now() < end, "not ready");
        rig.idle();
    }
    let reply = ask(&mut rig, &mut gateway, &mut node, "branch.0007").expect("this is allowed");
    assert_eq!(&reply.payload[..], b"!");
    let refused = ask(&mut rig, &mut gateway, &mut node, "vault").expect_err("this is not");
    assert_eq!(refused, RequestFault::Deadline, "the server drops what is not allowed");
    drop((gateway, node, rig));
    let _left = std::fs::remove_dir_all(folder);
}
