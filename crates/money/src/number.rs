//! Account and customer numbers: 16 digits that name the branch of issue and check themselves.
//!
//! ```text
//! 0007 0000012345 58
//! branch serial   check
//! ```
//!
//! The two check digits are those of ISO 7064 MOD 97-10: the whole number leaves 1 when divided by
//! 97. They catch every single wrong digit and every swap of two digits. A number says nothing of
//! whether the account exists.

use core::fmt;
use core::str::FromStr;

/// Digits in a number.
const LENGTH: usize = 16;
const MODULUS: u64 = 97;
/// 10 ^ (serial digits), and the same with the check digits.
const SERIALS: u64 = 10_000_000_000;
const CHECKS: u64 = 100;

/// Why a text is not an account or customer number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumberError {
    /// Not 16 characters (after the `c` of a customer number).
    #[error("a number has 16 digits")]
    Length,
    /// Something else than the digits 0 to 9.
    #[error("a number has nothing but digits")]
    NotDigits,
    /// A customer number without its leading `c`.
    #[error("a customer number begins with c")]
    Prefix,
    /// The two last digits do not fit the others: mistyped.
    #[error("the check digits do not fit: mistyped")]
    Check,
    /// Branches are numbered from 1 to 9999.
    #[error("a branch is a number from 1 to 9999")]
    Branch,
    /// Serials are numbered from 1 to 9 999 999 999.
    #[error("a serial is a number from 1 to 9999999999")]
    Serial,
}

/// What both kinds of numbers are made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Parts {
    branch: u16,
    serial: u64,
}

impl Parts {
    const fn new(branch: u16, serial: u64) -> Result<Self, NumberError> {
        if branch == 0 || branch > 9999 {
            return Err(NumberError::Branch);
        }
        if serial == 0 || serial >= SERIALS {
            return Err(NumberError::Serial);
        }
        Ok(Self { branch, serial })
    }

    #[expect(
        clippy::arithmetic_side_effects,
        reason = "branch has 4 digits and serial 10, so all is below 10^16 and check is 1…98"
    )]
    fn digits(self) -> u64 {
        let body = (u64::from(self.branch) * SERIALS + self.serial) * CHECKS;
        body + (98 - body % MODULUS)
    }

    #[expect(
        clippy::arithmetic_side_effects,
        reason = "16 digits are below 2^64, and divisors are constants"
    )]
    fn parse(text: &str) -> Result<Self, NumberError> {
        if text.len() != LENGTH {
            return Err(NumberError::Length);
        }
        let mut digits = 0;
        for byte in text.bytes() {
            if !byte.is_ascii_digit() {
                return Err(NumberError::NotDigits);
            }
            digits = digits * 10 + u64::from(byte - b'0');
        }
        // Check digits 00, 01 and 99 also leave a remainder of 1 for some numbers: they are never
        // issued, so that a number has one text.
        if digits % MODULUS != 1 || !(2..=98).contains(&(digits % CHECKS)) {
            return Err(NumberError::Check);
        }
        let branch = u16::try_from(digits / CHECKS / SERIALS).map_err(|_| NumberError::Branch)?;
        Self::new(branch, digits / CHECKS % SERIALS)
    }
}

/// The number of a customer's account, as it is printed on paper and sent on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountNumber(Parts);

/// The number of a customer: the scheme of [`AccountNumber`] behind a `c`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomerNumber(Parts);

