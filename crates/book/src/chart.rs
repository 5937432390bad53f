//! The chart of accounts and the products: data that a bank adopts, with a default to begin with.
//!
//! Every customer account belongs to a product, and every product posts to a general-ledger head. The chart is
//! replaced as a whole by [`ChartAdopted`](crate::event::ChartAdopted); heads are added or renamed, never removed,
//! and never change class, because closed days were reported under them.

use alloc::string::String;
use alloc::vec::Vec;

use crate::rejection::{ChartFault, Rejection};
use crate::wire::{Reader, Short, put_count, put_short_text};

/// What a head counts.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What the bank has; grows by debits.
    Asset,
    /// What the bank owes; grows by credits.
    Liability,
    /// What belongs to its owners; grows by credits.
    Equity,
    /// What it earned; grows by credits.
    Income,
    /// What it spent; grows by debits.
    Expense,
    /// What it promised or keeps for others; both sides lie off the balance sheet.
    OffBalance,
}

impl Class {
    const ALL: [Self; 6] =
        [Self::Asset, Self::Liability, Self::Equity, Self::Income, Self::Expense, Self::OffBalance];

    const fn number(self) -> u8 {
        match self {
            Self::Asset => 1,
            Self::Liability => 2,
            Self::Equity => 3,
            Self::Income => 4,
            Self::Expense => 5,
            Self::OffBalance => 6,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asset => "asset",
            Self::Liability => "liability",
            Self::Equity => "equity",
            Self::Income => "income",
            Self::Expense => "expense",
            Self::OffBalance => "off_balance",
        }
    }

    /// The class with this name on the wire.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Whether debits make it grow.
    #[must_use]
    pub const fn grows_by_debits(self) -> bool {
        matches!(self, Self::Asset | Self::Expense)
    }
}

/// A general-ledger head.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// 1…16 777 215; four digits in the default chart.
    pub code: u32,
    /// What it counts.
    pub class: Class,
    /// In English.
    pub name: String,
    /// In Chinese (zh-CN), as customers see it.
    pub name_zh: String,
}

/// A kind of customer account.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Its number in records.
    pub number: u16,
    /// Its name in requests: `current`.
    pub key: String,
    /// The head that its accounts post to. If that grows by debits (a loan), credits may not exceed debits; else
    /// debits may not exceed credits.
    pub head: u32,
    /// In English.
    pub name: String,
    /// In Chinese (zh-CN).
    pub name_zh: String,
}

/// Heads and products, each sorted by number.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chart {
    /// Grows with each adoption.
    pub version: u32,
    /// The heads, by code.
    pub heads: Vec<Head>,
    /// The products, by number.
    pub products: Vec<Product>,
}

/// The most heads of a chart.
pub const HEADS_MAX: usize = 4_096;
/// The most products of a chart.
pub const PRODUCTS_MAX: usize = 1_024;
/// The longest name, in bytes of UTF-8.
pub const NAME_MAX: usize = 120;
const CODE_MAX: u32 = (1 << 24) - 1;

impl Chart {
    /// The head `code`.
    #[must_use]
    pub fn head(&self, code: u32) -> Option<&Head> {
        self.heads.get(self.heads.binary_search_by_key(&code, |head| head.code).ok()?)
    }

    /// The product `number`.
    #[must_use]
    pub fn product(&self, number: u16) -> Option<&Product> {
        self.products.get(self.products.binary_search_by_key(&number, |product| product.number).ok()?)
    }

    /// The product called `key` in requests.
    #[must_use]
    pub fn product_by_key(&self, key: &str) -> Option<&Product> {
        self.products.iter().find(|product| product.key == key)
    }

    /// Whether accounts of `product` count what the customer owes the bank.
    #[must_use]
    pub fn is_debit_product(&self, product: &Product) -> bool {
        self.head(product.head).is_some_and(|head| head.class.grows_by_debits())
    }

