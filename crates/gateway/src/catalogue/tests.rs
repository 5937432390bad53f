//! Tests that every problem has its number, name and page.

use super::*;
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn numbers_rise_and_names_are_plain() {
    for part in [ledger::ENTRIES, book::ENTRIES, gateway::ENTRIES, events::ENTRIES] {
        assert!(part.is_sorted_by(|left, right| left.number < right.number));
    }
    for entry in all() {
        assert!(entry.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", entry.code);
        assert!(
            StatusCode::from_u16(entry.status)
                .is_ok_and(|status| status.is_client_error() || status.is_server_error())
        );
        assert!(!entry.title_zh.is_ascii(), "{}", entry.code);
    }
}

#[test]
fn every_rejection_of_a_branch_is_here_under_its_own_name() {
    for (number, name) in skerry_book::Rejection::catalogue() {
        let entry = find(number).unwrap_or_else(|| panic!("{number} {name} has no entry"));
        assert_eq!(entry.code, name, "{number}");
    }
}

#[test]
fn refusals_that_use_an_id_up_say_so() {
    for rejection in skerry_ledger::Rejection::ALL.iter().filter(|rejection| rejection.code() < 2_000) {
        let said = entry(rejection.code()).effect == Effect::IdUsed;
        assert_eq!(said, rejection.may_succeed_later(), "{}", rejection.name());
    }
}

/// The pages are written from the catalogue: `SKERRY_BLESS=1 cargo test -p skerry-gateway pages`.
#[test]
fn error_pages_are_as_the_catalogue_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    let bless = std::env::var_os("SKERRY_BLESS").is_some();
    let mut expected: Vec<(String, String)> =
        all().map(|entry| (format!("{}.md", entry.number), entry.page())).collect();
    let mut index =
        String::from("# Problems\n\nEvery problem document names one of these in `number` and `code`.\n\n");
    index.push_str("| number | code | status | title |\n|---|---|---|---|\n");
    for entry in all() {
        let (number, code, status) = (entry.number, entry.code, entry.status);
        index.push_str(&format!("| [{number}]({number}.md) | `{code}` | {status} | {} |\n", entry.title_en));
    }
    expected.push(("README.md".to_owned(), index));
    let names: BTreeSet<_> = expected.iter().map(|(name, _)| name.clone()).collect();
    if bless {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in &expected {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    for (name, text) in &expected {
        let found = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(found == *text, "{name} is not what the catalogue says: run with SKERRY_BLESS=1");
    }
    for file in std::fs::read_dir(&folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if bless && !names.contains(&name) {
            std::fs::remove_file(folder.join(&name)).unwrap();
            continue;
        }
        assert!(names.contains(&name), "{name} has no entry in the catalogue");
    }
}
