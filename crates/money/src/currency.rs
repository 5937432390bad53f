//! ISO 4217 currencies: the codes an account can be kept in.
//!
//! The table is "List One" as published for 1 January 2026, without the codes that have no minor
//! unit (metals, bond units, special drawing rights, test and "no currency"): no account is kept in
//! them. A row is never removed, since journals that name it must stay readable; that is why BGN,
//! withdrawn on that very day, is here.

use core::fmt;
use core::num::NonZeroU16;
use core::str::FromStr;

/// A currency, by its ISO 4217 number. An `Option<Currency>` is two bytes as well.
///
/// Ordered by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency(NonZeroU16);

/// One row of the standard.
#[derive(Clone, Copy)]
struct Row {
    alpha: [u8; 3],
    number: u16,
    digits: u8,
}

const fn row(alpha: [u8; 3], number: u16, digits: u8) -> Row {
    Row { alpha, number, digits }
}

/// Sorted by alphabetic code; see [`NUMBERED`] for the other way in.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(*b"AED", 784, 2), row(*b"AFN", 971, 2), row(*b"ALL",   8, 2), row(*b"AMD",  51, 2),
    row(*b"AOA", 973, 2), row(*b"ARS",  32, 2), row(*b"AUD",  36, 2), row(*b"AWG", 533, 2),
    row(*b"AZN", 944, 2), row(*b"BAM", 977, 2), row(*b"BBD",  52, 2), row(*b"BDT",  50, 2),
    row(*b"BGN", 975, 2), row(*b"BHD",  48, 3), row(*b"BIF", 108, 0), row(*b"BMD",  60, 2),
    row(*b"BND",  96, 2), row(*b"BOB",  68, 2), row(*b"BOV", 984, 2), row(*b"BRL", 986, 2),
    row(*b"BSD",  44, 2), row(*b"BTN",  64, 2), row(*b"BWP",  72, 2), row(*b"BYN", 933, 2),
    row(*b"BZD",  84, 2), row(*b"CAD", 124, 2), row(*b"CDF", 976, 2), row(*b"CHE", 947, 2),
    row(*b"CHF", 756, 2), row(*b"CHW", 948, 2), row(*b"CLF", 990, 4), row(*b"CLP", 152, 0),
    row(*b"CNY", 156, 2), row(*b"COP", 170, 2), row(*b"COU", 970, 2), row(*b"CRC", 188, 2),
    row(*b"CUP", 192, 2), row(*b"CVE", 132, 2), row(*b"CZK", 203, 2), row(*b"DJF", 262, 0),
    row(*b"DKK", 208, 2), row(*b"DOP", 214, 2), row(*b"DZD",  12, 2), row(*b"EGP", 818, 2),
    row(*b"ERN", 232, 2), row(*b"ETB", 230, 2), row(*b"EUR", 978, 2), row(*b"FJD", 242, 2),
    row(*b"FKP", 238, 2), row(*b"GBP", 826, 2), row(*b"GEL", 981, 2), row(*b"GHS", 936, 2),
    row(*b"GIP", 292, 2), row(*b"GMD", 270, 2), row(*b"GNF", 324, 0), row(*b"GTQ", 320, 2),
    row(*b"GYD", 328, 2), row(*b"HKD", 344, 2), row(*b"HNL", 340, 2), row(*b"HTG", 332, 2),
    row(*b"HUF", 348, 2), row(*b"IDR", 360, 2), row(*b"ILS", 376, 2), row(*b"INR", 356, 2),
    row(*b"IQD", 368, 3), row(*b"IRR", 364, 2), row(*b"ISK", 352, 0), row(*b"JMD", 388, 2),
    row(*b"JOD", 400, 3), row(*b"JPY", 392, 0), row(*b"KES", 404, 2), row(*b"KGS", 417, 2),
    row(*b"KHR", 116, 2), row(*b"KMF", 174, 0), row(*b"KPW", 408, 2), row(*b"KRW", 410, 0),
    row(*b"KWD", 414, 3), row(*b"KYD", 136, 2), row(*b"KZT", 398, 2), row(*b"LAK", 418, 2),
    row(*b"LBP", 422, 2), row(*b"LKR", 144, 2), row(*b"LRD", 430, 2), row(*b"LSL", 426, 2),
    row(*b"LYD", 434, 3), row(*b"MAD", 504, 2), row(*b"MDL", 498, 2), row(*b"MGA", 969, 2),
    row(*b"MKD", 807, 2), row(*b"MMK", 104, 2), row(*b"MNT", 496, 2), row(*b"MOP", 446, 2),
    row(*b"MRU", 929, 2), row(*b"MUR", 480, 2), row(*b"MVR", 462, 2), row(*b"MWK", 454, 2),
    row(*b"MXN", 484, 2), row(*b"MXV", 979, 2), row(*b"MYR", 458, 2), row(*b"MZN", 943, 2),
    row(*b"NAD", 516, 2), row(*b"NGN", 566, 2), row(*b"NIO", 558, 2), row(*b"NOK", 578, 2),
    row(*b"NPR", 524, 2), row(*b"NZD", 554, 2), row(*b"OMR", 512, 3), row(*b"PAB", 590, 2),
    row(*b"PEN", 604, 2), row(*b"PGK", 598, 2), row(*b"PHP", 608, 2), row(*b"PKR", 586, 2),
    row(*b"PLN", 985, 2), row(*b"PYG", 600, 0), row(*b"QAR", 634, 2), row(*b"RON", 946, 2),
    row(*b"RSD", 941, 2), row(*b"RUB", 643, 2), row(*b"RWF", 646, 0), row(*b"SAR", 682, 2),
    row(*b"SBD",  90, 2), row(*b"SCR", 690, 2), row(*b"SDG", 938, 2), row(*b"SEK", 752, 2),
    row(*b"SGD", 702, 2), row(*b"SHP", 654, 2), row(*b"SLE", 925, 2), row(*b"SOS", 706, 2),
    row(*b"SRD", 968, 2), row(*b"SSP", 728, 2), row(*b"STN", 930, 2), row(*b"SVC", 222, 2),
    row(*b"SYP", 760, 2), row(*b"SZL", 748, 2), row(*b"THB", 764, 2), row(*b"TJS", 972, 2),
    row(*b"TMT", 934, 2), row(*b"TND", 788, 3), row(*b"TOP", 776, 2), row(*b"TRY", 949, 2),
    row(*b"TTD", 780, 2), row(*b"TWD", 901, 2), row(*b"TZS", 834, 2), row(*b"UAH", 980, 2),
    row(*b"UGX", 800, 0), row(*b"USD", 840, 2), row(*b"USN", 997, 2), row(*b"UYI", 940, 0),
    row(*b"UYU", 858, 2), row(*b"UYW", 927, 4), row(*b"UZS", 860, 2), row(*b"VED", 926, 2),
    row(*b"VES", 928, 2), row(*b"VND", 704, 0), row(*b"VUV", 548, 0), row(*b"WST", 882, 2),
    row(*b"XAD", 396, 2), row(*b"XAF", 950, 0), row(*b"XCD", 951, 2), row(*b"XCG", 532, 2),
    row(*b"XOF", 952, 0), row(*b"XPF", 953, 0), row(*b"YER", 886, 2), row(*b"ZAR", 710, 2),
    row(*b"ZMW", 967, 2), row(*b"ZWG", 924, 2),
];

