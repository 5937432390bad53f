//! Interest rates a year, day counts, and the interest they make.

use core::fmt;

use crate::amount::{AmountError, parse_decimal};
use crate::date::{Civil, Date, is_leap_year};
use crate::{Amount, Rounding};

/// A rate a year, in parts per billion: 4.35 % is 43 500 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rate(u64);

/// Parts in one.
const PARTS: u128 = 1_000_000_000;
/// Parts in one percent, and how many decimals of a percent they are.
const PARTS_PER_PERCENT: u64 = 10_000_000;
const PERCENT_DECIMALS: u8 = 7;

impl Rate {
    /// A rate of `parts` per billion a year.
    #[must_use]
    pub const fn from_parts_per_billion(parts: u64) -> Self {
        Self(parts)
    }

    /// A rate of `points` hundredths of a percent a year.
    #[must_use]
    pub fn from_basis_points(points: u32) -> Self {
        Self(u64::from(points).saturating_mul(100_000))
    }

    /// Reads a percentage without its sign: `4.35`, up to seven decimals.
    ///
    /// # Errors
    ///
    /// [`AmountError`]; rates are not negative here.
    pub fn parse_percent(text: &str) -> Result<Self, AmountError> {
        let parts = parse_decimal(text, PERCENT_DECIMALS)?;
        u64::try_from(parts).map(Self).map_err(|_| AmountError::TooLarge)
    }

    /// Parts per billion.
    #[must_use]
    pub const fn parts_per_billion(self) -> u64 {
        self.0
    }
}

/// `4.3500000%`: all seven decimals, so that it can be read back.
impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0.checked_div(PARTS_PER_PERCENT).unwrap_or_default();
        let decimals = self.0.checked_rem(PARTS_PER_PERCENT).unwrap_or_default();
        write!(formatter, "{percent}.{decimals:07}%")
    }
}

/// How a period between two dates is counted as part of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DayCount {
    /// Actual days over 365, in leap years too.
    Actual365Fixed,
    /// Actual days over 360.
    Actual360,
    /// Months of 30 days over 360: "30/360" or "Bond Basis" of the 2006 ISDA Definitions, 4.16(f).
    Thirty360,
    /// Actual days over the days of the year each lies in: the 2006 ISDA Definitions, 4.16(b).
    ActualActual,
}

/// A part of a year as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YearFraction {
    /// Above the line.
    pub numerator: u64,
    /// Below the line; never zero.
    pub denominator: u64,
}

impl DayCount {
    /// The part of a year from `begin` (included) to `end` (excluded); `None` if `end` is earlier.
    #[must_use]
    pub fn fraction(self, begin: Date, end: Date) -> Option<YearFraction> {
        let days = u64::try_from(end.days_since(begin)).ok()?;
        let (numerator, denominator) = match self {
            Self::Actual365Fixed => (days, 365),
            Self::Actual360 => (days, 360),
            Self::Thirty360 => (thirty_days(begin, end)?, 360),
            Self::ActualActual => {
                let leap = leap_days(begin, end)?;
                // leap / 366 + common / 365, on their common denominator
                let common = days.checked_sub(leap)?;
                let sum = leap.checked_mul(365)?.checked_add(common.checked_mul(366)?)?;
                (sum, 365 * 366)
            }
        };
        Some(YearFraction { numerator, denominator })
    }
}

/// Days between two dates when every month has 30.
fn thirty_days(begin: Date, end: Date) -> Option<u64> {
    let (first, last) = (begin.civil(), end.civil());
    let first_day = i64::from(first.day.min(30));
    let last_day = if first_day == 30 { last.day.min(30) } else { last.day };
    let whole = months(last).checked_sub(months(first))?.checked_mul(30)?;
    let days = whole.checked_add(i64::from(last_day))?.checked_sub(first_day)?;
    // From the 30th to the 31st of a month counts nothing, and nothing counts less.
    u64::try_from(days).ok()
}

fn months(date: Civil) -> i64 {
    i64::from(date.year).saturating_mul(12).saturating_add(i64::from(date.month))
}

/// How many of the days from `begin` to `end` (excluded) lie in leap years.
fn leap_days(begin: Date, end: Date) -> Option<u64> {
    let before = |date: Date| -> Option<i64> {
        let year = date.civil().year;
        let new_year = Date::from_civil(year, 1, 1)?;
        let within = if is_leap_year(year) { date.days_since(new_year) } else { 0 };
        leap_years_before(year).checked_mul(366)?.checked_add(within)
    };
    u64::try_from(before(end)?.checked_sub(before(begin)?)?).ok()
}

