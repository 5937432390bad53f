//! Whether a server's settings let it keep what it acknowledges: pure judgement, no connection.

use crate::server::Durability;

/// The settings that are looked at, as the server names them.
pub(crate) const NAMES: [&str; 4] =
    ["fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names"];

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Settings {
    pub(crate) fsync: String,
    pub(crate) full_page_writes: String,
    pub(crate) synchronous_commit: String,
    pub(crate) synchronous_standby_names: String,
    /// It only follows another server.
    pub(crate) in_recovery: bool,
}

impl Settings {
    /// Whether a journal may be kept there; else all that is wrong, in one text.
    pub(crate) fn judge(&self, durability: Durability) -> Result<(), String> {
        let mut wrong = Vec::new();
        if self.in_recovery {
            wrong.push("it is a standby".to_owned());
        }
        for (name, value) in [("fsync", &self.fsync), ("full_page_writes", &self.full_page_writes)] {
            if value != "on" {
                wrong.push(format!("{name} is {value}, must be on"));
            }
        }
        let commit = self.synchronous_commit.as_str();
        match durability {
            Durability::Single if commit == "off" => {
                wrong.push("synchronous_commit is off, must be on (or local)".to_owned());
            }
            Durability::Single => (),
            Durability::Replicated => {
                if !matches!(commit, "on" | "remote_apply") {
                    wrong.push(format!("synchronous_commit is {commit}, must be on"));
                }
                wrong.extend(standbys(&self.synchronous_standby_names).err());
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

/// How many standbys confirm a commit, and of how many.
fn standbys(text: &str) -> Result<(usize, usize), String> {
    let wanted = "must be 'ANY 1 (a, b)' with at least two standbys";
    if text.trim().is_empty() {
        return Err(format!(
            "synchronous_standby_names is empty, {wanted}; a server without standbys must be said aloud: \
             durability = \"single\""
        ));
    }
    let refused = |why: &str| format!("synchronous_standby_names is {text:?}: {why}, {wanted}");
    let (needed, names) = parse(text).ok_or_else(|| refused("it cannot be read"))?;
    let several = names.iter().any(|name| name == "*");
    if needed == 0 {
        return Err(refused("no standby has to confirm"));
    }
    if !several && names.len() <= needed {
        return Err(refused("with any one of them gone no commit would ever end"));
    }
    Ok((needed, names.len()))
}

/// `ANY n (a, b)`, `FIRST n (a, b)`, `n (a, b)` or `a, b`.
fn parse(text: &str) -> Option<(usize, Vec<String>)> {
    let text = text.trim();
    let Some((head, rest)) = text.split_once('(') else { return Some((1, names(text)?)) };
    let list = names(rest.trim().strip_suffix(')')?)?;
    let mut words = head.split_whitespace();
    let first = words.next()?;
    let is_method = ["any", "first"].iter().any(|method| first.eq_ignore_ascii_case(method));
    let number = if is_method { words.next()? } else { first };
    if words.next().is_some() {
        return None;
    }
    Some((number.parse().ok()?, list))
}

fn names(list: &str) -> Option<Vec<String>> {
    let names: Vec<_> = list.split(',').map(|name| name.trim().trim_matches('"').to_owned()).collect();
    names.iter().all(|name| !name.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(names: &str) -> Settings {
        let on = || "on".to_owned();
        Settings {
            fsync: on(),
            full_page_writes: on(),
            synchronous_commit: on(),
            synchronous_standby_names: names.to_owned(),
            in_recovery: false,
        }
    }

    #[test]
    fn one_of_two_standbys_is_what_is_wanted() {
        for good in [
            "ANY 1 (a, b)",
            "any 1 (\"a\",b,c)",
            "FIRST 1 (a, b)",
            "1 (a, b)",
            "a, b",
            "ANY 2 (a, b, c)",
            "*",
        ] {
            assert_eq!(settings(good).judge(Durability::Replicated), Ok(()), "{good}");
        }
    }

    #[test]
    fn anything_less_is_refused_with_its_value() {
        for bad in [
            "",
            " ",
            "ANY 1 (a)",
            "a",
            "ANY 2 (a, b)",
            "ANY 0 (a, b)",
            "ANY (a, b)",
            "ANY 1 (a, b",
            "ANY 1 (a,,b)",
        ] {
            let why = settings(bad).judge(Durability::Replicated).unwrap_err();
            assert!(
                why.contains("synchronous_standby_names") && why.contains("ANY 1 (a, b)"),
                "{bad}: {why}"
            );
            assert_eq!(settings(bad).judge(Durability::Single), Ok(()), "without standbys it is said aloud");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let off = Settings {
            fsync: "off".to_owned(),
            synchronous_commit: "remote_write".to_owned(),
            in_recovery: true,
            ..settings("a, b")
        };
        let why = off.judge(Durability::Replicated).unwrap_err();
        for part in ["it is a standby", "fsync is off", "synchronous_commit is remote_write"] {
            assert!(why.contains(part), "{why}");
        }
        let lazy = Settings { synchronous_commit: "off".to_owned(), ..settings("") };
        assert!(lazy.judge(Durability::Single).unwrap_err().contains("synchronous_commit is off"));
        assert!(
            Settings { full_page_writes: "off".to_owned(), ..settings("") }
                .judge(Durability::Single)
                .is_err()
        );
    }
}
