//! Scalars of the wire: ids, account texts, money, dates and times.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use skerry_ledger::{AccountKind, AccountRef};
use skerry_money::{AccountNumber, Amount, Balance, Currency, CustomerNumber, Date};
use utoipa::ToSchema;

use crate::text;

/// A scalar that travels as text.
pub(crate) trait FromText: Sized {
    /// What is expected, as a noun phrase.
    const EXPECTED: &'static str;
    /// Reads it; the error says what is wrong.
    fn from_text(text: &str) -> Result<Self, String>;
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromText> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(E::custom)
    }
}

macro_rules! text_scalar {
    ($name:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(TextVisitor::<Self>(PhantomData))
            }
        }
    };
}

macro_rules! displayed {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

/// A UUID; for new transfers of version 7 (RFC 9562).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, example = "0197a3c0-5b00-7000-8000-0123456789ab")]
pub struct Id(pub u128);

impl FromText for Id {
    const EXPECTED: &'static str = "a UUID as a string of 36 characters";

    fn from_text(text: &str) -> Result<Self, String> {
        text::parse_uuid(text).map(Self).ok_or_else(|| format!("not {}", Self::EXPECTED))
    }
}

text_scalar!(Id);
displayed!(Id);

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0;
        write!(
            formatter,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            (bits >> 80) & 0xffff,
            (bits >> 64) & 0xffff,
            (bits >> 48) & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}

/// An account: 16 digits, or a general-ledger head `gl:1001` (of the other side's branch) or `gl:1001@0002`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// A customer account.
    Account(AccountNumber),
    /// A head, with its branch if the text names one.
    Head(u32, Option<u16>),
}

impl FromText for Party {
    const EXPECTED: &'static str =
        "an account number of 16 digits, or a general-ledger head such as gl:1001 or gl:1001@0002";

    fn from_text(text: &str) -> Result<Self, String> {
        let Some(head) = text.strip_prefix("gl:") else {
            return AccountNumber::parse(text)
                .map(Self::Account)
                .map_err(|error| format!("not an account number: {error}"));
        };
        let wrong = || format!("not {}", Self::EXPECTED);
        let (code, branch) = head.split_once('@').map_or((head, None), |(code, branch)| (code, Some(branch)));
        let digits = |text: &str, most: usize| {
            let plain = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse::<u32>().ok()).flatten()
        };
        let code = digits(code, 8).filter(|code| (1..1 << 24).contains(code)).ok_or_else(wrong)?;
        let branch = match branch {
            Some(text) => {
                let number = digits(text, 4).filter(|number| *number >= 1).ok_or_else(wrong)?;
                Some(u16::try_from(number).map_err(|_| wrong())?)
            }
            None => None,
        };
        Ok(Self::Head(code, branch))
    }
}

text_scalar!(Party);

impl utoipa::PartialSchema for Party {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        AccountText::schema()
    }
}

impl ToSchema for Party {
    fn name() -> std::borrow::Cow<'static, str> {
        "Account".into()
    }
}

impl Party {
    /// The branch that the text itself names.
    #[must_use]
    pub fn branch(self) -> Option<u16> {
        match self {
            Self::Account(number) => Some(number.branch()),
            Self::Head(_, branch) => branch,
        }
    }

    /// The ledger's reference, for a head in `branch` and `currency`.
    #[must_use]
    pub fn reference(self, branch: u16, currency: Option<Currency>) -> Option<AccountRef> {
        match self {
            Self::Account(number) => Some(AccountRef::customer(number.branch(), number.serial())),
            Self::Head(code, own) => Some(AccountRef::head(own.unwrap_or(branch), code, currency?)),
        }
    }
}

/// An account on its way out: its number, or its head with its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(as = Account, value_type = String, example = "0001000000000104")]
pub struct AccountText(pub AccountRef);

displayed!(AccountText);

impl fmt::Display for AccountText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            Some(AccountKind::Customer(serial)) => match AccountNumber::try_new(self.0.branch(), serial) {
                Ok(number) => number.fmt(formatter),
                Err(_) => formatter.write_str(""),
            },
            Some(AccountKind::Head(code, _)) => write!(formatter, "gl:{code}@{:04}", self.0.branch()),
            None => formatter.write_str(""),
        }
    }
}

/// The number of a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, example = "c0001000000000104")]
pub struct Customer(pub CustomerNumber);

impl FromText for Customer {
    const EXPECTED: &'static str = "a customer number: c and 16 digits";

    fn from_text(text: &str) -> Result<Self, String> {
        CustomerNumber::parse(text).map(Self).map_err(|error| format!("not a customer number: {error}"))
    }
}

text_scalar!(Customer);
displayed!(Customer);

impl fmt::Display for Customer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A date, `2026-01-31`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = Date, example = "2026-01-31")]
pub struct Day(pub Date);

impl FromText for Day {
    const EXPECTED: &'static str = "a date such as 2026-01-31";

    fn from_text(text: &str) -> Result<Self, String> {
        Date::parse(text).map(Self).map_err(|error| format!("not a date: {error}"))
    }
}

text_scalar!(Day);
displayed!(Day);

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// An instant (RFC 3339), to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T08:30:00Z")]
pub struct Instant(pub u64);

impl FromText for Instant {
    const EXPECTED: &'static str = "an RFC 3339 time such as 2026-01-31T08:30:00Z";

