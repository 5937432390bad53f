//! TLS as `verify-full` means it: the right root and the right name, or nothing.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::path::{Path, PathBuf};

use common::{Folder, Group, chain, next, offer, store};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use skerry_journal::{JournalStore, OpenError};
use skerry_postgres::{Durability, ServerOptions, TlsFiles};

fn write(folder: &Path, name: &str, pem: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, pem).unwrap();
    path
}

fn root(folder: &Path, name: &str) -> (Issuer<'static, KeyPair>, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let path = write(folder, &format!("{name}.pem"), &params.self_signed(&key).unwrap().pem());
    (Issuer::new(params, key), path)
}

#[test]
fn the_right_root_and_the_right_name_or_nothing() {
    let folder = Folder::new();
    let (ours, right) = root(&folder.0, "ours");
    let (_theirs, wrong) = root(&folder.0, "theirs");
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ours).unwrap();
    let chain_file = write(&folder.0, "server.pem", &certificate.pem());
    let key_file = write(&folder.0, "server.key", &key.serialize_pem());
    common::give(&key_file);
    let group = Group::with(
        &format!("ssl = on\nssl_cert_file = {chain_file:?}\nssl_key_file = {key_file:?}\n").replace('"', "'"),
    );
    let options = |host: &str, ca: &Path| ServerOptions {
        url: format!("postgres://skerry@{host}:{}/postgres", group.primary().port),
        tls: Some(TlsFiles { ca: ca.to_owned(), own: None }),
        ..group.options(Durability::Single)
    };
    let opened =
        store(options("localhost", &right)).open().unwrap_or_else(|error| panic!("{}", chain(&error)));
    let mut journal = opened.journal;
    assert!(offer(&mut journal, 5));
    next(&mut journal).unwrap();
    assert_eq!(
        group.primary().sql("select count(*) from pg_stat_ssl where ssl and pid <> pg_backend_pid()"),
        "1"
    );
    drop(journal);

    let refused = |host: &str, ca: &Path| match store(options(host, ca)).open() {
        Err(error @ OpenError::Away { .. }) => chain(&error),
        Err(other) => panic!("refused otherwise: {other}"),
        Ok(_) => panic!("{host} was let in"),
    };
    let unknown = refused("localhost", &wrong);
    assert!(unknown.contains("UnknownIssuer") || unknown.contains("certificate"), "{unknown}");
    let name = refused("127.0.0.1", &right);
    assert!(name.contains("certificate"), "the certificate is for localhost: {name}");
}

#[test]
fn a_server_without_tls_is_not_spoken_to_where_a_root_is_named() {
    let folder = Folder::new();
    let (_ours, ca) = root(&folder.0, "ours");
    let group = Group::single();
    let tls = Some(TlsFiles { ca, own: None });
    let refused =
        store(ServerOptions { tls, ..group.options(Durability::Single) }).open().expect_err("no TLS there");
    assert!(chain(&refused).contains("TLS"), "{}", chain(&refused));
}
