//! `pain.001.001.09`: a customer starts credit transfers.
//!
//! Read strictly where money depends on it, and passed over where nothing does: elements that this bank has no use for (agents,
//! addresses, purposes) are not looked at. What is wrong with the message as a whole is a [`Problem`] and nothing is tried;
//! what is wrong with one transfer is told for that transfer.

use skerry_money::{Amount, Currency, Date};

use super::message;
use super::tree::{self, Element};
use crate::catalogue;
use crate::detail::{Detail, said};
use crate::problem::Problem;
use crate::wire::scalars::{FromText, MoneyIn, Party};
use crate::wire::transfers::TransferIn;

/// The longest id (`Max35Text`), in characters.
const ID_MAX: usize = 35;
/// Stands for no reference of the payer's own.
const NOT_PROVIDED: &str = "NOTPROVIDED";

/// A message.
#[derive(Debug)]
pub struct Initiation {
    /// `GrpHdr/MsgId`.
    pub message: String,
    /// Debits of one account each.
    pub payments: Vec<Payment>,
}

/// `PmtInf`: transfers from one account on one day.
#[derive(Debug)]
pub struct Payment {
    /// `PmtInfId`.
    pub id: String,
    /// `ReqdExctnDt`.
    pub on: Date,
    /// Each with what is wrong with it.
    pub transfers: Vec<Wanted>,
}

/// `CdtTrfTxInf`.
#[derive(Debug)]
pub struct Wanted {
    /// `PmtId/InstrId`.
    pub instruction: Option<String>,
    /// `PmtId/EndToEndId`.
    pub end_to_end: String,
    /// As the bank is asked; without an id.
    pub transfer: Result<TransferIn, Problem>,
}

impl Initiation {
    /// How many transfers it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.payments.iter().map(|payment| payment.transfers.len()).sum()
    }
}

/// An element and the way to it.
#[derive(Clone)]
struct At<'a> {
    node: &'a Element,
    path: String,
}

impl<'a> At<'a> {
    fn children(&self, name: &'static str) -> impl Iterator<Item = Self> + use<'a> {
        let path = self.path.clone();
        let same = self.node.children.iter().filter(move |child| child.name == name);
        same.enumerate().map(move |(index, node)| {
            let index = if index == 0 { String::new() } else { format!("[{index}]") };
            Self { node, path: format!("{path}.{name}{index}") }
        })
    }

    /// The only one of its name, if there is one.
    fn maybe(&self, name: &'static str) -> Result<Option<Self>, Problem> {
        let mut found = self.children(name);
        let first = found.next();
        match found.next() {
            Some(second) => Err(second.wrong(said!("stands there twice", "出现了两次"))),
            None => Ok(first),
        }
    }

    fn need(&self, name: &'static str) -> Result<Self, Problem> {
        self.maybe(name)?.ok_or_else(|| self.lacks(name))
    }

    /// All of its name, of which there is at least one.
    fn several(&self, name: &'static str) -> Result<Vec<Self>, Problem> {
        let found: Vec<Self> = self.children(name).collect();
        if found.is_empty() { Err(self.lacks(name)) } else { Ok(found) }
    }

    fn lacks(&self, name: &'static str) -> Problem {
        Problem::numbered(catalogue::MISSING_FIELD)
            .field(format!("{}.{name}", self.path))
            .detail(said!("missing element {name}", "缺少元素 {name}"))
    }

    fn wrong(&self, detail: impl Into<Detail>) -> Problem {
        Problem::numbered(catalogue::INVALID_FIELD).field(self.path.clone()).detail(detail)
    }

    fn text(&self) -> &'a str {
        self.node.text.trim()
    }

    fn id(&self) -> Result<String, Problem> {
        let text = self.text();
        match text.chars().count() {
            1..=ID_MAX => Ok(text.to_owned()),
            _ => Err(self.wrong(said!("1 to {ID_MAX} characters", "1 至 {ID_MAX} 个字符"))),
        }
    }
}

