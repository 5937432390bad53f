//! Tests of transfers as they travel.

use super::*;
use skerry_money::AccountNumber;

const ID: &str = "0197a3c0-5b00-7000-8000-0123456789ab";

fn read(text: &str) -> Result<(Asked, Echo), (String, String)> {
    let told = |problem: Problem| {
        let document = problem.document(crate::problem::Language::English);
        (document.code.to_owned(), document.field.unwrap_or("").to_owned())
    };
    let transfer: TransferIn = crate::body::parse(text.as_bytes()).map_err(told)?;
    let branch = transfer.branch().map_err(told)?;
    transfer.asked(branch, None).map_err(told)
}

fn number(serial: u64) -> String {
    AccountNumber::new(3, serial).to_string()
}

#[test]
fn a_payment_from_cash_takes_the_head_of_the_payees_branch() {
    let text = format!(
        r#"{{"id":"{ID}","debit":"gl:1001","credit":"{}","amount":{{"amount":"5.00","currency":"CNY"}},"reference":"hello"}}"#,
        number(7)
    );
    let (asked, _) = read(&text).unwrap();
    assert_eq!(asked.transfer.debit, AccountRef::head(3, 1001, Currency::CNY));
    assert_eq!(asked.transfer.credit, AccountRef::customer(3, 7));
    assert_eq!(asked.transfer.amount, 500);
    assert_eq!(&asked.transfer.reference[..6], b"hello\0");
}

#[test]
fn a_long_reference_goes_to_the_tail() {
    let long = "x".repeat(140);
    let body = |reference: &str| {
        format!(
            r#"{{"id":"{ID}","debit":"{}","credit":"{}","amount":{{"amount":"1","currency":"CNY"}},"reference":"{reference}"}}"#,
            number(1),
            number(2)
        )
    };
    assert_eq!(&*read(&body(&long)).unwrap().0.reference, long);
    assert_eq!(read(&body(&"x".repeat(141))).unwrap_err(), ("invalid_field".into(), "reference".into()));
    assert_eq!(read(&body("a\\u0000b")).unwrap_err().1, "reference");
    assert_eq!(&read(&body("\\u4e2d")).unwrap().0.transfer.reference[..4], "中\0".as_bytes());
}

#[test]
fn what_is_missing_wrong_or_too_much_is_named() {
    let (one, two) = (number(1), number(2));
    let money = r#"{"amount":"1","currency":"CNY"}"#;
    let cases = [
        (format!(r#"{{"debit":"{one}","credit":"{two}","amount":{money}}}"#), "id_needed", "id"),
        (format!(r#"{{"id":"{ID}","credit":"{two}","amount":{money}}}"#), "missing_field", "debit"),
        (format!(r#"{{"id":"{ID}","debit":"{one}","amount":{money}}}"#), "missing_field", "credit"),
        (format!(r#"{{"id":"{ID}","debit":"{one}","credit":"{two}"}}"#), "missing_field", "amount"),
        (format!(r#"{{"id":"x","debit":"{one}","credit":"{two}","amount":{money}}}"#), "invalid_field", "id"),
        (
            format!(r#"{{"id":"{ID}","debit":"{one}","credit":"{two}","amount":5}}"#),
            "invalid_field",
            "amount",
        ),
        (
            format!(
                r#"{{"id":"{ID}","debit":"{one}","credit":"{two}","amount":{{"amount":5,"currency":"CNY"}}}}"#
            ),
            "invalid_field",
            "amount.amount",
        ),
        (
            format!(r#"{{"id":"{ID}","debit":"gl:1001","credit":"gl:2001","amount":{money}}}"#),
            "invalid_field",
            "debit",
        ),
        (
            format!(r#"{{"id":"{ID}","debit":"{one}","debet":"{two}","amount":{money}}}"#),
            "unknown_field",
            "debet",
        ),
        (format!(r#"{{"id":"{ID}","debit":"{one}","post":"{ID}","void":"{ID}"}}"#), "invalid_field", "post"),
        (
            format!(r#"{{"id":"{ID}","debit":"{one}","credit":"{two}","amount":{money},"code":65536}}"#),
            "invalid_field",
            "code",
        ),
        (
            format!(r#"{{"id":"{ID}","debit":"{one}","credit":"{two}","amount":{money},"timeout":-1}}"#),
            "invalid_field",
            "timeout",
        ),
    ];
    for (text, code, field) in cases {
        assert_eq!(read(&text).unwrap_err(), (code.to_owned(), field.to_owned()), "{text}");
    }
}

#[test]
fn flags_follow_from_words() {
    let (one, two) = (number(1), number(2));
    let with = |more: &str| {
        let text = format!(
            r#"{{"id":"{ID}","debit":"{one}","credit":"{two}","amount":{{"amount":"1","currency":"CNY"}},{more}}}"#
        );
        read(&text).unwrap().0.transfer
    };
    assert_eq!(with(r#""pending":true,"timeout":9"#).flags, Flags::PENDING);
    assert_eq!(with(r#""linked":true"#).flags, Flags::LINKED);
    assert_eq!(with(r#""balancing":"credit""#).flags, Flags::BALANCING_CREDIT);
    assert_eq!(with(r#""closing":"debit","pending":true"#).flags, Flags::PENDING.with(Flags::CLOSING_DEBIT));
    let post = read(&format!(r#"{{"id":"{ID}","debit":"{one}","post":"{ID}"}}"#)).unwrap().0.transfer;
    assert_eq!((post.flags, post.amount, post.related.0 >> 64), (Flags::POST, 0, post.id.0 >> 64));
}