    /// Checks that this chart stands by itself: sorted, bounded, every product on a head.
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        if let Some(fault) = self.fault() {
            return Err(Rejection::ChartInvalid { fault });
        }
        match self.products.iter().find(|product| self.head(product.head).is_none()) {
            Some(product) => Err(Rejection::ProductHeadMissing { head: product.head }),
            None => Ok(()),
        }
    }

    fn fault(&self) -> Option<ChartFault> {
        let is_head =
            |code: u32| (1..=CODE_MAX).contains(&code) && crate::channel::channel_head(code).is_none();
        let is_product = |product: &Product| product.number != 0 && is_key(&product.key);
        let heads = self.heads.iter().flat_map(|head| [&head.name, &head.name_zh]);
        let products = self.products.iter().flat_map(|product| [&product.name, &product.name_zh]);
        if self.heads.is_empty() {
            Some(ChartFault::Empty)
        } else if self.heads.len() > HEADS_MAX || self.products.len() > PRODUCTS_MAX {
            Some(ChartFault::TooLong)
        } else if !self.heads.is_sorted_by(|left, right| left.code < right.code) {
            Some(ChartFault::HeadsUnsorted)
        } else if !self.products.is_sorted_by(|left, right| left.number < right.number) {
            Some(ChartFault::ProductsUnsorted)
        } else if let Some(head) = self.heads.iter().find(|head| !is_head(head.code)) {
            Some(ChartFault::HeadCode(head.code))
        } else if let Some(product) = self.products.iter().find(|product| !is_product(product)) {
            Some(ChartFault::ProductKey(product.number))
        } else if self.has_doubled_key() {
            Some(ChartFault::KeyTwice)
        } else if !heads.chain(products).all(|name| !name.is_empty() && name.len() <= NAME_MAX) {
            Some(ChartFault::Unnamed)
        } else {
            None
        }
    }

    fn has_doubled_key(&self) -> bool {
        let mut keys: Vec<&str> = self.products.iter().map(|product| product.key.as_str()).collect();
        keys.sort_unstable();
        !keys.is_sorted_by(|left, right| left < right)
    }

    /// Checks that `next` may replace this chart.
    pub(crate) fn check_successor(&self, next: &Self) -> Result<(), Rejection> {
        next.check()?;
        if next.version <= self.version {
            return Err(Rejection::ChartNotNewer { version: self.version });
        }
        for head in &self.heads {
            match next.head(head.code) {
                Some(later) if later.class == head.class => (),
                _ => return Err(Rejection::HeadRemoved { head: head.code }),
            }
        }
        for product in &self.products {
            match next.product(product.number) {
                Some(later) if later.head == product.head => (),
                _ => return Err(Rejection::ProductRemoved { product: product.number }),
            }
        }
        Ok(())
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        put_count(out, self.heads.len());
        for head in &self.heads {
            out.extend_from_slice(&head.code.to_le_bytes());
            out.push(head.class.number());
            put_short_text(out, &head.name);
            put_short_text(out, &head.name_zh);
        }
        put_count(out, self.products.len());
        for product in &self.products {
            out.extend_from_slice(&product.number.to_le_bytes());
            out.extend_from_slice(&product.head.to_le_bytes());
            put_short_text(out, &product.key);
            put_short_text(out, &product.name);
            put_short_text(out, &product.name_zh);
        }
    }

    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, Short> {
        let version = reader.u32()?;
        let heads = (0..reader.count(HEADS_MAX)?).map(|_| take_head(reader)).collect::<Result<_, _>>()?;
        let products =
            (0..reader.count(PRODUCTS_MAX)?).map(|_| take_product(reader)).collect::<Result<_, _>>()?;
        Ok(Self { version, heads, products })
    }

    /// The chart that a bank begins with: see [`HEADS`] and [`PRODUCTS`].
    #[must_use]
    pub fn standard() -> Self {
        let heads = HEADS.iter().map(|&(code, class, name, name_zh)| Head {
            code,
            class,
            name: name.into(),
            name_zh: name_zh.into(),
        });
        let products = PRODUCTS.iter().map(|&(number, key, head, name, name_zh)| Product {
            number,
            key: key.into(),
            head,
            name: name.into(),
            name_zh: name_zh.into(),
        });
        Self { version: 1, heads: heads.collect(), products: products.collect() }
    }
}