/// Leap years before `year`, counted from some fixed year: only differences mean anything.
fn leap_years_before(year: i32) -> i64 {
    let last = i64::from(year).saturating_sub(1);
    last.div_euclid(4).saturating_sub(last.div_euclid(100)).saturating_add(last.div_euclid(400))
}

/// Simple interest: `principal · rate · fraction`, in whole minor units.
///
/// Exact until the one division at the end. `None` if a product outgrows 128 bits or the interest
/// 64: not with amounts below 10¹⁵ minor units, rates below 1000 % and periods below a century.
#[must_use]
pub fn interest(principal: Amount, rate: Rate, period: YearFraction, rounding: Rounding) -> Option<Amount> {
    let numerator = u128::from(principal.minor())
        .checked_mul(u128::from(rate.parts_per_billion()))?
        .checked_mul(u128::from(period.numerator))?;
    let denominator = PARTS.checked_mul(u128::from(period.denominator))?;
    let minor = u64::try_from(rounding.divide(numerator, denominator)?).ok()?;
    Some(Amount::new(minor, principal.currency()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Currency;
    use alloc::string::ToString;

    fn date(text: &str) -> Date {
        Date::parse(text).unwrap()
    }

    fn fraction(count: DayCount, begin: &str, end: &str) -> (u64, u64) {
        let fraction = count.fraction(date(begin), date(end)).unwrap();
        (fraction.numerator, fraction.denominator)
    }

    #[test]
    fn day_counts() {
        use DayCount::{Actual360, Actual365Fixed, ActualActual, Thirty360};
        assert_eq!(fraction(Actual365Fixed, "2024-01-01", "2025-01-01"), (366, 365));
        assert_eq!(fraction(Actual360, "2024-01-01", "2024-01-31"), (30, 360));
        assert_eq!(fraction(Thirty360, "2026-01-31", "2026-02-28"), (28, 360));
        assert_eq!(fraction(Thirty360, "2026-01-30", "2026-03-31"), (60, 360));
        assert_eq!(fraction(Thirty360, "2026-01-15", "2026-03-31"), (76, 360));
        assert_eq!(fraction(Thirty360, "2025-02-28", "2026-02-28"), (360, 360));
        assert_eq!(Actual360.fraction(date("2026-01-02"), date("2026-01-01")), None);
        // The worked example of the ISDA memorandum on Actual/Actual: 61 days of 2003, 121 of 2004.
        let expected = 61 * 366 + 121 * 365;
        assert_eq!(fraction(ActualActual, "2003-11-01", "2004-05-01"), (expected, 365 * 366));
        assert_eq!(fraction(ActualActual, "1999-01-01", "2002-01-01"), (3 * 365 * 366, 365 * 366));
    }

    #[test]
    fn interest_is_exact_until_the_last_step() {
        let year = DayCount::Actual360.fraction(date("2026-01-01"), date("2026-12-27")).unwrap();
        assert_eq!((year.numerator, year.denominator), (360, 360));
        let rate = Rate::parse_percent("4.35").unwrap();
        let interest = |minor, rounding| {
            super::interest(Amount::new(minor, Currency::CNY), rate, year, rounding).map(Amount::minor)
        };
        assert_eq!(interest(1_000_000, Rounding::HalfUp), Some(43_500));
        assert_eq!(interest(100, Rounding::HalfUp), Some(4)); // 4.35
        assert_eq!(interest(100, Rounding::Up), Some(5));
        assert_eq!(interest(200, Rounding::HalfEven), Some(9)); // 8.70
        assert_eq!(interest(1_000, Rounding::HalfEven), Some(44)); // 43.50
        assert_eq!(interest(3_000, Rounding::HalfEven), Some(130)); // 130.50
        assert_eq!(interest(3_000, Rounding::HalfUp), Some(131));
    }

    #[test]
    fn rates_are_read_and_written() {
        assert_eq!(Rate::parse_percent("4.35").unwrap(), Rate::from_basis_points(435));
        assert_eq!(Rate::from_basis_points(435).parts_per_billion(), 43_500_000);
        assert_eq!(Rate::from_basis_points(435).to_string(), "4.3500000%");
        assert_eq!(Rate::parse_percent("0.00000001"), Err(AmountError::TooManyDecimals));
        assert_eq!(Rate::parse_percent("-1"), Err(AmountError::Negative));
        assert_eq!(Rate::parse_percent("9999999999999"), Err(AmountError::TooLarge));
    }
}