const NUMBERS: usize = 1000;

/// By ISO number: the row in [`TABLE`] plus one, 0 where the standard has no currency.
static NUMBERED: [u8; NUMBERS] = numbered();

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "evaluated by the compiler, where a fault is a compile error"
)]
const fn numbered() -> [u8; NUMBERS] {
    let mut rows = [0; NUMBERS];
    let mut index = 0;
    while index < TABLE.len() {
        let number = TABLE[index].number as usize;
        assert!(rows[number] == 0, "two currencies with one number");
        assert!(index < 255, "the index is a byte");
        rows[number] = (index + 1) as u8;
        index += 1;
    }
    rows
}

/// The row of `number`, if it is in the table.
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "const; the number is checked against the length, and entries are 1…len of the table"
)]
const fn find(number: u16) -> Option<&'static Row> {
    if number as usize >= NUMBERS {
        return None;
    }
    match NUMBERED[number as usize] {
        0 => None,
        entry => Some(&TABLE[entry as usize - 1]),
    }
}

impl Currency {
    /// Renminbi.
    pub const CNY: Self = Self::known(156);
    /// Czech koruna.
    pub const CZK: Self = Self::known(203);
    /// Euro.
    pub const EUR: Self = Self::known(978);
    /// Yen: no minor unit.
    pub const JPY: Self = Self::known(392);
    /// Kuwaiti dinar: three decimals.
    pub const KWD: Self = Self::known(414);
    /// US dollar.
    pub const USD: Self = Self::known(840);

