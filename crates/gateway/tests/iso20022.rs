//! Payments and statements as ISO 20022: in by `pain.001`, told by `pain.002`, read as `camt.052` and `camt.053`.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use axum::body::Body;
use axum::http::Request;
use common::{Answer, TestBank, id, transfer};
use serde_json::json;
use skerry_gateway::iso20022::tree::{self, Element};

/// A message of one debit account with these transfers: end-to-end id, amount, payee.
fn message(id: &str, day: &str, payer: &str, transfers: &[(&str, &str, &str)]) -> String {
    let one = |(end_to_end, amount, payee): &(&str, &str, &str)| {
        format!(
            "<CdtTrfTxInf><PmtId><EndToEndId>{end_to_end}</EndToEndId></PmtId>\
             <Amt><InstdAmt Ccy=\"CNY\">{amount}</InstdAmt></Amt>\
             <CdtrAcct><Id><Othr><Id>{payee}</Id></Othr></Id></CdtrAcct>\
             <RmtInf><Ustrd>rent of {end_to_end}</Ustrd></RmtInf></CdtTrfTxInf>"
        )
    };
    let all: String = transfers.iter().map(one).collect();
    format!(
        "<?xml version=\"1.0\"?>\n<p:Document xmlns:p=\"urn:iso:std:iso:20022:tech:xsd:pain.001.001.09\" \
         xmlns=\"urn:iso:std:iso:20022:tech:xsd:pain.001.001.09\"><CstmrCdtTrfInitn>\
         <GrpHdr><MsgId>{id}</MsgId><CreDtTm>2026-03-31T09:00:00</CreDtTm><NbOfTxs>{}</NbOfTxs><InitgPty/></GrpHdr>\
         <PmtInf><PmtInfId>P</PmtInfId><PmtMtd>TRF</PmtMtd><ReqdExctnDt><Dt>{day}</Dt></ReqdExctnDt><Dbtr/>\
         <DbtrAcct><Id><Othr><Id>{payer}</Id></Othr></Id></DbtrAcct><DbtrAgt><FinInstnId/></DbtrAgt>{all}</PmtInf>\
         </CstmrCdtTrfInitn></p:Document>",
        transfers.len()
    )
}

async fn initiate(bank: &TestBank, body: String, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder()
        .method("POST")
        .uri("/v1/payment-initiations")
        .header("authorization", format!("Bearer {}", bank.operator));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    bank.send(request.body(Body::from(body)).unwrap()).await
}

const XML: (&str, &str) = ("content-type", "application/xml; charset=utf-8");

/// The texts of all elements of this name.
fn texts(answer: &Answer, name: &str) -> Vec<String> {
    let text = std::str::from_utf8(&answer.bytes).unwrap();
    let (root, _) = tree::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut found = Vec::new();
    collect(&root, name, &mut found);
    found
}

fn collect(element: &Element, name: &str, found: &mut Vec<String>) {
    if element.name == name {
        found.push(element.text.clone());
    }
    element.children.iter().for_each(|child| collect(child, name, found));
}

