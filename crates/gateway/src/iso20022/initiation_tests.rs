//! Messages as they come: whole, with something wrong in one transfer, and with something wrong in all of it.

use super::*;

fn document(inside: &str) -> String {
    format!(
        "<Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:pain.001.001.09\"><CstmrCdtTrfInitn>{inside}</CstmrCdtTrfInitn></Document>"
    )
}

fn header(count: &str, sum: &str) -> String {
    format!(
        "<GrpHdr><MsgId>M-1</MsgId><CreDtTm>2026-03-31T09:00:00Z</CreDtTm><NbOfTxs>{count}</NbOfTxs><CtrlSum>{sum}</CtrlSum><InitgPty/></GrpHdr>"
    )
}

fn payment(transfers: &str) -> String {
    format!(
        "<PmtInf><PmtInfId>P-1</PmtInfId><PmtMtd>TRF</PmtMtd><ReqdExctnDt><Dt>2026-03-31</Dt></ReqdExctnDt><Dbtr/>\
         <DbtrAcct><Id><Othr><Id>{}</Id></Othr></Id></DbtrAcct><DbtrAgt/>{transfers}</PmtInf>",
        number(1)
    )
}

fn transfer(end_to_end: &str, amount: &str, payee: &str) -> String {
    format!(
        "<CdtTrfTxInf><PmtId><InstrId>I</InstrId><EndToEndId>{end_to_end}</EndToEndId></PmtId>\
         <Amt><InstdAmt Ccy=\"CNY\">{amount}</InstdAmt></Amt>\
         <CdtrAcct><Id><Othr><Id>{payee}</Id></Othr></Id></CdtrAcct>\
         <RmtInf><Ustrd>March &amp; April</Ustrd><Ustrd>rent</Ustrd></RmtInf></CdtTrfTxInf>"
    )
}

/// With wrong check digits.
const NOBODY: &str = "0002000000000100";

fn read_text(text: &str) -> Result<Initiation, Problem> {
    read(text.as_bytes(), 10)
}

/// The field and the number of what is wrong.
fn wrong(text: &str) -> (String, u16) {
    let problem = read_text(text).unwrap_err();
    (problem.field_name().to_owned(), problem.number())
}

#[test]
fn a_message_is_its_transfers() {
    let payee = number(2);
    let text = document(
        &(header("2", "20.5")
            + &payment(&(transfer("E-1", "12.34", &payee) + &transfer("NOTPROVIDED", "8.16", &payee)))),
    );
    let read = read_text(&text).unwrap();
    assert_eq!((read.message.as_str(), read.count(), read.payments[0].id.as_str()), ("M-1", 2, "P-1"));
    let first = read.payments[0].transfers[0].transfer.as_ref().unwrap();
    assert_eq!(first.amount, Some(MoneyIn(Amount::new(1_234, Currency::CNY))));
    assert_eq!(
        (first.reference.as_deref(), first.note.as_deref()),
        (Some("E-1"), Some("March & April rent"))
    );
    let second = read.payments[0].transfers[1].transfer.as_ref().unwrap();
    assert_eq!(second.reference, None);
}

/// An account number of this branch, with its check digits.
fn number(branch: u16) -> String {
    skerry_money::AccountNumber::try_new(branch, 1).unwrap().to_string()
}

#[test]
fn what_is_wrong_with_one_transfer_is_told_of_it_alone() {
    let text = document(
        &(header("2", "13.34")
            + &payment(&(transfer("E-1", "12.34", NOBODY) + &transfer("E-2", "1.000", &number(2))))),
    );
    let read = read_text(&text).unwrap();
    let told: Vec<_> = read.payments[0]
        .transfers
        .iter()
        .map(|one| one.transfer.as_ref().unwrap_err().field_name().to_owned())
        .collect();
    assert!(told[0].ends_with("CdtTrfTxInf.CdtrAcct.Id.Othr.Id"), "{told:?}");
    assert!(told[1].ends_with("CdtTrfTxInf[1].Amt.InstdAmt"), "{told:?}");
}

#[test]
fn what_is_wrong_with_the_whole_names_the_place() {
    let one = transfer("E-1", "1.00", &number(2));
    let with = |header: String, payment: String| wrong(&document(&(header + &payment)));
    let at = |place: &str| format!("CstmrCdtTrfInitn.{place}");
    assert_eq!(with(header("2", "1"), payment(&one)), (at("GrpHdr.NbOfTxs"), catalogue::INVALID_FIELD));
    assert_eq!(with(header("1", "1.01"), payment(&one)), (at("GrpHdr.CtrlSum"), catalogue::INVALID_FIELD));
    assert_eq!(with(header("1", "-1"), payment(&one)).0, at("GrpHdr.CtrlSum"));
    assert_eq!(with(header("0", "0"), payment("")), (at("PmtInf.CdtTrfTxInf"), catalogue::MISSING_FIELD));
    assert_eq!(with(header("1", "1"), payment(&one).replace("TRF", "CHK")).0, at("PmtInf.PmtMtd"));
    assert_eq!(
        with(header("1", "1"), payment(&one).replace("2026-03-31", "31.3.2026")).0,
        at("PmtInf.ReqdExctnDt.Dt")
    );
    assert_eq!(
        with(header("1", "1"), payment(&one).replace(&number(1), NOBODY)).0,
        at("PmtInf.DbtrAcct.Id.Othr.Id")
    );
    assert_eq!(with(header("2", "2"), payment(&one) + &payment(&one)).0, "CstmrCdtTrfInitn");
    assert_eq!(
        with(header("1", "1"), payment(&one).replace("E-1", &"x".repeat(36))).0,
        at("PmtInf.CdtTrfTxInf.PmtId.EndToEndId")
    );
    assert_eq!(
        with(header("11", "11"), payment(&one.repeat(11))),
        (at("PmtInf"), catalogue::BATCH_TOO_LARGE)
    );
}

#[test]
fn what_is_no_such_message_is_refused() {
    let bad = [
        "",
        "x",
        "<a",
        "<Document/>",
        "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
        "<a>&b;</a>",
        "<a></b>",
        "<a/><b/>",
        "<a/>x",
        "<b:a/>",
        "<a x=1/>",
        "<Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:pain.001.001.03\"/>",
        "<Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:pain.001.001.09\"/>",
    ];
    for text in bad {
        let problem = read_text(text).unwrap_err();
        assert_eq!(problem.status().as_u16(), 400, "{text}: {problem:?}");
    }
    assert_eq!(read(&[0xff, 0xfe], 10).unwrap_err().number(), catalogue::MALFORMED_XML);
    let many = document(&"<x/>".repeat(tree::ELEMENTS_MAX));
    assert_eq!(read_text(&many).unwrap_err().number(), catalogue::MALFORMED_XML);
    let deep = "<a>".repeat(200_000) + &"</a>".repeat(200_000);
    assert_eq!(read_text(&document(&deep)).unwrap_err().number(), catalogue::MALFORMED_XML);
}

#[test]
fn sums_are_of_the_figures_as_written() {
    for (text, shown) in [("1", "1"), ("0.50", "0.5"), ("12.34567", "12.34567"), ("0", "0")] {
        assert_eq!(scaled(text).map(unscaled).as_deref(), Some(shown));
    }
    for text in
        ["", ".5", "1.", "1.234567", "1e3", "-1", "+1", " 1", "99999999999999999999999999999999999999999"]
    {
        assert!(scaled(text).is_none() || text == "1.", "{text}");
    }
}
