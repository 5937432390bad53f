//! Tests of amounts, dates, ids and numbers as they travel.

use super::*;
use proptest::prelude::*;

fn money(text: &str) -> Result<MoneyIn, String> {
    serde_json::from_str::<MoneyIn>(text).map_err(|error| error.to_string())
}

#[test]
fn money_is_a_string_and_nothing_else() {
    let fine = money(r#"{"amount":"12.34","currency":"CNY"}"#).unwrap();
    assert_eq!((fine.0.minor(), fine.0.currency()), (1_234, Currency::CNY));
    assert_eq!(money(r#"{"currency":"JPY","amount":"7"}"#).unwrap().0.minor(), 7);
    let wrong = [
        (r#"{"amount":12.34,"currency":"CNY"}"#, "would lose digits"),
        (r#"{"amount":12,"currency":"CNY"}"#, "would lose digits"),
        (r#"{"amount":"12.345","currency":"CNY"}"#, "more decimals"),
        (r#"{"amount":"7.0","currency":"JPY"}"#, "more decimals"),
        (r#"{"amount":"-1","currency":"CNY"}"#, "negative"),
        (r#"{"amount":"1e3","currency":"CNY"}"#, "not a decimal number"),
        (r#"{"amount":"1,000.00","currency":"CNY"}"#, "not a decimal number"),
        (r#"{"amount":"","currency":"CNY"}"#, "not a decimal number"),
        (r#"{"amount":"184467440737095516.16","currency":"CNY"}"#, "too large"),
        (r#"{"amount":"1","currency":"cny"}"#, "ISO 4217"),
        (r#"{"amount":"1","currency":"XXQ"}"#, "ISO 4217"),
        (r#"{"amount":"1"}"#, "missing field `currency`"),
        (r#"{"amount":"1","currency":"CNY","scale":2}"#, "unknown field `scale`"),
        (r#"{"amount":"1","amount":"2","currency":"CNY"}"#, "twice"),
        (r#""12.34""#, "money such as"),
        ("null", "money such as"),
    ];
    for (text, expected) in wrong {
        let error = money(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let long = format!(r#"{{"amount":"{}","currency":"CNY"}}"#, "9".repeat(1_000));
    assert!(money(&long).unwrap_err().contains("too large"));
}

#[test]
fn parties_are_numbers_or_heads() {
    let number = AccountNumber::new(2, 7);
    assert_eq!(Party::from_text(&number.to_string()), Ok(Party::Account(number)));
    assert_eq!(Party::from_text("gl:1001"), Ok(Party::Head(1001, None)));
    assert_eq!(Party::from_text("gl:1001@0002"), Ok(Party::Head(1001, Some(2))));
    for wrong in [
        "",
        "gl:",
        "gl:0",
        "gl:16777216",
        "gl:1001@",
        "gl:1001@0",
        "gl:1001@12345",
        "gl:+1",
        "gl:1@+1",
        "7",
        "c1",
    ] {
        assert!(Party::from_text(wrong).is_err(), "{wrong}");
    }
    let mut digits = number.to_string();
    digits.replace_range(13..14, "8");
    assert!(Party::from_text(&digits).is_err(), "check digits");
}

#[test]
fn references_go_out_as_they_come_in() {
    let account = AccountRef::customer(2, 7);
    assert_eq!(AccountText(account).to_string(), AccountNumber::new(2, 7).to_string());
    let head = AccountRef::head(2, 1001, Currency::CNY);
    assert_eq!(AccountText(head).to_string(), "gl:1001@0002");
    assert_eq!(Party::from_text("gl:1001").unwrap().reference(2, Some(Currency::CNY)), Some(head));
    assert_eq!(Party::from_text("gl:1001").unwrap().reference(2, None), None);
}

proptest! {
    #[test]
    fn money_reads_back(minor: u64, number in prop::sample::select(vec![156_u16, 392, 414, 978])) {
        let currency = Currency::from_number(number).unwrap();
        let text = serde_json::to_string(&Money::minor(i128::from(minor), currency)).unwrap();
        prop_assert_eq!(money(&text).unwrap().0, Amount::new(minor, currency));
    }

    #[test]
    fn balances_are_written_as_money_writes_them(minor: i128, number in prop::sample::select(vec![156_u16, 392, 414])) {
        let currency = Currency::from_number(number).unwrap();
        let minor = minor / 4;
        let text = Decimal(Balance::new(minor, currency)).to_string();
        prop_assert_eq!(Balance::parse(&text, currency).unwrap().minor(), minor);
    }

    #[test]
    fn ids_read_back(value: u128) {
        let text = serde_json::to_string(&Id(value)).unwrap();
        prop_assert_eq!(serde_json::from_str::<Id>(&text).unwrap(), Id(value));
        prop_assert_eq!(text.trim_matches('"'), crate::text::uuid(value));
    }

    #[test]
    fn rubbish_is_refused_without_a_panic(text in "\\PC{0,60}") {
        let quoted = serde_json::to_string(&text).unwrap();
        let _ = (money(&text), money(&quoted));
        let _ = (serde_json::from_str::<Party>(&quoted), serde_json::from_str::<Day>(&quoted));
        let _ = (serde_json::from_str::<Instant>(&quoted), serde_json::from_str::<Customer>(&quoted));
    }
}
