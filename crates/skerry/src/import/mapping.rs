//! The mapping file: which columns of the old core's files mean what. docs/import.md explains every key.
//!
//! Knows TOML and names; reads no data file and moves no money.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

/// A whole mapping file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mapping {
    pub(crate) version: u32,
    /// Names the old core; part of every id that the import derives.
    pub(crate) source: String,
    pub(crate) currency: String,
    /// Offset of the old core's clock, `+01:00`.
    #[serde(default = "utc")]
    pub(crate) time_zone: String,
    #[serde(default)]
    pub(crate) heads: Vec<Head>,
    pub(crate) customers: Customers,
    pub(crate) accounts: Accounts,
    pub(crate) owners: Owners,
    pub(crate) transactions: Transactions,
    #[serde(default)]
    pub(crate) check: Check,
}

fn utc() -> String {
    "+00:00".to_owned()
}

/// A general-ledger head that the chart needs for this import.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    pub(crate) code: u32,
    pub(crate) class: String,
    pub(crate) name: String,
    pub(crate) name_zh: String,
}

/// A CSV file and how to cut it. The first line names the columns.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Source {
    pub(crate) file: String,
    #[serde(default = "comma")]
    pub(crate) separator: char,
}

fn comma() -> char {
    ','
}

/// Rows that become customers.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Customers {
    #[serde(flatten)]
    pub(crate) source: Source,
    pub(crate) id: String,
    /// A text in which `{column}` stands for that column's value.
    pub(crate) name: String,
    pub(crate) document: Document,
}

/// What identifies a customer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) kind: String,
    pub(crate) number: String,
}

/// Rows that become accounts.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Accounts {
    #[serde(flatten)]
    pub(crate) source: Source,
    pub(crate) id: String,
    pub(crate) opened: DateColumn,
    #[serde(default = "current")]
    pub(crate) product: String,
    #[serde(default)]
    pub(crate) overdraft: Overdraft,
}

fn current() -> String {
    "current".to_owned()
}

/// Which overdraft an imported account is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Overdraft {
    /// None: a transaction that would overdraw is refused.
    #[default]
    None,
    /// The deepest one that the old core's own history shows.
    AsUsed,
}

/// A column with a date and the shape it has: `%Y`, `%m`, `%d`, `%y` and literal characters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DateColumn {
    pub(crate) column: String,
    #[serde(default = "iso")]
    pub(crate) format: String,
}

fn iso() -> String {
    "%Y-%m-%d".to_owned()
}

/// Who owns which account.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Owners {
    #[serde(flatten)]
    pub(crate) source: Source,
    pub(crate) account: String,
    pub(crate) customer: String,
    /// Only rows with these values count.
    #[serde(default, rename = "where")]
    pub(crate) only: BTreeMap<String, OneOrMany>,
}

/// Rows that become transfers.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Transactions {
    #[serde(flatten)]
    pub(crate) source: Source,
    pub(crate) id: String,
    pub(crate) account: String,
    pub(crate) date: DateColumn,
    pub(crate) amount: String,
    pub(crate) side: Side,
    /// The old core's running balance after the row; what `--check` compares with.
    pub(crate) balance: Option<String>,
    /// A text in which `{column}` stands for that column's value; empty values are left out.
    pub(crate) reference: Option<String>,
    /// The first rule that fits a row says which head stands on its other side.
    pub(crate) rules: Vec<Rule>,
}

/// Which values of a column mean money in and money out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Side {
    pub(crate) column: String,
    pub(crate) credit: Vec<String>,
    pub(crate) debit: Vec<String>,
}

/// Chooses the other side of a transaction.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(default)]
    pub(crate) when: BTreeMap<String, OneOrMany>,
    pub(crate) head: Option<u32>,
    pub(crate) head_by: Option<HeadBy>,
    /// The transfer's `code`.
    #[serde(default)]
    pub(crate) code: u16,
}

/// Chooses a head by a column's value.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeadBy {
    pub(crate) column: String,
    pub(crate) heads: BTreeMap<String, u32>,
}

/// One value or a list of which any fits.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    /// Whether `value` is one of them.
    pub(crate) fn fits(&self, value: &str) -> bool {
        match self {
            Self::One(one) => one == value,
            Self::Many(many) => many.iter().any(|one| one == value),
        }
    }
}

/// How far a balance may lie from the old core's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    pub(crate) tolerance: String,
}

impl Default for Check {
    fn default() -> Self {
        Self { tolerance: "0".to_owned() }
    }
}

impl Mapping {
    /// Reads and checks a mapping file.
    ///
    /// # Errors
    ///
    /// The file, and the key that is missing, unknown or out of range.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("could not read the mapping {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in the mapping {}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mapping: Self = toml::from_str(text)?;
        ensure!(mapping.version == 1, "version must be 1, not {}", mapping.version);
        ensure!(
            (1..=16).contains(&mapping.source.len())
                && mapping.source.bytes().all(|b| b.is_ascii_graphic() && b != b':'),
            "source must be 1 to 16 printable characters without a colon, not {:?}",
            mapping.source
        );
        ensure!(!mapping.transactions.rules.is_empty(), "transactions.rules is empty");
        for (at, rule) in mapping.transactions.rules.iter().enumerate() {
            if rule.head.is_some() == rule.head_by.is_some() {
                bail!("transactions.rules[{at}] needs either head or head_by");
            }
        }
        Ok(mapping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        version = 1
        source = "old"
        currency = "CZK"
        [customers]
        file = "c.csv"
        id = "id"
        name = "Customer {id}"
        document = { kind = "client", number = "{id}" }
        [accounts]
        file = "a.csv"
        id = "id"
        opened = { column = "opened" }
        [owners]
        file = "o.csv"
        account = "a"
        customer = "c"
        where = { type = "OWNER" }
        [transactions]
        file = "t.csv"
        separator = ";"
        id = "id"
        account = "a"
        date = { column = "date", format = "%d/%m/%Y" }
        amount = "amount"
        side = { column = "type", credit = ["in"], debit = ["out"] }
        [[transactions.rules]]
        head = 1001
    "#;

    #[test]
    fn a_small_mapping_is_read() {
        let mapping = Mapping::parse(SMALL).unwrap();
        assert_eq!(mapping.transactions.source.separator, ';');
        assert_eq!(mapping.customers.source.separator, ',');
        assert_eq!(mapping.accounts.overdraft, Overdraft::None);
    }

    #[test]
    fn mistakes_are_named() {
        for (from, to, word) in [
            ("version = 1", "version = 2", "version"),
            ("head = 1001", "", "rules[0]"),
            ("source = \"old\"", "source = \"a:b\"", "source"),
            ("currency = \"CZK\"", "currency = \"CZK\"\ncolour = 1", "colour"),
            ("column = \"opened\"", "columm = \"opened\"", "columm"),
        ] {
            let error = format!("{:#}", Mapping::parse(&SMALL.replace(from, to)).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
