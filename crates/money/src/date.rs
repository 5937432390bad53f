//! Calendar dates as days since 1970-01-01, and the business day an instant belongs to.
//!
//! Dates are those of the proleptic Gregorian calendar. Conversion follows the era method of
//! Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". There is no time zone database
//! here: an instant becomes a date by a fixed offset that the caller brings.

use core::fmt;
use core::str::FromStr;

/// A calendar date: days since 1970-01-01, negative before.
///
/// Every `i32` is a date (some five million years either way), so decoding one cannot fail.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Date(pub i32);

/// The days of the week, Monday first as in ISO 8601.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// Why a text is not a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DateError {
    /// Not of the form `2026-01-31`.
    #[error("a date is written as year-month-day, such as 2026-01-31")]
    Form,
    /// No such day in the calendar.
    #[error("no such day in the calendar")]
    NoSuchDay,
}

/// A date taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// The year; 0 is the year before year 1.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

const DAYS_PER_ERA: i64 = 146_097; // 400 years
const DAYS_BEFORE_1970: i64 = 719_468; // from 0000-03-01
const MINUTES_PER_DAY: i64 = 1_440;
const US_PER_MINUTE: i64 = 60_000_000;

impl Date {
    /// The first day: 1970-01-01.
    pub const EPOCH: Self = Self(0);

    /// Days since 1970-01-01.
    #[must_use]
    pub const fn days(self) -> i32 {
        self.0
    }

    /// The date of a year, month and day; `None` if the calendar has no such day or it does not fit.
    #[must_use]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "an i32 year times 366 is far below the ends of an i64, and divisors are constants"
    )]
    pub fn from_civil(year: i32, month: u8, day: u8) -> Option<Self> {
        if day == 0 || day > days_in_month(year, month)? {
            return None;
        }
        // Years begin in March here, so that the leap day is the last of them.
        let march_month = (i64::from(month) + 9) % 12;
        let march_year = i64::from(year) - i64::from(month <= 2);
        let (era, year_of_era) = (march_year.div_euclid(400), march_year.rem_euclid(400));
        let day_of_year = (153 * march_month + 2) / 5 + i64::from(day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        i32::try_from(era * DAYS_PER_ERA + day_of_era - DAYS_BEFORE_1970).ok().map(Self)
    }

    /// Year, month and day.
    #[must_use]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "an i32 of days in i64 arithmetic, and divisors are constants"
    )]
    pub fn civil(self) -> Civil {
        let days = i64::from(self.0) + DAYS_BEFORE_1970;
        let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = (march_month + 2) % 12 + 1;
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        match (i32::try_from(year), u8::try_from(month), u8::try_from(day)) {
            (Ok(year), Ok(month), Ok(day)) => Civil { year, month, day },
            _ => unreachable!("an i32 of days has a year within an i32, a month 1…12 and a day 1…31"),
        }
    }

    /// Reads `2026-01-31`: four digits, two, two.
    ///
    /// # Errors
    ///
    /// [`DateError::Form`] for another form, [`DateError::NoSuchDay`] for the 30th of February.
    pub fn parse(text: &str) -> Result<Self, DateError> {
        let bytes: &[u8; 10] = text.as_bytes().try_into().map_err(|_| DateError::Form)?;
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *bytes else {
            return Err(DateError::Form);
        };
        let year = two_digits(y1, y2)?.checked_mul(100).zip(Some(two_digits(y3, y4)?));
        let year = year.and_then(|(century, rest)| century.checked_add(rest)).ok_or(DateError::Form)?;
        let month = u8::try_from(two_digits(m1, m2)?).map_err(|_| DateError::Form)?;
        let day = u8::try_from(two_digits(d1, d2)?).map_err(|_| DateError::Form)?;
        Self::from_civil(i32::from(year), month, day).ok_or(DateError::NoSuchDay)
    }

    /// The date at an instant (microseconds since 1970 in UTC) where clocks show UTC plus
    /// `offset_minutes`.
    #[must_use]
    pub fn at(time_us: u64, offset_minutes: i32) -> Self {
        Self::of_minutes(local_minutes(time_us, offset_minutes))
    }

    /// The business day of an instant: day D is `[cutoff of D − 1, cutoff of D)`, so an instant on
    /// the cutoff belongs to the new day. With a cutoff of 0 it is the calendar date.
    ///
    /// `cutoff_minutes` counts from local midnight, 0 to 1439; larger ones wrap around.
    #[must_use]
    #[expect(clippy::arithmetic_side_effects, reason = "minutes since 1970 are far below the ends of an i64")]
    pub fn business_day(time_us: u64, offset_minutes: i32, cutoff_minutes: u16) -> Self {
        let ahead = (MINUTES_PER_DAY - i64::from(cutoff_minutes) % MINUTES_PER_DAY) % MINUTES_PER_DAY;
        Self::of_minutes(local_minutes(time_us, offset_minutes) + ahead)
    }

    fn of_minutes(minutes: i64) -> Self {
        let days = minutes.div_euclid(MINUTES_PER_DAY);
        Self(i32::try_from(days).expect("2^64 microseconds are about 213 million days"))
    }

    /// `days` later, or earlier if negative; `None` beyond the ends.
    #[must_use]
    pub const fn add_days(self, days: i32) -> Option<Self> {
        match self.0.checked_add(days) {
            Some(days) => Some(Self(days)),
            None => None,
        }
    }

    /// The same day `months` later, or earlier if negative; the last day of that month if it is
    /// shorter (31 January and one month is 28 or 29 February). `None` beyond the ends.
    #[must_use]
    pub fn add_months(self, months: i32) -> Option<Self> {
        let Civil { year, month, day } = self.civil();
        let total = i64::from(year)
            .checked_mul(12)?
            .checked_add(i64::from(month))?
            .checked_sub(1)?
            .checked_add(i64::from(months))?;
        let year = i32::try_from(total.div_euclid(12)).ok()?;
        let month = u8::try_from(total.rem_euclid(12)).ok()?.checked_add(1)?;
        Self::from_civil(year, month, day.min(days_in_month(year, month)?))
    }

    /// How many days after `earlier` this is; negative if before.
    #[must_use]
    #[expect(clippy::arithmetic_side_effects, reason = "the difference of two i32 fits an i64")]
    pub fn days_since(self, earlier: Self) -> i64 {
        i64::from(self.0) - i64::from(earlier.0)
    }

    /// The day of the week.
    #[must_use]
    pub fn weekday(self) -> Weekday {
        // 1970-01-01 was a Thursday.
        match self.0.rem_euclid(7) {
            0 => Weekday::Thursday,
            1 => Weekday::Friday,
            2 => Weekday::Saturday,
            3 => Weekday::Sunday,
            4 => Weekday::Monday,
            5 => Weekday::Tuesday,
            _ => Weekday::Wednesday,
        }
    }

    /// Whether it is the last day of its month.
    #[must_use]
    pub fn is_month_end(self) -> bool {
        let Civil { year, month, day } = self.civil();
        days_in_month(year, month) == Some(day)
    }
}