/// Reads a message of at most `most` transfers.
///
/// # Errors
///
/// `malformed_xml`, `invalid_field` or `missing_field` with the way to the element, `batch_too_large`.
pub fn read(bytes: &[u8], most: usize) -> Result<Initiation, Problem> {
    let malformed = |detail: Detail| Problem::numbered(catalogue::MALFORMED_XML).detail(detail);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| malformed(said!("not UTF-8: {error}", "不是 UTF-8：{error}")))?;
    let (root, found) =
        tree::parse(text.trim_start_matches('\u{feff}')).map_err(|error| malformed(error.into()))?;
    let namespace = message::namespace(message::INITIATION);
    if root.name != "Document" || found != namespace {
        let found: String = found.chars().take(80).collect();
        return Err(Problem::numbered(catalogue::INVALID_FIELD).field("Document").detail(said!(
            "send a Document in the namespace {namespace}; its namespace is {found}",
            "请发送命名空间为 {namespace} 的 Document；收到的命名空间为 {found}"
        )));
    }
    let root = At { node: &root, path: "Document".to_owned() }.need("CstmrCdtTrfInitn")?;
    let root = At { path: "CstmrCdtTrfInitn".to_owned(), ..root };
    let header = root.need("GrpHdr")?;
    let message = header.need("MsgId")?.id()?;
    let payments = root.several("PmtInf")?;
    let count: usize = payments.iter().map(|payment| payment.children("CdtTrfTxInf").count()).sum();
    if count > most {
        return Err(Problem::numbered(catalogue::BATCH_TOO_LARGE)
            .field("CstmrCdtTrfInitn.PmtInf")
            .detail(said!("at most {most} transfers", "最多 {most} 笔交易"))
            .figures(count.to_string(), most.to_string()));
    }
    controlled(&header, Some(header.need("NbOfTxs")?), &payments)?;
    let payments = payments.iter().map(payment).collect::<Result<Vec<_>, Problem>>()?;
    let initiation = Initiation { message, payments };
    if let Some(twice) = twice(&initiation) {
        return Err(root.wrong(said!("PmtInfId {twice} stands there twice", "PmtInfId {twice} 出现了两次")));
    }
    Ok(initiation)
}