    fn from_text(text: &str) -> Result<Self, String> {
        text::parse_time(text).map(Self).ok_or_else(|| format!("not {}", Self::EXPECTED))
    }
}

text_scalar!(Instant);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text::time(self.0))
    }
}

/// A currency by its ISO 4217 letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, example = "CNY")]
pub struct CurrencyText(pub Currency);

impl FromText for CurrencyText {
    const EXPECTED: &'static str = "an ISO 4217 currency code such as CNY";

    fn from_text(text: &str) -> Result<Self, String> {
        Currency::from_alpha(text).map(Self).ok_or_else(|| format!("not {}", Self::EXPECTED))
    }
}

text_scalar!(CurrencyText);
displayed!(CurrencyText);

impl fmt::Display for CurrencyText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.alpha())
    }
}

/// Money that is asked for, such as `{"amount": "12.34", "currency": "CNY"}`; never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoneyIn(pub Amount);

/// The same for limits and balances, which may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedMoneyIn(pub Balance);

/// Money: a decimal string with exactly the decimals of its currency or fewer, and the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(as = Money)]
pub struct MoneySchema {
    /// A decimal string. A JSON number is refused: it would lose digits.
    #[schema(value_type = String, example = "12.34")]
    amount: (),
    /// ISO 4217.
    #[schema(value_type = String, example = "CNY")]
    currency: (),
}

macro_rules! money_in {
    ($name:ident, $kind:ident, $allow_sign:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (text, currency) = deserializer.deserialize_map(MoneyVisitor)?;
                $kind::parse(text.as_str(), currency)
                    .map(Self)
                    .map_err(|error| de::Error::custom(format_args!("amount {:?}: {error}", text.as_str())))
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                MoneySchema::schema()
            }
        }

        impl ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                "Money".into()
            }
        }
    };
}

money_in!(MoneyIn, Amount, false);
money_in!(SignedMoneyIn, Balance, true);

/// The longest decimal text worth reading: sign, 39 digits, point, decimals.
const AMOUNT_TEXT_MAX: usize = 48;

/// A short text held in place: reading an amount must not allocate.
struct AmountText {
    bytes: [u8; AMOUNT_TEXT_MAX],
    length: usize,
}

impl AmountText {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or("")
    }
}

impl FromText for AmountText {
    const EXPECTED: &'static str =
        "the amount as a string such as \"12.34\" (a JSON number is refused: it would lose digits)";

    fn from_text(text: &str) -> Result<Self, String> {
        let mut bytes = [0; AMOUNT_TEXT_MAX];
        let Some(room) = bytes.get_mut(..text.len()) else {
            return Err(format!("amount of {} characters: too large", text.len()));
        };
        room.copy_from_slice(text.as_bytes());
        Ok(Self { bytes, length: text.len() })
    }
}

text_scalar!(AmountText);

struct MoneyVisitor;

impl<'de> Visitor<'de> for MoneyVisitor {
    type Value = (AmountText, Currency);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("money such as {\"amount\": \"12.34\", \"currency\": \"CNY\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut amount, mut currency) = (None, None);
        while let Some(name) = map.next_key::<MoneyField>()? {
            let doubled = match name {
                MoneyField::Amount => amount.replace(map.next_value::<AmountText>()?).is_some(),
                MoneyField::Currency => currency.replace(map.next_value::<CurrencyText>()?.0).is_some(),
            };
            if doubled {
                return Err(de::Error::custom("a field of the money is given twice"));
            }
        }
        let amount = amount.ok_or_else(|| de::Error::missing_field("amount"))?;
        let currency = currency.ok_or_else(|| de::Error::missing_field("currency"))?;
        Ok((amount, currency))
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum MoneyField {
    Amount,
    Currency,
}

/// Money on its way out; may be negative for balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money(pub Balance);

impl Money {
    /// Minor units of a currency.
    #[must_use]
    pub fn minor(minor: i128, currency: Currency) -> Self {
        Self(Balance::new(minor, currency))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut money = serializer.serialize_struct("Money", 2)?;
        money.serialize_field("amount", &Decimal(self.0))?;
        money.serialize_field("currency", self.0.currency().alpha())?;
        money.end()
    }
}

impl utoipa::PartialSchema for Money {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        MoneySchema::schema()
    }
}

impl ToSchema for Money {
    fn name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }
}

/// The decimal text of a balance without its currency.
struct Decimal(Balance);

displayed!(Decimal);

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal(formatter, self.0.minor(), self.0.currency())
    }
}

/// Writes minor units as a decimal number of the currency.
///
/// # Errors
///
/// As the writer's.
pub fn decimal(out: &mut impl fmt::Write, minor: i128, currency: Currency) -> fmt::Result {
    let sign = if minor < 0 { "-" } else { "" };
    let size = minor.unsigned_abs();
    let per_major = u128::from(currency.minor_per_major());
    let width = usize::from(currency.digits());
    // Most amounts fit in 64 bits, where division is quick.
    match (u64::try_from(size), width) {
        (_, 0) => write!(out, "{sign}{size}"),
        (Ok(size), _) => {
            let per_major = currency.minor_per_major();
            write!(out, "{sign}{}.{:0width$}", size / per_major, size % per_major)
        }
        (Err(_), _) => write!(out, "{sign}{}.{:0width$}", size / per_major, size % per_major),
    }
}

#[cfg(test)]
#[path = "scalars_tests.rs"]
mod tests;
