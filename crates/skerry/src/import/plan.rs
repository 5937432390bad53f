//! From the old core's files to what has to be done: customers, accounts, transfers in order, expected balances.
//!
//! Reads files and judges them; speaks to no bank. Every complaint names file, line and column.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use skerry_money::{Currency, Date};

use super::mapping::{DateColumn, Mapping, OneOrMany, Overdraft, Rule, Source};

/// Everything an import will do, in the order in which it will do it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) currency: Currency,
    pub(crate) customers: Vec<Customer>,
    pub(crate) accounts: Vec<Account>,
    /// By account (index into `accounts`), each in the order of its days, then of the file.
    pub(crate) transfers: Vec<Vec<Transfer>>,
    /// Rows that move nothing; they still tell a balance.
    pub(crate) empty_rows: usize,
    /// What the old core says stood on an account at the end of a day: any of several printed balances.
    pub(crate) expected: BTreeMap<(usize, Date), Vec<i128>>,
}

/// A customer to be.
#[derive(Debug)]
pub(crate) struct Customer {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) document_kind: String,
    pub(crate) document_number: String,
    /// Since when: no later than the first of its accounts.
    pub(crate) opened: Option<Date>,
}

/// An account to be.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) key: String,
    /// Index into `customers`.
    pub(crate) owner: usize,
    pub(crate) opened: Date,
    /// Minor units.
    pub(crate) overdraft: u64,
}

/// A transfer to be; the other side is a head.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) key: String,
    pub(crate) date: Date,
    /// Microseconds since 1970, never backwards within an account.
    pub(crate) time_us: u64,
    pub(crate) credit: bool,
    pub(crate) head: u32,
    pub(crate) code: u16,
    pub(crate) amount: u64,
    pub(crate) reference: String,
}

/// One CSV file in memory, by column name.
struct Table {
    path: PathBuf,
    columns: HashMap<String, usize>,
    rows: Vec<(u64, csv::StringRecord)>,
}

/// One row, for reading and for complaining.
#[derive(Clone, Copy)]
struct Row<'a> {
    table: &'a Table,
    line: u64,
    record: &'a csv::StringRecord,
}

impl Table {
    fn read(folder: &Path, source: &Source) -> anyhow::Result<Self> {
        let path = folder.join(&source.file);
        let separator = u8::try_from(source.separator)
            .map_err(|_| anyhow!("the separator {:?} of {} is not ASCII", source.separator, source.file))?;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator)
            .from_path(&path)
            .with_context(|| format!("could not open {}", path.display()))?;
        let headers = reader.headers().with_context(|| format!("could not read {}", path.display()))?;
        let columns = headers.iter().enumerate().map(|(at, name)| (name.trim().to_owned(), at)).collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.with_context(|| format!("could not read {}", path.display()))?;
            rows.push((record.position().map_or(0, csv::Position::line), record));
        }
        Ok(Self { path, columns, rows })
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|(line, record)| Row { table: self, line: *line, record })
    }
}

impl<'a> Row<'a> {
    fn place(&self) -> String {
        format!("{} line {}", self.table.path.display(), self.line)
    }