    const fn known(number: u16) -> Self {
        match Self::from_number(number) {
            Some(currency) => currency,
            None => panic!("a constant names a currency that is not in the table"),
        }
    }

    /// The currency with this ISO 4217 number; `None` if there is none an account can be kept in.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match (find(number), NonZeroU16::new(number)) {
            (Some(_), Some(number)) => Some(Self(number)),
            _ => None,
        }
    }

    /// The currency with this three-letter code, in capitals.
    #[must_use]
    pub fn from_alpha(alpha: &str) -> Option<Self> {
        let row = TABLE.binary_search_by(|row| row.alpha.as_slice().cmp(alpha.as_bytes())).ok()?;
        Self::from_number(TABLE.get(row)?.number)
    }

    /// The ISO 4217 number.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0.get()
    }

    /// The three-letter code.
    #[must_use]
    pub const fn alpha(self) -> &'static str {
        match core::str::from_utf8(&self.row().alpha) {
            Ok(alpha) => alpha,
            Err(_) => panic!("a currency code is not ASCII"),
        }
    }

    /// How many decimals the minor unit has: 2 for most, 0 for yen, 3 for dinars.
    #[must_use]
    pub const fn digits(self) -> u8 {
        self.row().digits
    }

    /// Minor units in one major unit: ten to the power of [`digits`](Self::digits).
    #[must_use]
    pub const fn minor_per_major(self) -> u64 {
        match self.digits() {
            0 => 1,
            1 => 10,
            2 => 100,
            3 => 1_000,
            4 => 10_000,
            _ => panic!("a currency with more than four decimals"),
        }
    }

    /// Every currency, by alphabetic code.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().filter_map(|row| Self::from_number(row.number))
    }

    const fn row(self) -> &'static Row {
        match find(self.number()) {
            Some(row) => row,
            None => panic!("a currency that is not in the table"),
        }
    }
}

/// Text that is no currency code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 4217 currency code")]
pub struct UnknownCurrency;

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(alpha: &str) -> Result<Self, UnknownCurrency> {
        Self::from_alpha(alpha).ok_or(UnknownCurrency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.alpha())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.alpha())
    }
}

#[cfg(feature = "wire")]
impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u16(self.number())
    }
}

#[cfg(feature = "wire")]
impl<'de> serde::Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let number = <u16 as serde::Deserialize>::deserialize(input)?;
        Self::from_number(number).ok_or_else(|| serde::de::Error::custom("no currency has this number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_found_both_ways() {
        assert!(TABLE.is_sorted_by(|left, right| left.alpha < right.alpha));
        assert_eq!(Currency::all().count(), TABLE.len());
        for currency in Currency::all() {
            assert_eq!(Currency::from_alpha(currency.alpha()), Some(currency));
            assert_eq!(Currency::from_number(currency.number()), Some(currency));
            assert_eq!(currency.minor_per_major(), 10_u64.pow(u32::from(currency.digits())));
        }
    }

    #[test]
    fn what_is_not_a_currency_is_refused() {
        for number in [0, 1, 959, 963, 999, 1000, u16::MAX] {
            assert_eq!(Currency::from_number(number), None);
        }
        for alpha in ["", "EU", "eur", "EURO", "XXX", "XAU", "€"] {
            assert_eq!(Currency::from_alpha(alpha), None);
        }
    }

    #[test]
    fn an_optional_currency_is_two_bytes() {
        assert_eq!(size_of::<Option<Currency>>(), 2);
    }
}