/// Whether the year has a 29 February.
#[must_use]
pub const fn is_leap_year(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// 28 to 31; `None` if there is no such month.
#[must_use]
pub const fn days_in_month(year: i32, month: u8) -> Option<u8> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if is_leap_year(year) => Some(29),
        2 => Some(28),
        _ => None,
    }
}

#[expect(clippy::arithmetic_side_effects, reason = "2^64 / 60 000 000 plus an i32 fits an i64")]
fn local_minutes(time_us: u64, offset_minutes: i32) -> i64 {
    let minutes = time_us / US_PER_MINUTE.unsigned_abs();
    i64::try_from(minutes).expect("2^64 microseconds are below 2^39 minutes") + i64::from(offset_minutes)
}

#[expect(clippy::arithmetic_side_effects, reason = "two digits are below 100")]
fn two_digits(tens: u8, ones: u8) -> Result<u16, DateError> {
    if tens.is_ascii_digit() && ones.is_ascii_digit() {
        Ok(u16::from(tens - b'0') * 10 + u16::from(ones - b'0'))
    } else {
        Err(DateError::Form)
    }
}

impl FromStr for Date {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Self, DateError> {
        Self::parse(text)
    }
}

/// ISO 8601: `2026-01-31`; years outside 0…9999 with a sign and six digits or more.
impl fmt::Display for Date {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day } = self.civil();
        if (0..=9999).contains(&year) {
            write!(formatter, "{year:04}-{month:02}-{day:02}")
        } else {
            write!(formatter, "{year:+07}-{month:02}-{day:02}")
        }
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn date(text: &str) -> Date {
        Date::parse(text).unwrap()
    }

    #[test]
    fn known_days() {
        assert_eq!(date("1970-01-01"), Date(0));
        assert_eq!(date("2000-02-29"), Date(11_016));
        assert_eq!(date("1969-12-31"), Date(-1));
        assert_eq!(date("0000-01-01"), Date(-719_528));
        assert_eq!(date("2026-01-31").weekday(), Weekday::Saturday);
        assert_eq!(date("1969-12-31").weekday(), Weekday::Wednesday);
    }

    #[test]
    fn each_fault_has_its_name() {
        for text in ["", "2026-1-31", "20260131", "2026-01-31 ", "+026-01-31", "2026/01/31", "２０26-01"] {
            assert_eq!(Date::parse(text), Err(DateError::Form), "{text:?}");
        }
        for text in ["2026-02-29", "1900-02-29", "2026-13-01", "2026-00-01", "2026-01-00", "2026-04-31"] {
            assert_eq!(Date::parse(text), Err(DateError::NoSuchDay), "{text:?}");
        }
    }

    #[test]
    fn months_keep_to_their_end() {
        assert_eq!(date("2026-01-31").add_months(1), Some(date("2026-02-28")));
        assert_eq!(date("2024-01-31").add_months(1), Some(date("2024-02-29")));
        assert_eq!(date("2024-02-29").add_months(12), Some(date("2025-02-28")));
        assert_eq!(date("2026-03-31").add_months(-1), Some(date("2026-02-28")));
        assert_eq!(date("2026-01-15").add_months(-13), Some(date("2024-12-15")));
        assert_eq!(Date(i32::MAX).add_months(1), None);
        assert!(date("2024-02-29").is_month_end() && !date("2024-02-28").is_month_end());
    }

    #[test]
    fn an_instant_on_the_cutoff_belongs_to_the_new_day() {
        let midnight = 20_000 * 86_400_000_000;
        assert_eq!(Date::at(midnight, 0), Date(20_000));
        assert_eq!(Date::at(midnight - 1, 0), Date(19_999));
        assert_eq!(Date::at(midnight - 1, 480), Date(20_000));
        assert_eq!(Date::at(0, -60), Date(-1));
        let cutoff = 22 * 60;
        let at_cutoff = midnight + 22 * 3_600_000_000;
        assert_eq!(Date::business_day(at_cutoff - 1, 0, cutoff), Date(20_000));
        assert_eq!(Date::business_day(at_cutoff, 0, cutoff), Date(20_001));
        assert_eq!(Date::business_day(midnight, 0, 0), Date(20_000));
    }

    #[test]
    fn the_ends_can_be_written() {
        assert_eq!(Date(i32::MAX).to_string(), "+5881580-07-11");
        assert_eq!(Date(i32::MIN).to_string(), "-5877641-06-23");
    }
}