    fn get(&self, column: &str) -> anyhow::Result<&'a str> {
        let at = self
            .table
            .columns
            .get(column)
            .with_context(|| format!("{} has no column {column:?}", self.table.path.display()))?;
        Ok(self.record.get(*at).unwrap_or_default().trim())
    }

    /// `text` with each `{column}` replaced by its value, white space collapsed.
    fn fill(&self, text: &str) -> anyhow::Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (column, tail) =
                after.split_once('}').with_context(|| format!("the template {text:?} has an open brace"))?;
            filled.push_str(before);
            filled.push_str(self.get(column)?);
            rest = tail;
        }
        filled.push_str(rest);
        Ok(filled.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    fn date(&self, column: &DateColumn) -> anyhow::Result<Date> {
        let text = self.get(&column.column)?;
        parse_date(text, &column.format).with_context(|| {
            format!(
                "{}: {} {text:?} is not a date of the form {}",
                self.place(),
                column.column,
                column.format
            )
        })
    }

    fn money(&self, column: &str, currency: Currency) -> anyhow::Result<i128> {
        let text = self.get(column)?;
        Ok(skerry_money::Balance::parse(text, currency)
            .map_err(|error| anyhow!("{}: {column} {text:?}: {error}", self.place()))?
            .minor())
    }

    fn fits(&self, when: &BTreeMap<String, OneOrMany>) -> anyhow::Result<bool> {
        for (column, values) in when {
            if !values.fits(self.get(column)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Reads a date by a small subset of strptime: `%Y`, `%y` (70–99 is 19xx), `%m`, `%d`, literals.
fn parse_date(text: &str, format: &str) -> Option<Date> {
    let (mut year, mut month, mut day) = (None, None, None);
    let mut rest = text;
    let mut pattern = format.chars();
    while let Some(c) = pattern.next() {
        if c != '%' {
            rest = rest.strip_prefix(c)?;
            continue;
        }
        let width = |wanted: usize| rest.get(..wanted)?.parse::<u16>().ok();
        match pattern.next()? {
            'Y' => (year, rest) = (Some(i32::from(width(4)?)), rest.get(4..)?),
            'y' => {
                let two = i32::from(width(2)?);
                (year, rest) = (Some(if two >= 70 { 1900 + two } else { 2000 + two }), rest.get(2..)?);
            }
            'm' => (month, rest) = (u8::try_from(width(2)?).ok(), rest.get(2..)?),
            'd' => (day, rest) = (u8::try_from(width(2)?).ok(), rest.get(2..)?),
            _ => return None,
        }
    }
    if !rest.is_empty() {
        return None;
    }
    Date::from_civil(year?, month?, day?)
}

impl Plan {
    /// Reads the files of `folder` as `mapping` says.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit: file, line, column, value.
    pub(crate) fn read(mapping: &Mapping, folder: &Path) -> anyhow::Result<Self> {
        let currency = Currency::from_alpha(&mapping.currency)
            .with_context(|| format!("the mapping's currency {:?} is not in ISO 4217", mapping.currency))?;
        let (mut customers, customer_at) = read_customers(mapping, folder)?;
        let owner_of = read_owners(mapping, folder, &customer_at)?;
        let (mut accounts, account_at) = read_accounts(mapping, folder, &owner_of)?;
        for account in &accounts {
            if let Some(owner) = customers.get_mut(account.owner) {
                owner.opened =
                    Some(owner.opened.map_or(account.opened, |earlier| earlier.min(account.opened)));
            }
        }
        let mut plan = Self {
            currency,
            customers,
            transfers: accounts.iter().map(|_| Vec::new()).collect(),
            accounts: Vec::new(),
            empty_rows: 0,
            expected: BTreeMap::new(),
        };
        plan.read_transactions(mapping, folder, &account_at)?;
        if mapping.accounts.overdraft == Overdraft::AsUsed {
            for (account, transfers) in accounts.iter_mut().zip(&plan.transfers) {
                account.overdraft = deepest(transfers);
            }
        }
        plan.accounts = accounts;
        Ok(plan)
    }

    fn read_transactions(
        &mut self,
        mapping: &Mapping,
        folder: &Path,
        account_at: &HashMap<String, usize>,
    ) -> anyhow::Result<()> {
        let columns = &mapping.transactions;
        let table = Table::read(folder, &columns.source)?;
        let offset_us = offset_seconds(&mapping.time_zone)? * 1_000_000;
        let mut keys = HashMap::new();
        for row in table.rows() {
            let id = row.get(&columns.id)?;
            if let Some(earlier) = keys.insert(id, row.line) {
                bail!("{}: {} {id:?} stands at line {earlier} already", row.place(), columns.id);
            }
            let account = row.get(&columns.account)?;
            let account = *account_at
                .get(account)
                .with_context(|| format!("{}: there is no account {account:?}", row.place()))?;
            let date = row.date(&columns.date)?;
            if let Some(column) = &columns.balance {
                self.expected.entry((account, date)).or_default().push(row.money(column, self.currency)?);
            }
            let amount = row.money(&columns.amount, self.currency)?;
            if amount == 0 {
                self.empty_rows += 1;
                continue;
            }
            let amount = u64::try_from(amount)
                .map_err(|_| anyhow!("{}: {} must be positive or zero", row.place(), columns.amount))?;
            let (head, code) = other_side(&row, &columns.rules)?;
            self.transfers[account].push(Transfer {
                key: id.to_owned(),
                date,
                time_us: midnight_us(date, offset_us)
                    .with_context(|| format!("{}: before 1970", row.place()))?,
                credit: side(&row, mapping)?,
                head,
                code,
                amount,
                reference: columns
                    .reference
                    .as_ref()
                    .map(|text| row.fill(text))
                    .transpose()?
                    .unwrap_or_default(),
            });
        }
        for transfers in &mut self.transfers {
            transfers.sort_by_key(|transfer| transfer.date);
            let mut last = 0;
            for transfer in transfers {
                // The old core tells days, not instants: within a day the file's order becomes time.
                transfer.time_us = transfer.time_us.max(last + 1);
                last = transfer.time_us;
            }
        }
        Ok(())
    }
}

fn read_customers(
    mapping: &Mapping,
    folder: &Path,
) -> anyhow::Result<(Vec<Customer>, HashMap<String, usize>)> {
    let columns = &mapping.customers;
    let table = Table::read(folder, &columns.source)?;
    let mut customers = Vec::new();
    let mut at = HashMap::new();
    for row in table.rows() {
        let id = row.get(&columns.id)?.to_owned();
        ensure!(!id.is_empty(), "{}: {} is empty", row.place(), columns.id);
        if at.insert(id.clone(), customers.len()).is_some() {
            bail!("{}: {} {id:?} stands there twice", row.place(), columns.id);
        }
        customers.push(Customer {
            name: row.fill(&columns.name)?,
            document_kind: columns.document.kind.clone(),
            document_number: row.fill(&columns.document.number)?,
            opened: None,
            key: id,
        });
    }
    Ok((customers, at))
}

fn read_owners(
    mapping: &Mapping,
    folder: &Path,
    customer_at: &HashMap<String, usize>,
) -> anyhow::Result<HashMap<String, usize>> {
    let columns = &mapping.owners;
    let table = Table::read(folder, &columns.source)?;
    let mut owner_of = HashMap::new();
    for row in table.rows() {
        if !row.fits(&columns.only)? {
            continue;
        }
        let customer = row.get(&columns.customer)?;
        let customer = *customer_at
            .get(customer)
            .with_context(|| format!("{}: there is no customer {customer:?}", row.place()))?;
        let account = row.get(&columns.account)?;
        if owner_of.insert(account.to_owned(), customer).is_some() {
            bail!("{}: account {account:?} has two owners; narrow owners.where", row.place());
        }
    }
    Ok(owner_of)
}

fn read_accounts(
    mapping: &Mapping,
    folder: &Path,
    owner_of: &HashMap<String, usize>,
) -> anyhow::Result<(Vec<Account>, HashMap<String, usize>)> {
    let columns = &mapping.accounts;
    let table = Table::read(folder, &columns.source)?;
    let mut accounts = Vec::new();
    let mut at = HashMap::new();
    for row in table.rows() {
        let id = row.get(&columns.id)?.to_owned();
        let owner =
            *owner_of.get(&id).with_context(|| format!("{}: account {id:?} has no owner", row.place()))?;
        if at.insert(id.clone(), accounts.len()).is_some() {
            bail!("{}: account {id:?} stands there twice", row.place());
        }
        accounts.push(Account { key: id, owner, opened: row.date(&columns.opened)?, overdraft: 0 });
    }
    Ok((accounts, at))
}

/// Whether the row is a credit.
fn side(row: &Row<'_>, mapping: &Mapping) -> anyhow::Result<bool> {
    let side = &mapping.transactions.side;
    let value = row.get(&side.column)?;
    if side.credit.iter().any(|one| one == value) {
        return Ok(true);
    }
    ensure!(
        side.debit.iter().any(|one| one == value),
        "{}: {} {value:?} is neither in transactions.side.credit nor in transactions.side.debit",
        row.place(),
        side.column
    );
    Ok(false)
}

/// The head on the other side of the row, and the transfer's code, by the first rule that fits.
fn other_side(row: &Row<'_>, rules: &[Rule]) -> anyhow::Result<(u32, u16)> {
    for rule in rules {
        if !row.fits(&rule.when)? {
            continue;
        }
        if let Some(head) = rule.head {
            return Ok((head, rule.code));
        }
        let by = rule.head_by.as_ref().context("a rule has either head or head_by")?;
        let value = row.get(&by.column)?;
        let head = by.heads.get(value).with_context(|| {
            format!("{}: {} {value:?} is not in the rule's head_by.heads", row.place(), by.column)
        })?;
        return Ok((*head, rule.code));
    }
    bail!("{}: no rule of transactions.rules fits this row", row.place())
}

/// The most that `transfers`, in order, ever overdraw an account that began empty.
fn deepest(transfers: &[Transfer]) -> u64 {
    let mut balance = 0_i128;
    let mut lowest = 0_i128;
    for transfer in transfers {
        let amount = i128::from(transfer.amount);
        balance += if transfer.credit { amount } else { -amount };
        lowest = lowest.min(balance);
    }
    u64::try_from(-lowest).unwrap_or(u64::MAX)
}

/// The first microsecond of `date` where the clock is `offset_us` ahead of UTC.
fn midnight_us(date: Date, offset_us: i64) -> Option<u64> {
    u64::try_from(i64::from(date.days()) * 86_400_000_000 - offset_us).ok()
}

fn offset_seconds(text: &str) -> anyhow::Result<i64> {
    let wrong = || anyhow!("the mapping's time_zone must look like \"+01:00\", not {text:?}");
    let (sign, rest) = match text.split_at_checked(1).ok_or_else(wrong)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return Err(wrong()),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(wrong)?;
    let hours: i64 = hours.parse().map_err(|_| wrong())?;
    let minutes: i64 = minutes.parse().map_err(|_| wrong())?;
    ensure!((0..=14).contains(&hours) && (0..60).contains(&minutes), wrong());
    Ok(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: i32, month: u8, day: u8) -> Date {
        Date::from_civil(year, month, day).unwrap()
    }

    #[test]
    fn dates_of_several_shapes_are_read() {
        assert_eq!(parse_date("28/07/1996", "%d/%m/%Y"), Some(date(1996, 7, 28)));
        assert_eq!(parse_date("930705", "%y%m%d"), Some(date(1993, 7, 5)));
        assert_eq!(parse_date("1996-02-30", "%Y-%m-%d"), None);
        assert_eq!(parse_date("1996-02-01x", "%Y-%m-%d"), None);
    }

    #[test]
    fn the_deepest_overdraft_is_that_of_the_history() {
        let moved = |credit, amount| Transfer {
            key: String::new(),
            date: date(1996, 1, 1),
            time_us: 0,
            credit,
            head: 1001,
            code: 0,
            amount,
            reference: String::new(),
        };
        assert_eq!(deepest(&[moved(true, 10), moved(false, 35), moved(true, 100)]), 25);
        assert_eq!(deepest(&[moved(true, 10)]), 0);
    }

    #[test]
    fn midnight_lies_before_that_of_utc_in_the_east() {
        assert_eq!(
            midnight_us(date(1970, 1, 2), offset_seconds("+01:00").unwrap() * 1_000_000),
            Some(82_800_000_000)
        );
        assert!(offset_seconds("1").is_err());
    }
}
