//! The architecture as data: which crate of ours may name which. ARCHITECTURE.md shows the same table.
//!
//! A new arrow fails here first; whoever wants it changes the table in ARCHITECTURE.md and this list in the
//! same commit, and says why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each crate, bottom layer first, and the crates of ours that it may use outside its tests.
const LAYERS: &[(&str, &[&str])] = &[
    ("skerry-money", &[]),
    ("skerry-ledger", &["skerry-money"]),
    ("skerry-book", &["skerry-ledger", "skerry-money"]),
    ("skerry-proof", &[]),
    ("skerry-journal", &["skerry-proof"]),
    ("skerry-directory", &["skerry-journal"]),
    ("skerry-keys", &["skerry-journal"]),
    ("skerry-bus", &[]),
    ("skerry-nats", &["skerry-bus"]),
    ("skerry-postgres", &["skerry-directory", "skerry-journal", "skerry-keys", "skerry-proof"]),
    ("skerry-signers", &["skerry-proof"]),
    (
        "skerry-branch",
        &["skerry-book", "skerry-journal", "skerry-keys", "skerry-ledger", "skerry-money", "skerry-proof"],
    ),
    ("skerry-post", &["skerry-branch", "skerry-bus"]),
    (
        "skerry-node",
        &[
            "skerry-book",
            "skerry-branch",
            "skerry-bus",
            "skerry-directory",
            "skerry-ledger",
            "skerry-money",
            "skerry-proof",
        ],
    ),
    (
        "skerry-gateway",
        &[
            "skerry-book",
            "skerry-branch",
            "skerry-directory",
            "skerry-ledger",
            "skerry-money",
            "skerry-node",
            "skerry-post",
            "skerry-proof",
        ],
    ),
    ("skerry-client", &[]),
    (
        "skerry-sim",
        &[
            "skerry-book",
            "skerry-branch",
            "skerry-bus",
            "skerry-directory",
            "skerry-journal",
            "skerry-ledger",
            "skerry-money",
            "skerry-node",
            "skerry-post",
            "skerry-proof",
        ],
    ),
    (
        "skerry",
        &[
            "skerry-book",
            "skerry-branch",
            "skerry-bus",
            "skerry-client",
            "skerry-directory",
            "skerry-gateway",
            "skerry-journal",
            "skerry-ledger",
            "skerry-money",
            "skerry-nats",
            "skerry-node",
            "skerry-post",
            "skerry-postgres",
            "skerry-proof",
            "skerry-signers",
            "skerry-sim",
        ],
    ),
];

/// Crates that must stay free of clocks, files and threads.
const PURE: &[&str] = &["money", "ledger", "book", "proof"];

/// Where tokio may appear: the gateway, the client, the command line, and the threads that speak to NATS and PostgreSQL.
const TOKIO_ALLOWED: &[&str] =
    &["skerry-nats", "skerry-postgres", "skerry-gateway", "skerry-client", "skerry"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate lies two below the root")
        .into()
}

/// The names under `[dependencies]` (and its dotted forms) of a manifest, `path` and features aside.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.trim_end_matches(']').ends_with("dependencies")
                && !section.contains("dev-dependencies");
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            names.insert(name.to_owned());
        }
    }
    names
}

fn manifests() -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("crates")).expect("crates/ can be listed") {
        let path = entry.expect("an entry").path().join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let name = text
            .lines()
            .find_map(|line| line.strip_prefix("name = "))
            .expect("a package has a name")
            .trim_matches('"')
            .to_owned();
        found.insert(name, dependencies(&text));
    }
    found
}

#[test]
fn crates_name_only_the_crates_that_the_map_allows() {
    let found = manifests();
    let known: BTreeSet<_> = LAYERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let present: BTreeSet<_> = found.keys().cloned().collect();
    assert_eq!(
        present, known,
        "a crate is missing from the table in layers.rs and ARCHITECTURE.md, or is gone"
    );
    for (name, allowed) in LAYERS {
        for dependency in found[*name].iter().filter(|d| d.starts_with("skerry")) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} names {dependency}: ARCHITECTURE.md does not show that arrow"
            );
        }
    }
}

#[test]
fn tokio_stays_in_the_shell() {
    for (name, dependencies) in manifests() {
        let uses = dependencies.iter().any(|d| d.starts_with("tokio") || d == "hyper" || d == "axum");
        assert!(
            !uses || TOKIO_ALLOWED.contains(&name.as_str()),
            "{name} may not know tokio (ARCHITECTURE.md)"
        );
    }
}

#[test]
fn pure_crates_are_no_std() {
    for name in PURE {
        let path = root().join("crates").join(name).join("src/lib.rs");
        let text = std::fs::read_to_string(&path).expect("lib.rs can be read");
        assert!(text.contains("#![no_std]"), "{} must stay no_std", path.display());
    }
}

#[test]
fn the_code_map_names_every_crate_and_no_other() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let named: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### `crates/"))
        .filter_map(|rest| rest.split('`').next())
        .map(str::to_owned)
        .collect();
    let present: BTreeSet<_> = std::fs::read_dir(root().join("crates"))
        .expect("crates/ can be listed")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(named, present, "the code map of ARCHITECTURE.md lies");
}

#[test]
fn every_source_file_says_what_it_is() {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("a folder can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root().join("crates"), &mut files);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file can be read");
        assert!(
            text.starts_with("//!"),
            "{} must open with //!: what it is, what it refuses to know",
            file.display()
        );
    }
}
