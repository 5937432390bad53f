//! Amounts and balances as text: `12.34` and back, exactly.
//!
//! Inside the bank an amount is a `u64` of minor units and a balance an `i128`; text exists only at
//! the edge, and this is the only place that knows how many decimals to write.

use core::fmt;

use crate::Currency;

/// An amount of money: never negative, in whole minor units of one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amount {
    minor: u64,
    currency: Currency,
}

/// A balance: may be negative, and may be larger than any amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Balance {
    minor: i128,
    currency: Currency,
}

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmountError {
    /// Not digits with at most one point between them.
    #[error("not a decimal number")]
    NotANumber,
    /// Well formed, but below zero.
    #[error("negative")]
    Negative,
    /// More decimals than the currency has, even if they are zero.
    #[error("more decimals than the currency has")]
    TooManyDecimals,
    /// More minor units than 64 bits (for a balance, 127 bits) hold.
    #[error("too large")]
    TooLarge,
}

impl Amount {
    /// `minor` units of `currency`.
    #[must_use]
    pub const fn new(minor: u64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Reads a decimal number such as `12.34`, `12` or `0.5`: digits, then at most one point
    /// followed by as many digits as the currency has, or fewer. No sign, exponent, space or
    /// grouping.
    ///
    /// # Errors
    ///
    /// [`AmountError`], the first that applies in the order in which it lists them.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, AmountError> {
        let minor = parse_decimal(text, currency.digits())?;
        let minor = u64::try_from(minor).map_err(|_| AmountError::TooLarge)?;
        Ok(Self { minor, currency })
    }

    /// Minor units.
    #[must_use]
    pub const fn minor(self) -> u64 {
        self.minor
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }
}

impl Balance {
    /// `minor` units of `currency`.
    #[must_use]
    pub const fn new(minor: i128, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Reads what [`Amount::parse`] reads, with an optional leading `-`.
    ///
    /// # Errors
    ///
    /// [`AmountError`], but never [`AmountError::Negative`].
    pub fn parse(text: &str, currency: Currency) -> Result<Self, AmountError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let size =
            i128::try_from(parse_unsigned(digits, currency.digits())?).map_err(|_| AmountError::TooLarge)?;
        let minor = if digits.len() == text.len() { size } else { size.saturating_neg() };
        Ok(Self { minor, currency })
    }

    /// Minor units.
    #[must_use]
    pub const fn minor(self) -> i128 {
        self.minor
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }
}

/// Reads a decimal number of at most `digits` decimals into units of the last of them; a minus sign
/// is told from rubbish.
pub(crate) fn parse_decimal(text: &str, digits: u8) -> Result<u128, AmountError> {
    match text.strip_prefix('-') {
        None => parse_unsigned(text, digits),
        Some(rest) if parse_unsigned(rest, digits) == Err(AmountError::NotANumber) => {
            Err(AmountError::NotANumber)
        }
        Some(_) => Err(AmountError::Negative),
    }
}

fn parse_unsigned(text: &str, digits: u8) -> Result<u128, AmountError> {
    let (whole, decimals) = match text.split_once('.') {
        Some((whole, decimals)) => (whole, Some(decimals)),
        None => (text, None),
    };
    if !is_digits(whole) || !decimals.is_none_or(is_digits) {
        return Err(AmountError::NotANumber);
    }
    let decimals = decimals.unwrap_or_default();
    let missing = usize::from(digits).checked_sub(decimals.len());
    let missing = missing.ok_or(AmountError::TooManyDecimals)?;

    let zeros = core::iter::repeat_n(b'0', missing);
    let mut minor: u128 = 0;
    for digit in whole.bytes().chain(decimals.bytes()).chain(zeros) {
        let digit = u128::from(digit.wrapping_sub(b'0'));
        minor =
            minor.checked_mul(10).and_then(|tens| tens.checked_add(digit)).ok_or(AmountError::TooLarge)?;
    }
    Ok(minor)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Writes the decimal number without its currency: `12.34`.
#[expect(clippy::arithmetic_side_effects, reason = "divides by a power of ten, which is not zero")]
fn write_minor(
    formatter: &mut fmt::Formatter<'_>,
    sign: &str,
    minor: u128,
    currency: Currency,
) -> fmt::Result {
    let unit = u128::from(currency.minor_per_major());
    match usize::from(currency.digits()) {
        0 => write!(formatter, "{sign}{minor}"),
        digits => write!(formatter, "{sign}{}.{:0digits$}", minor / unit, minor % unit),
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_minor(formatter, "", u128::from(self.minor), self.currency)
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.minor < 0 { "-" } else { "" };
        write_minor(formatter, sign, self.minor.unsigned_abs(), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn parse(text: &str) -> Result<u64, AmountError> {
        Amount::parse(text, Currency::CNY).map(Amount::minor)
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(parse("12.34"), Ok(1234));
        assert_eq!(parse("12.3"), Ok(1230));
        assert_eq!(parse("12"), Ok(1200));
        assert_eq!(parse("0.01"), Ok(1));
        assert_eq!(parse("0000012.34"), Ok(1234));
        assert_eq!(parse("184467440737095516.15"), Ok(u64::MAX));
        assert_eq!(Amount::parse("12", Currency::JPY).map(Amount::minor), Ok(12));
        assert_eq!(Amount::parse("1.5", Currency::KWD).map(Amount::minor), Ok(1500));
    }

    #[test]
    fn each_fault_has_its_name() {
        for text in
            ["", ".", "1.", ".5", "+1", "1e3", " 1", "1 ", "1,5", "1.2.3", "0x1", "--1", "-", "٣", "NaN"]
        {
            assert_eq!(parse(text), Err(AmountError::NotANumber), "{text:?}");
        }
        assert_eq!(parse("-1"), Err(AmountError::Negative));
        assert_eq!(parse("-0"), Err(AmountError::Negative));
        assert_eq!(parse("1.234"), Err(AmountError::TooManyDecimals));
        assert_eq!(parse("1.200"), Err(AmountError::TooManyDecimals));
        assert_eq!(Amount::parse("1.0", Currency::JPY), Err(AmountError::TooManyDecimals));
        assert_eq!(parse("184467440737095516.16"), Err(AmountError::TooLarge));
        assert_eq!(parse(&"9".repeat(10_000)), Err(AmountError::TooLarge));
    }

    #[test]
    fn balances_have_a_sign() {
        let balance = |text| Balance::parse(text, Currency::EUR).map(Balance::minor);
        assert_eq!(balance("-0.05"), Ok(-5));
        assert_eq!(balance("7"), Ok(700));
        assert_eq!(balance("--7"), Err(AmountError::NotANumber));
        assert_eq!(Balance::new(-5, Currency::EUR).to_string(), "-0.05");
        assert_eq!(Balance::new(-5, Currency::JPY).to_string(), "-5");
        assert_eq!(Balance::new(i128::MIN, Currency::JPY).to_string(), i128::MIN.to_string());
        assert_eq!(balance(&"9".repeat(50)), Err(AmountError::TooLarge));
    }
}