fn is_key(key: &str) -> bool {
    (1..=32).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn take_head(reader: &mut Reader<'_>) -> Result<Head, Short> {
    let code = reader.u32()?;
    let number = reader.u8()?;
    let class = Class::ALL.into_iter().find(|class| class.number() == number).ok_or(Short)?;
    Ok(Head { code, class, name: reader.short_text()?, name_zh: reader.short_text()? })
}

fn take_product(reader: &mut Reader<'_>) -> Result<Product, Short> {
    let number = reader.u16()?;
    let head = reader.u32()?;
    Ok(Product {
        number,
        head,
        key: reader.short_text()?,
        name: reader.short_text()?,
        name_zh: reader.short_text()?,
    })
}

/// The default chart: 1 assets, 2 liabilities, 3 equity, 4 income, 5 expense, 9 off balance.
pub const HEADS: &[(u32, Class, &str, &str)] = &[
    (1001, Class::Asset, "Cash", "库存现金"),
    (1002, Class::Asset, "Cash in machines", "自助设备现金"),
    (1101, Class::Asset, "Balances with the central bank", "存放中央银行款项"),
    (1102, Class::Asset, "Balances with other banks", "存放同业款项"),
    (1103, Class::Asset, "Clearing with other banks", "跨行清算往来"),
    (1104, Class::Asset, "Card and payment network clearing", "银行卡及网络支付清算"),
    (1301, Class::Asset, "Loans to customers", "客户贷款"),
    (1302, Class::Asset, "Overdue loans", "逾期贷款"),
    (1309, Class::Asset, "Allowance for loan losses", "贷款损失准备"),
    (1401, Class::Asset, "Interest receivable", "应收利息"),
    (1501, Class::Asset, "Premises and equipment", "固定资产"),
    (1901, Class::Asset, "Other receivables", "其他应收款"),
    (2001, Class::Liability, "Current deposits", "活期存款"),
    (2002, Class::Liability, "Savings deposits", "储蓄存款"),
    (2003, Class::Liability, "Term deposits", "定期存款"),
    (2004, Class::Liability, "Margin deposits", "保证金存款"),
    (2101, Class::Liability, "Deposits of other banks", "同业存放款项"),
    (2102, Class::Liability, "Borrowings", "借入款项"),
    (2201, Class::Liability, "Interest payable", "应付利息"),
    (2301, Class::Liability, "Taxes payable", "应交税费"),
    (2401, Class::Liability, "Collected for third parties", "代收代付款项"),
    (2402, Class::Liability, "Household payments collected", "代收生活缴费"),
    (2403, Class::Liability, "Insurance premiums collected", "代收保险费"),
    (2901, Class::Liability, "Other payables", "其他应付款"),
    (2902, Class::Liability, "Returns unapplied", "待处理退汇"),
    (2903, Class::Liability, "Receipts to be identified", "待查收款"),
    (3001, Class::Equity, "Paid-in capital", "实收资本"),
    (3101, Class::Equity, "Retained earnings", "未分配利润"),
    (3901, Class::Equity, "Opening balances", "期初余额"),
    (4001, Class::Income, "Interest income", "利息收入"),
    (4002, Class::Income, "Penalty interest", "罚息收入"),
    (4101, Class::Income, "Fees and commissions", "手续费及佣金收入"),
    (4901, Class::Income, "Other income", "其他收入"),
    (5001, Class::Expense, "Interest expense", "利息支出"),
    (5101, Class::Expense, "Fees and commissions paid", "手续费及佣金支出"),
    (5201, Class::Expense, "Operating expense", "业务及管理费"),
    (5301, Class::Expense, "Loan losses", "贷款减值损失"),
    (5901, Class::Expense, "Other expense", "其他支出"),
    (9001, Class::OffBalance, "Loan commitments", "贷款承诺"),
    (9002, Class::OffBalance, "Guarantees given", "开出保函"),
    (9003, Class::OffBalance, "Collateral held", "代保管抵质押品"),
    (9901, Class::OffBalance, "Off-balance counter entries", "表外对应科目"),
];

/// The default products.
pub const PRODUCTS: &[(u16, &str, u32, &str, &str)] = &[
    (1, "current", 2001, "Current account", "活期账户"),
    (2, "savings", 2002, "Savings account", "储蓄账户"),
    (3, "term", 2003, "Term deposit", "定期存款账户"),
    (4, "loan", 1301, "Loan account", "贷款账户"),
    (5, "margin", 2004, "Margin account", "保证金账户"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_chart_stands() {
        let chart = Chart::standard();
        assert_eq!(chart.check(), Ok(()));
        assert_eq!(chart.head(1001).unwrap().class, Class::Asset);
        assert_eq!(chart.product_by_key("current").unwrap().head, 2001);
        assert!(chart.is_debit_product(chart.product_by_key("loan").unwrap()));
    }

    #[test]
    fn a_chart_reads_back_as_written() {
        let chart = Chart::standard();
        let mut bytes = Vec::new();
        chart.put(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Chart::take(&mut reader), Ok(chart));
        assert!(reader.is_empty());
    }

    #[test]
    fn a_successor_keeps_every_head_and_product() {
        let chart = Chart::standard();
        let mut next = Chart { version: 2, ..chart.clone() };
        assert_eq!(chart.check_successor(&chart), Err(Rejection::ChartNotNewer { version: 1 }));
        assert_eq!(chart.check_successor(&next), Ok(()));
        next.products[0].head = 2002;
        assert_eq!(chart.check_successor(&next), Err(Rejection::ProductRemoved { product: 1 }));
        next.products.remove(0);
        next.heads.retain(|head| head.code != 1001);
        assert_eq!(chart.check_successor(&next), Err(Rejection::HeadRemoved { head: 1001 }));
        next.heads.reverse();
        assert_eq!(next.check(), Err(Rejection::ChartInvalid { fault: ChartFault::HeadsUnsorted }));
    }
}