/// A second debit under the id of an earlier one: a retry could not tell them apart.
fn twice(initiation: &Initiation) -> Option<&str> {
    let ids = initiation.payments.iter().map(|payment| payment.id.as_str());
    let mut ids: Vec<&str> = ids.collect();
    ids.sort_unstable();
    ids.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

fn payment(at: &At<'_>) -> Result<Payment, Problem> {
    let id = at.need("PmtInfId")?.id()?;
    let method = at.need("PmtMtd")?;
    if method.text() != "TRF" {
        return Err(method.wrong(said!("credit transfers only: TRF", "仅限贷记转账：TRF")));
    }
    let date = at.need("ReqdExctnDt")?;
    if let Some(time) = date.maybe("DtTm")? {
        return Err(
            time.wrong(said!("the bank executes by business day: say Dt", "本行按营业日执行：请用 Dt"))
        );
    }
    let date = date.need("Dt")?;
    let on = Date::parse(date.text())
        .map_err(|error| date.wrong(said!("not a date: {error}", "不是日期：{error}")))?;
    let debit = account(&at.need("DbtrAcct")?)?;
    let transfers = at.several("CdtTrfTxInf")?;
    controlled(at, at.maybe("NbOfTxs")?, std::slice::from_ref(at))?;
    let transfers = transfers.iter().map(|one| wanted(one, debit)).collect::<Result<Vec<_>, Problem>>()?;
    Ok(Payment { id, on, transfers })
}

/// What a transfer is named by is needed to tell anything about it; the rest is told for it alone.
fn wanted(at: &At<'_>, debit: Party) -> Result<Wanted, Problem> {
    let ids = at.need("PmtId")?;
    let instruction = ids.maybe("InstrId")?.map(|id| id.id()).transpose()?;
    let end_to_end = ids.need("EndToEndId")?.id()?;
    let transfer = transfer(at, debit, &end_to_end);
    Ok(Wanted { instruction, end_to_end, transfer })
}

fn transfer(at: &At<'_>, debit: Party, end_to_end: &str) -> Result<TransferIn, Problem> {
    let amount = amount(at)?;
    let credit = account(&at.need("CdtrAcct")?)?;
    let reference = (end_to_end != NOT_PROVIDED).then(|| end_to_end.to_owned());
    let lines = match at.maybe("RmtInf")? {
        Some(information) => {
            information.children("Ustrd").map(|line| line.text().to_owned()).collect::<Vec<_>>()
        }
        None => Vec::new(),
    };
    let note = lines.join(" ");
    Ok(TransferIn {
        debit: Some(debit),
        credit: Some(credit),
        amount: Some(MoneyIn(amount)),
        reference,
        note: (!note.is_empty()).then_some(note),
        ..TransferIn::default()
    })
}

fn amount(at: &At<'_>) -> Result<Amount, Problem> {
    let amount = at.need("Amt")?.need("InstdAmt")?;
    let code = amount.node.currency.as_deref().unwrap_or("");
    let currency = Currency::from_alpha(code)
        .ok_or_else(|| amount.wrong(said!("Ccy names no currency of ISO 4217", "Ccy 不是 ISO 4217 币种")))?;
    Amount::parse(amount.text(), currency)
        .map_err(|error| amount.wrong(said!("not an amount: {error}", "不是金额：{error}")))
}

/// `Id/Othr/Id` with an account number of this bank, or a head.
fn account(at: &At<'_>) -> Result<Party, Problem> {
    let id = at.need("Id")?;
    if let Some(iban) = id.maybe("IBAN")? {
        return Err(iban.wrong(said!(
            "accounts of this bank have no IBAN: say Othr/Id with the account number",
            "本行账户没有 IBAN：请用 Othr/Id 填写账号"
        )));
    }
    let number = id.need("Othr")?.need("Id")?;
    Party::from_text(number.text()).map_err(|detail| number.wrong(detail))
}

/// Number and sum that the sender counted. The sum is of the figures alone, whatever their currencies are.
fn controlled(at: &At<'_>, number: Option<At<'_>>, payments: &[At<'_>]) -> Result<(), Problem> {
    let all = || payments.iter().flat_map(|payment| payment.children("CdtTrfTxInf"));
    if let Some(number) = number {
        let found = all().count();
        if number.text().parse() != Ok(found) {
            let said: String = number.text().chars().take(20).collect();
            return Err(number
                .wrong(said!("{said} said, {found} found", "声明为 {said}，实际为 {found}"))
                .figures(found.to_string(), said));
        }
    }
    let Some(sum) = at.maybe("CtrlSum")? else { return Ok(()) };
    let mut found = 0_u128;
    for transfer in all() {
        let amount = transfer.need("Amt")?.need("InstdAmt")?;
        let part = scaled(amount.text()).and_then(|part| found.checked_add(part));
        found = part.ok_or_else(|| {
            amount.wrong(said!(
                "not a sum: digits, and at most five after a point",
                "不是合计数：须为数字，小数点后最多五位"
            ))
        })?;
    }
    let said = scaled(sum.text()).ok_or_else(|| {
        sum.wrong(said!(
            "not a sum: digits, and at most five after a point",
            "不是合计数：须为数字，小数点后最多五位"
        ))
    })?;
    if said == found {
        return Ok(());
    }
    let (said, found) = (unscaled(said), unscaled(found));
    Err(sum.wrong(said!("{said} said, {found} found", "声明为 {said}，实际为 {found}")).figures(found, said))
}

/// Digits after the point that a sum may have.
const SCALE: usize = 5;

/// A decimal in hundred-thousandths.
fn scaled(text: &str) -> Option<u128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > SCALE {
        return None;
    }
    format!("{whole}{part:0<SCALE$}").parse().ok()
}

fn unscaled(sum: u128) -> String {
    let text = format!("{sum:0>width$}", width = SCALE + 1);
    let (whole, part) = text.split_at(text.len() - SCALE);
    let part = part.trim_end_matches('0');
    if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
}

#[cfg(test)]
#[path = "initiation_tests.rs"]
mod tests;
