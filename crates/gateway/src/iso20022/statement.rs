//! `camt.053.001.08` and `camt.052.001.08`: what was booked on an account, line by line, with balances.

use skerry_money::{Currency, Date};

use super::xml::Xml;
use super::{message, short_id};
use crate::text;
use crate::wire::scalars::{Day, decimal};

/// A page of a statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The account.
    pub account: String,
    /// Its currency.
    pub currency: Currency,
    /// The first business day.
    pub from: Date,
    /// The last.
    pub to: Date,
    /// Whether the last is closed, so that nothing can be added.
    pub closed: bool,
    /// Which page, from 1.
    pub page: u32,
    /// Whether it is the last.
    pub is_last: bool,
    /// Credits less debits before the first line, minor units.
    pub opening: i128,
    /// The same after the last line.
    pub closing: i128,
    /// Oldest first.
    pub lines: Vec<Line>,
    /// When it was made, microseconds since 1970.
    pub created_us: u64,
}

/// What moved the balance.
#[derive(Debug, Clone)]
pub struct Line {
    /// Position in the branch's journal.
    pub position: u64,
    /// The transfer's id.
    pub id: u128,
    /// Whether the account was credited.
    pub is_credit: bool,
    /// Minor units.
    pub amount: u64,
    /// Whether it undoes an earlier one.
    pub is_reversal: bool,
    /// The accounting date.
    pub booked: Date,
    /// When it was booked, microseconds since 1970.
    pub booked_us: u64,
    /// The value date.
    pub value: Date,
    /// The client's classification.
    pub code: u16,
    /// The other account.
    pub counterparty: String,
    /// The client's text.
    pub reference: Option<String>,
    /// The note, where the caller may read it.
    pub note: Option<String>,
}

/// The longest id (`Max35Text`), in characters.
const ID_MAX: usize = 35;
/// The longest line of unstructured text (`Max140Text`), in characters.
const TEXT_MAX: usize = 140;

impl Statement {
    /// The document.
    #[must_use]
    pub fn write(&self) -> String {
        let (name, root, part) = match self.closed {
            true => (message::STATEMENT, "BkToCstmrStmt", "Stmt"),
            false => (message::REPORT, "BkToCstmrAcctRpt", "Rpt"),
        };
        let id = format!("{}-{}", self.account.replace(':', "-"), Day(self.to).to_string().replace('-', ""));
        let mut xml = Xml::document(name);
        xml.begin(root);
        xml.within("GrpHdr", |xml| {
            xml.put_short("MsgId", &format!("{id}-{}", self.page), ID_MAX);
            xml.put("CreDtTm", text::time(self.created_us));
        });
        xml.begin(part);
        xml.put_short("Id", &id, ID_MAX);
        xml.within(if self.closed { "StmtPgntn" } else { "RptPgntn" }, |xml| {
            xml.put("PgNb", self.page);
            xml.put("LastPgInd", self.is_last);
        });
        xml.put("CreDtTm", text::time(self.created_us));
        self.account(&mut xml);
        self.balances(&mut xml);
        for line in &self.lines {
            xml.within("Ntry", |xml| self.entry(xml, line));
        }
        xml.finish()
    }

    fn account(&self, xml: &mut Xml) {
        xml.within("Acct", |xml| {
            other(xml, &self.account);
            xml.put("Ccy", self.currency.alpha());
        });
    }

    /// Opening and closing booked; in the middle of pages, and of a day that is still open, interim booked.
    fn balances(&self, xml: &mut Xml) {
        let opening = if self.page == 1 { "OPBD" } else { "ITBD" };
        let closing = if self.is_last && self.closed { "CLBD" } else { "ITBD" };
        let last = self.lines.last().filter(|_| !self.is_last).map_or(self.to, |line| line.booked);
        let first = self.lines.first().filter(|_| self.page > 1).map_or(self.from, |line| line.booked);
        for (code, balance, date) in [(opening, self.opening, first), (closing, self.closing, last)] {
            xml.within("Bal", |xml| {
                xml.within("Tp", |xml| xml.within("CdOrPrtry", |xml| xml.put("Cd", code)));
                self.sided(xml, balance.unsigned_abs(), balance >= 0);
                xml.within("Dt", |xml| xml.put("Dt", Day(date)));
            });
        }
    }

    fn sided(&self, xml: &mut Xml, minor: u128, is_credit: bool) {
        let mut amount = String::new();
        let minor = i128::try_from(minor).unwrap_or(i128::MAX);
        decimal(&mut amount, minor, self.currency).expect("a string takes all that is written");
        xml.amount("Amt", &amount, self.currency.alpha());
        xml.put("CdtDbtInd", if is_credit { "CRDT" } else { "DBIT" });
    }

    fn entry(&self, xml: &mut Xml, line: &Line) {
        xml.put("NtryRef", line.position);
        self.sided(xml, u128::from(line.amount), line.is_credit);
        if line.is_reversal {
            xml.put("RvslInd", true);
        }
        xml.within("Sts", |xml| xml.put("Cd", "BOOK"));
        xml.within("BookgDt", |xml| xml.put("Dt", Day(line.booked)));
        xml.within("ValDt", |xml| xml.put("Dt", Day(line.value)));
        xml.put("AcctSvcrRef", short_id(line.id));
        xml.within("BkTxCd", |xml| xml.within("Prtry", |xml| xml.put("Cd", line.code)));
        xml.within("NtryDtls", |xml| xml.within("TxDtls", |xml| self.details(xml, line)));
    }

    fn details(&self, xml: &mut Xml, line: &Line) {
        let reference = line.reference.as_deref();
        let short = reference.filter(|text| text.chars().count() <= ID_MAX);
        let long = reference.filter(|_| short.is_none());
        xml.within("Refs", |xml| {
            xml.put("AcctSvcrRef", short_id(line.id));
            xml.put("EndToEndId", short.unwrap_or("NOTPROVIDED"));
        });
        self.sided(xml, u128::from(line.amount), line.is_credit);
        xml.within("RltdPties", |xml| {
            xml.within(if line.is_credit { "DbtrAcct" } else { "CdtrAcct" }, |xml| {
                other(xml, &line.counterparty)
            });
        });
        if long.is_some() || line.note.is_some() {
            xml.within("RmtInf", |xml| {
                for text in long.into_iter().chain(line.note.as_deref()) {
                    xml.put_short("Ustrd", text, TEXT_MAX);
                }
            });
        }
        xml.within("RltdDts", |xml| xml.put("AccptncDtTm", text::time(line.booked_us)));
    }
}

/// An account that has no IBAN.
fn other(xml: &mut Xml, number: &str) {
    xml.within("Id", |xml| xml.within("Othr", |xml| xml.put_short("Id", number, 34)));
}
