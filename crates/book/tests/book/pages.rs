//! Every rejection has its page in `docs/errors/`, and the page says what it must.

use std::path::Path;

use skerry_book::Rejection;

#[test]
fn every_rejection_has_a_page_with_cause_effect_and_remedy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    for (number, name) in Rejection::catalogue() {
        let path = folder.join(format!("{number}.md"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{number} {name}: {error}"));
        assert!(page.starts_with(&format!("# {number} `{name}`")), "{number}.md is not about {name}");
        for part in ["## Cause", "## Effect", "## What to do"] {
            assert!(page.contains(part), "{number}.md does not say {part}");
        }
    }
}

#[test]
fn numbers_and_names_are_used_once() {
    let catalogue = Rejection::catalogue();
    assert!(catalogue.is_sorted_by(|left, right| left.0 < right.0));
    let names: std::collections::BTreeSet<_> = catalogue.iter().map(|(_, name)| name).collect();
    assert_eq!(names.len(), catalogue.len());
    assert!(catalogue.iter().all(|(number, _)| (1_000..5_000).contains(number)));
}
