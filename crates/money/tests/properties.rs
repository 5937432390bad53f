//! Whatever numbers come: text is exact both ways, the calendar has no hole, nothing is lost.

use proptest::collection::vec;
use proptest::prelude::*;
use skerry_money::date::{Civil, days_in_month};
use skerry_money::{
    AccountNumber, Amount, Balance, Currency, CustomerNumber, Date, DayCount, NumberError, Rate, Rounding,
    interest, split,
};

fn currency() -> impl Strategy<Value = Currency> {
    proptest::sample::select(Currency::all().collect::<Vec<_>>())
}

/// Mostly small, sometimes at the very end.
fn minor() -> impl Strategy<Value = u64> {
    prop_oneof![0..100_000_u64, any::<u64>(), u64::MAX - 100..=u64::MAX]
}

fn numbers() -> impl Strategy<Value = (u16, u64)> {
    (1..=9_999_u16, prop_oneof![1..100_u64, 1..=9_999_999_999_u64])
}

const ROUNDINGS: [Rounding; 4] = [Rounding::HalfUp, Rounding::HalfEven, Rounding::Down, Rounding::Up];

proptest! {
    #[test]
    fn amounts_survive_their_text(minor in minor(), currency in currency()) {
        let amount = Amount::new(minor, currency);
        prop_assert_eq!(Amount::parse(&amount.to_string(), currency), Ok(amount));
    }

    #[test]
    fn balances_survive_their_text(minor in any::<i128>(), currency in currency()) {
        let balance = Balance::new(minor.max(-i128::MAX), currency);
        prop_assert_eq!(Balance::parse(&balance.to_string(), currency), Ok(balance));
    }

    #[test]
    fn any_text_is_an_amount_or_an_error(text in "[-0-9.eE+, ]{0,24}", currency in currency()) {
        if let Ok(amount) = Amount::parse(&text, currency) {
            // An oracle that counts digits as text, without arithmetic.
            let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
            let digits = format!("{whole}{decimals:0<width$}", width = usize::from(currency.digits()));
            prop_assert_eq!(digits.parse::<u64>(), Ok(amount.minor()));
        }
        let _ = Balance::parse(&text, currency);
        let _ = AccountNumber::parse(&text);
        let _ = Date::parse(&text);
        let _ = Rate::parse_percent(&text);
    }

    #[test]
    fn numbers_survive_their_text((branch, serial) in numbers()) {
        let account = AccountNumber::new(branch, serial);
        prop_assert_eq!(AccountNumber::parse(&account.to_string()), Ok(account));
        prop_assert_eq!((account.branch(), account.serial()), (branch, serial));
        let customer = CustomerNumber::new(branch, serial);
        prop_assert_eq!(CustomerNumber::parse(&customer.to_string()), Ok(customer));
    }

    #[test]
    fn a_wrong_digit_is_caught((branch, serial) in numbers(), at in 0..16_usize, digit in b'0'..=b'9') {
        let number = AccountNumber::new(branch, serial).to_string();
        let mut wrong = number.clone().into_bytes();
        wrong[at] = digit;
        let wrong = String::from_utf8(wrong).unwrap();
        if wrong != number {
            prop_assert_eq!(AccountNumber::parse(&wrong), Err(NumberError::Check));
        }
    }

    #[test]
    fn two_swapped_digits_are_caught((branch, serial) in numbers(), one in 0..16_usize, two in 0..16_usize) {
        let number = AccountNumber::new(branch, serial).to_string();
        let mut wrong = number.clone().into_bytes();
        wrong.swap(one, two);
        let wrong = String::from_utf8(wrong).unwrap();
        if wrong != number {
            prop_assert_eq!(AccountNumber::parse(&wrong), Err(NumberError::Check));
        }
    }

    #[test]
    fn dates_survive_taking_apart(days in any::<i32>()) {
        let date = Date(days);
        let Civil { year, month, day } = date.civil();
        prop_assert_eq!(Date::from_civil(year, month, day), Some(date));
        if (0..=9999).contains(&year) {
            prop_assert_eq!(Date::parse(&date.to_string()), Ok(date));
        }
    }

    #[test]
    fn months_move_to_the_same_day_or_the_last(days in -800_000..800_000_i32, months in -5_000..5_000_i32) {
        let date = Date(days);
        let moved = date.add_months(months).unwrap();
        let (before, after) = (date.civil(), moved.civil());
        let index = |civil: Civil| civil.year * 12 + i32::from(civil.month);
        prop_assert_eq!(index(after) - index(before), months);
        let last = days_in_month(after.year, after.month).unwrap();
        prop_assert_eq!(after.day, before.day.min(last));
    }

    #[test]
    fn a_business_day_lasts_a_day(time in 0..u64::MAX / 2, offset in -840..=840_i32, cutoff in 0..1440_u16) {
        let day = Date::business_day(time, offset, cutoff);
        let next = Date::business_day(time + 86_400_000_000, offset, cutoff);
        prop_assert_eq!(next.days_since(day), 1);
        prop_assert!((0..=1).contains(&day.days_since(Date::at(time, offset))));
    }

    #[test]
    fn periods_add_up(begin in -100_000..100_000_i32, one in 0..4_000_i32, two in 0..4_000_i32) {
        let (begin, middle, end) = (Date(begin), Date(begin + one), Date(begin + one + two));
        for count in [DayCount::Actual365Fixed, DayCount::Actual360, DayCount::ActualActual] {
            let part = |from, to| count.fraction(from, to).unwrap().numerator;
            prop_assert_eq!(part(begin, middle) + part(middle, end), part(begin, end));
        }
    }

    /// Oracle: day by day, each in its own year.
    #[test]
    fn actual_actual_is_the_sum_of_its_days(begin in -100_000..100_000_i32, days in 0..2_000_i32) {
        let sum: u64 = (begin..begin + days)
            .map(|day| if days_in_month(Date(day).civil().year, 2) == Some(29) { 365 } else { 366 })
            .sum();
        let fraction = DayCount::ActualActual.fraction(Date(begin), Date(begin + days)).unwrap();
        prop_assert_eq!(fraction.numerator, sum);
    }

    #[test]
    fn roundings_differ_by_less_than_a_unit(numerator in any::<u128>(), denominator in 1..u128::MAX) {
        let numerator = numerator / 2; // so that rounding up fits
        let [half_up, half_even, down, up] =
            ROUNDINGS.map(|rounding| rounding.divide(numerator, denominator).unwrap());
        prop_assert!(up - down == u128::from(numerator % denominator != 0));
        prop_assert!(down <= half_even && half_even <= half_up && half_up <= up);
    }

    #[test]
    fn interest_grows_with_the_principal(
        principal in 0..1_000_000_000_000_u64,
        more in 0..1_000_000_u64,
        points in 0..5_000_u32,
        days in 0..10_000_i32,
    ) {
        let period = DayCount::Actual365Fixed.fraction(Date(0), Date(days)).unwrap();
        let rate = Rate::from_basis_points(points);
        for rounding in ROUNDINGS {
            let of = |minor| {
                interest(Amount::new(minor, Currency::EUR), rate, period, rounding).unwrap().minor()
            };
            prop_assert!(of(principal) <= of(principal + more));
            let exact = u128::from(principal) * u128::from(points) * u128::try_from(days).unwrap();
            let twice_off = (u128::from(of(principal)) * 3_650_000).abs_diff(exact);
            prop_assert!(twice_off < 3_650_000);
        }
    }

    #[test]
    fn a_split_loses_nothing_and_is_fair(total in minor(), weights in vec(0..5_u64, 0..8)) {
        let sum: u64 = weights.iter().sum();
        let parts = split(total, &weights);
        prop_assert_eq!(parts.is_some(), sum > 0);
        let Some(parts) = parts else { return Ok(()) };
        prop_assert_eq!(parts.iter().map(|&part| u128::from(part)).sum::<u128>(), u128::from(total));
        for (&part, &weight) in parts.iter().zip(&weights) {
            let exact = u128::from(total) * u128::from(weight);
            let actual = u128::from(part) * u128::from(sum);
            prop_assert!(actual.abs_diff(exact) < u128::from(sum), "off by a unit or more");
            prop_assert!(weight > 0 || part == 0);
        }
    }
}
