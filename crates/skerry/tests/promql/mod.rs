//! As much of PromQL and of Prometheus' text format as it takes to say which figures an expression asks for, and whether they are there.
#![expect(clippy::unwrap_used, reason = "also in the helpers of tests")]
#![expect(unreachable_pub, reason = "read in the test file that uses it")]

use std::collections::{BTreeMap, BTreeSet};

/// Values by label.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// A label, `=` or another operator, and a value.
type Matcher = (String, String, String);

/// What is printed: metrics by name.
pub type Printed = BTreeMap<String, Labels>;

/// Reads what `/metrics` printed.
pub fn printed(text: &str) -> Printed {
    let mut found = Printed::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let entry = found.entry(name.to_owned()).or_default();
        for (label, _, value) in matchers(labels.trim_end_matches('}')) {
            entry.entry(label).or_default().insert(value);
        }
    }
    found
}

/// `a="b",c=~"d"` as names, operators and values. Values here have no commas or escapes in them.
fn matchers(text: &str) -> Vec<Matcher> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let read = |part: &str| {
        let at = part.find(['=', '!']).unwrap_or_else(|| panic!("{part} is no matcher"));
        let (label, rest) = part.split_at(at);
        let (operator, value) = rest.split_once('"').unwrap_or_else(|| panic!("{part} has no value"));
        (label.to_owned(), operator.to_owned(), value.trim_end_matches('"').to_owned())
    };
    parts.map(read).collect()
}

/// What an expression asks for.
#[derive(Debug, Default)]
pub struct Asked {
    /// Metrics, each with the matchers behind it.
    pub metrics: Vec<(String, Vec<Matcher>)>,
    /// Labels that are grouped or joined by.
    pub labels: Vec<String>,
}

const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// Reads an expression.
pub fn asked(expression: &str) -> Asked {
    let mut asked = Asked::default();
    let mut rest = expression;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic() || "[\"_".contains(c)) {
        // A number with a unit or an exponent, such as 1e9, is no name.
        let number = rest[..at].ends_with(|c: char| c.is_ascii_digit());
        rest = &rest[at..];
        if let Some(inside) = rest.strip_prefix('[') {
            rest = inside.split_once(']').unwrap().1;
            continue;
        }
        if let Some(inside) = rest.strip_prefix('"') {
            rest = inside.split_once('"').unwrap().1;
            continue;
        }
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let next = behind.trim_start();
        rest = behind;
        // sum by (…): an aggregation, whose name stands before its labels.
        let aggregates = GROUPING[..2]
            .iter()
            .any(|word| next.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', '('])));
        if number || aggregates || WORDS.contains(&word) {
            continue;
        }
        if GROUPING.contains(&word) {
            let (inside, after) = next.strip_prefix('(').unwrap().split_once(')').unwrap();
            asked.labels.extend(inside.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if let Some(inside) = next.strip_prefix('{') {
            let (inside, after) = inside.split_once('}').unwrap();
            asked.metrics.push((word.to_owned(), matchers(inside)));
            rest = after;
        } else if !next.starts_with('(') {
            asked.metrics.push((word.to_owned(), Vec::new()));
        }
    }
    asked
}

/// What Prometheus adds to every series.
const SCRAPED: [&str; 2] = ["instance", "job"];

/// What is wrong with an expression, given what is printed.
pub fn wrong(expression: &str, printed: &Printed) -> Vec<String> {
    let asked = asked(expression);
    let mut wrong = Vec::new();
    let mut known: BTreeSet<String> = SCRAPED.map(str::to_owned).into();
    for (metric, matchers) in &asked.metrics {
        if metric == "up" {
            continue; // Prometheus' own
        }
        let Some(labels) = printed.get(metric) else {
            wrong.push(format!("there is no metric {metric}"));
            continue;
        };
        known.extend(labels.keys().cloned());
        for (label, operator, value) in matchers.iter().filter(|(label, ..)| !SCRAPED.contains(&&**label)) {
            match labels.get(label) {
                None => wrong.push(format!("{metric} has no label {label}")),
                Some(values) if operator == "=" && !value.starts_with('$') && !values.contains(value) => {
                    wrong.push(format!("{label} of {metric} is never {value}"));
                }
                Some(_) => {}
            }
        }
    }
    if asked.metrics.is_empty() {
        wrong.push("it asks for nothing".to_owned());
    }
    wrong.extend(
        asked
            .labels
            .iter()
            .filter(|label| !known.contains(*label))
            .map(|label| format!("nothing has a label {label}")),
    );
    wrong
}

#[test]
fn expressions_are_read_and_what_is_not_there_is_named() {
    let printed = printed("# TYPE a gauge\na{branch=\"1\",le=\"+Inf\"} 1\nb_total 2\nc{class=\"5xx\"} 0\n");
    for good in [
        "a > 1e9 * 3",
        "histogram_quantile(0.99, sum by (branch, le) (rate(a{branch=~\"$branch\", instance=~\"x\"}[5m])))",
        "sum without (class) (rate(c{class=\"5xx\"}[1m])) or b_total{job=\"skerry\"} == 0",
        "up == 0",
    ] {
        assert_eq!(wrong(good, &printed), [""; 0], "{good}");
    }
    for (bad, named) in [
        ("rate(d[5m])", "there is no metric d"),
        ("a{class=\"1\"}", "a has no label class"),
        ("c{class=\"9xx\"}", "class of c is never 9xx"),
        ("sum by (kind) (a)", "nothing has a label kind"),
        ("a / on (brunch) a", "nothing has a label brunch"),
        ("vector(1)", "it asks for nothing"),
    ] {
        assert_eq!(wrong(bad, &printed), [named], "{bad}");
    }
}