async fn open_day(bank: &TestBank) -> String {
    bank.get("/v1/branches").await.ok()["branches"][0]["business_date"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_transfer_of_a_message_is_told_and_the_same_message_pays_once() {
    let bank = TestBank::new(2);
    let (payer, near) = (bank.funded(1, "100.00").await, bank.funded(1, "0.01").await);
    let day = open_day(&bank).await;
    let transfers =
        [("E-1", "30.00", near.as_str()), ("E-2", "80.00", near.as_str()), ("E-3", "5", "0001000000000105")];
    let body = message("M-1", &day, &payer, &transfers);
    let first = initiate(&bank, body.clone(), &[XML]).await;
    assert_eq!(
        (first.status.as_u16(), first.headers["content-type"].to_str().unwrap()),
        (200, "application/xml")
    );
    assert_eq!(texts(&first, "TxSts"), ["ACSC", "RJCT", "RJCT"]);
    assert_eq!(texts(&first, "OrgnlEndToEndId"), ["E-1", "E-2", "E-3"]);
    assert_eq!(
        (texts(&first, "GrpSts"), texts(&first, "PmtInfSts")),
        (vec!["PART".into()], vec!["PART".into()])
    );
    let reasons: Vec<String> = texts(&first, "Cd");
    assert_eq!(reasons, ["AM04", "AC03"]);
    assert!(texts(&first, "AddtlInf").iter().any(|text| text.starts_with("1111 insufficient_funds")));
    assert_eq!((bank.balance(&payer).await, bank.balance(&near).await), ("70.00".into(), "30.01".into()));

    let again = initiate(&bank, body.clone(), &[XML, ("accept-language", "zh-CN")]).await;
    assert_eq!(texts(&again, "AcctSvcrRef"), texts(&first, "AcctSvcrRef"));
    assert!(texts(&again, "AddtlInf").iter().any(|text| text.contains("余额不足")));
    let changed = initiate(&bank, body.replace("30.00", "31.00"), &[XML]).await;
    assert_eq!(texts(&changed, "Cd"), ["AM05", "AM04", "AC03"]);
    assert_eq!(bank.balance(&payer).await, "70.00");

    let far = bank.funded(2, "0.01").await;
    let sent = initiate(&bank, message("M-2", &day, &payer, &[("E-4", "1.00", &far)]), &[XML]).await;
    assert_eq!((texts(&sent, "TxSts"), texts(&sent, "GrpSts")), (vec!["ACSP".into()], vec!["ACSP".into()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tried_is_a_problem_that_names_the_place() {
    let bank = TestBank::new(1);
    let payer = bank.funded(1, "10.00").await;
    let body = message("M-1", "2026-03-31", &payer, &[("E-1", "1.00", &payer)]);
    let later = message("M-2", "2099-01-01", &payer, &[("E-1", "1.00", "gl:1001")]);
    assert_eq!(initiate(&bank, body.clone(), &[]).await.problem(), "unsupported_media_type");
    assert_eq!(initiate(&bank, "<a".into(), &[XML]).await.problem(), "malformed_xml");
    let counted = initiate(&bank, body.replace("<NbOfTxs>1<", "<NbOfTxs>2<"), &[XML]).await;
    assert_eq!(counted.json()["field"], "CstmrCdtTrfInitn.GrpHdr.NbOfTxs");
    assert_eq!(counted.json()["figures"], json!({"have": "1", "need": "2"}));
    let told = initiate(&bank, later, &[XML]).await;
    assert_eq!((texts(&told, "Cd"), texts(&told, "GrpSts")), (vec!["DT01".into()], vec!["RJCT".into()]));
    assert_eq!(bank.balance(&payer).await, "10.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_has_the_balances_around_its_lines_on_every_page() {
    let bank = TestBank::new(1);
    let (payer, payee) = (bank.funded(1, "100.00").await, bank.funded(1, "0.01").await);
    let day = open_day(&bank).await;
    let transfers: Vec<(String, &str)> = (1..=5).map(|nth| (format!("E-{nth}"), "10.00")).collect();
    let transfers: Vec<_> =
        transfers.iter().map(|(id, amount)| (id.as_str(), *amount, payee.as_str())).collect();
    initiate(&bank, message("M-1", &day, &payer, &transfers), &[XML]).await;
    let undone = bank.post("/v1/transfers", transfer(&id(), &payer, &payee, "1.00")).await.ok();
    bank.post(&format!("{}/reverse", undone["location"].as_str().unwrap()), json!({})).await.ok();

    let path = format!("/v1/accounts/{payer}/statement?message=camt.052&limit=5");
    let first = bank.get(&path).await;
    assert_eq!(
        texts(&first, "Cd").into_iter().filter(|code| code.ends_with("BD")).collect::<Vec<_>>(),
        ["OPBD", "ITBD"]
    );
    // Opening, closing, and each line twice: for itself and in its details.
    let amounts = texts(&first, "Amt");
    assert_eq!(amounts[..4], ["0.00", "60.00", "100.00", "100.00"]);
    assert_eq!((amounts.len(), texts(&first, "LastPgInd")), (12, vec!["false".into()]));
    assert_eq!(texts(&first, "EndToEndId")[1..], ["E-1", "E-2", "E-3", "E-4"]);
    assert_eq!(texts(&first, "Ustrd")[0], "rent of E-1");
    let link = first.headers["link"].to_str().unwrap();
    let next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
    let second = bank.get(next).await;
    assert_eq!(texts(&second, "Amt")[..2], ["60.00", "50.00"]);
    assert_eq!(
        (texts(&second, "PgNb"), texts(&second, "LastPgInd")),
        (vec!["2".into()], vec!["true".into()])
    );
    assert_eq!(texts(&second, "RvslInd"), ["true"]);
    assert!(!second.headers.contains_key("link"));

    let still_open = bank.get(&format!("/v1/accounts/{payer}/statement?to={day}")).await;
    assert_eq!(
        (still_open.problem(), still_open.json()["field"].clone()),
        ("invalid_query".into(), json!("to"))
    );
    let closed = bank.get(&format!("/v1/accounts/{payer}/statement")).await;
    assert_eq!(texts(&closed, "Amt"), ["0.00", "0.00"]);
    assert_eq!(texts(&closed, "Cd"), ["OPBD", "CLBD"]);
    let other = bank.get(&format!("/v1/accounts/{payer}/statement?cursor=2.x")).await;
    assert_eq!(other.problem(), "cursor_invalid");
}