macro_rules! number {
    ($name:ident) => {
        impl $name {
            /// The number with `serial` that `branch` issues.
            ///
            /// # Panics
            ///
            /// Unless `branch` is 1…9999 and `serial` 1…9 999 999 999. Use
            /// [`try_new`](Self::try_new) for what comes from outside.
            #[must_use]
            pub const fn new(branch: u16, serial: u64) -> Self {
                match Parts::new(branch, serial) {
                    Ok(parts) => Self(parts),
                    Err(_) => panic!("branch is 1…9999 and serial 1…9999999999"),
                }
            }

            /// The number with `serial` that `branch` issues.
            ///
            /// # Errors
            ///
            /// [`NumberError::Branch`] and [`NumberError::Serial`] when out of range.
            pub const fn try_new(branch: u16, serial: u64) -> Result<Self, NumberError> {
                match Parts::new(branch, serial) {
                    Ok(parts) => Ok(Self(parts)),
                    Err(error) => Err(error),
                }
            }

            /// The branch that issued it.
            #[must_use]
            pub const fn branch(self) -> u16 {
                self.0.branch
            }

            /// The serial within the branch, from 1.
            #[must_use]
            pub const fn serial(self) -> u64 {
                self.0.serial
            }
        }

        impl FromStr for $name {
            type Err = NumberError;

            fn from_str(text: &str) -> Result<Self, NumberError> {
                Self::parse(text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }
    };
}

number!(AccountNumber);
number!(CustomerNumber);

impl AccountNumber {
    /// Reads 16 digits, without spaces.
    ///
    /// # Errors
    ///
    /// What is wrong with the text; [`NumberError::Check`] for a mistyped number.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        Parts::parse(text).map(Self)
    }
}

impl CustomerNumber {
    /// Reads `c` and 16 digits, without spaces.
    ///
    /// # Errors
    ///
    /// What is wrong with the text; [`NumberError::Check`] for a mistyped number.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let digits = text.strip_prefix('c').ok_or(NumberError::Prefix)?;
        Parts::parse(digits).map(Self)
    }
}

impl fmt::Display for AccountNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016}", self.0.digits())
    }
}

impl fmt::Display for CustomerNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "c{:016}", self.0.digits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_standard_holds_for_a_number_worked_by_hand() {
        // 1 000 000 000 100 leaves 53 when divided by 97, and 98 − 53 = 45.
        let text = AccountNumber::new(1, 1).to_string();
        assert_eq!(text, "0001000000000145");
        assert_eq!(text.parse::<u64>().unwrap() % 97, 1);
    }

    #[test]
    fn each_fault_has_its_name() {
        let good = AccountNumber::new(7, 12_345).to_string();
        assert_eq!(AccountNumber::parse(""), Err(NumberError::Length));
        assert_eq!(AccountNumber::parse(&good[1..]), Err(NumberError::Length));
        assert_eq!(AccountNumber::parse("00010000000001+5"), Err(NumberError::NotDigits));
        assert_eq!(AccountNumber::parse("0000000000000000"), Err(NumberError::Check));
        assert_eq!(AccountNumber::parse("0000000000000098"), Err(NumberError::Branch));
        assert_eq!(CustomerNumber::parse(&good), Err(NumberError::Prefix));
        assert_eq!(AccountNumber::try_new(0, 1), Err(NumberError::Branch));
        assert_eq!(AccountNumber::try_new(10_000, 1), Err(NumberError::Branch));
        assert_eq!(AccountNumber::try_new(1, 0), Err(NumberError::Serial));
        assert_eq!(AccountNumber::try_new(1, SERIALS), Err(NumberError::Serial));
    }

    /// 97, 98 and 02 have twins that leave the same remainder; only the issued one is a number.
    #[test]
    fn a_number_has_one_text() {
        for serial in 1..500 {
            let number = AccountNumber::new(1, serial).to_string();
            let (body, check) = number.split_at(14);
            let twin = match check {
                "97" => "00",
                "98" => "01",
                "02" => "99",
                _ => continue,
            };
            let twin = alloc::format!("{body}{twin}");
            assert_eq!(twin.parse::<u64>().unwrap() % 97, 1);
            assert_eq!(AccountNumber::parse(&twin), Err(NumberError::Check));
        }
    }

    #[test]
    fn the_ends_of_the_range_fit() {
        for (branch, serial) in [(1, 1), (9999, SERIALS - 1)] {
            let number = AccountNumber::new(branch, serial);
            assert_eq!(AccountNumber::parse(&number.to_string()), Ok(number));
            let number = CustomerNumber::new(branch, serial);
            assert_eq!(CustomerNumber::parse(&number.to_string()), Ok(number));
        }
    }
}
