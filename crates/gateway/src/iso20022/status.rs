//! `pain.002.001.10`: what became of the transfers of a message.

use super::initiation::{Initiation, Payment};
use super::xml::Xml;
use super::{message, short_id};
use crate::problem::{Language, Problem};
use crate::text;
use crate::wire::transfers::{Status, TransferDone};

/// What became of one transfer.
pub type Result = std::result::Result<TransferDone, Problem>;

/// Of ExternalPaymentTransactionStatus1Code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    /// The payer is debited and the payee has it.
    Settled,
    /// The payer is debited; it is on its way to another branch.
    UnderWay,
    /// Not decided, or not known: the same message again tells.
    Pending,
    Rejected,
}

impl Code {
    const ALL: [Self; 4] = [Self::Settled, Self::UnderWay, Self::Pending, Self::Rejected];

    const fn text(self) -> &'static str {
        match self {
            Self::Settled => "ACSC",
            Self::UnderWay => "ACSP",
            Self::Pending => "PDNG",
            Self::Rejected => "RJCT",
        }
    }

    fn of(result: &Result) -> Self {
        match result {
            Ok(done) if done.status == Status::Sent => Self::UnderWay,
            Ok(_) => Self::Settled,
            Err(problem) if is_open(problem) => Self::Pending,
            Err(_) => Self::Rejected,
        }
    }
}

/// Whether the bank has not said no: it was busy, or its word was lost.
fn is_open(problem: &Problem) -> bool {
    problem.status().is_server_error() || problem.status() == axum::http::StatusCode::TOO_MANY_REQUESTS
}

/// The status of several (ExternalPaymentGroupStatus1Code): that of all, or `PART`.
fn group<'a>(results: impl Iterator<Item = &'a Result>) -> &'static str {
    let mut codes: Vec<Code> = results.map(Code::of).collect();
    codes.dedup();
    match codes[..] {
        [one] => one.text(),
        _ if codes.contains(&Code::Rejected) => "PART",
        _ if codes.contains(&Code::Pending) => "PDNG",
        _ => "ACSP",
    }
}

/// The report. `results` are in the order of the message's transfers; `id` names the report.
#[must_use]
pub fn report(
    initiation: &Initiation,
    results: &[Result],
    id: &str,
    now_us: u64,
    language: Language,
) -> String {
    let mut xml = Xml::document(message::STATUS);
    xml.begin("CstmrPmtStsRpt");
    xml.within("GrpHdr", |xml| {
        xml.put("MsgId", id);
        xml.put("CreDtTm", text::time(now_us));
    });
    xml.within("OrgnlGrpInfAndSts", |xml| {
        xml.put("OrgnlMsgId", &initiation.message);
        xml.put("OrgnlMsgNmId", message::INITIATION);
        xml.put("OrgnlNbOfTxs", results.len());
        xml.put("GrpSts", group(results.iter()));
        counts(xml, results);
    });
    let mut rest = results;
    for payment in &initiation.payments {
        let (own, others) = rest.split_at(payment.transfers.len().min(rest.len()));
        rest = others;
        xml.within("OrgnlPmtInfAndSts", |xml| of_payment(xml, payment, own, language));
    }
    xml.finish()
}

fn of_payment(xml: &mut Xml, payment: &Payment, results: &[Result], language: Language) {
    xml.put("OrgnlPmtInfId", &payment.id);
    xml.put("OrgnlNbOfTxs", results.len());
    xml.put("PmtInfSts", group(results.iter()));
    counts(xml, results);
    for (wanted, result) in payment.transfers.iter().zip(results) {
        xml.within("TxInfAndSts", |xml| {
            if let Some(instruction) = &wanted.instruction {
                xml.put("OrgnlInstrId", instruction);
            }
            xml.put("OrgnlEndToEndId", &wanted.end_to_end);
            xml.put("TxSts", Code::of(result).text());
            match result {
                Ok(done) => {
                    xml.put("AccptncDtTm", text::time(done.booked_at.0));
                    xml.put("AcctSvcrRef", short_id(done.id.0));
                }
                Err(problem) => xml.within("StsRsnInf", |xml| why(xml, problem, language)),
            }
        });
    }
}

fn counts(xml: &mut Xml, results: &[Result]) {
    for code in Code::ALL {
        let count = results.iter().filter(|result| Code::of(result) == code).count();
        if count > 0 {
            xml.within("NbOfTxsPerSts", |xml| {
                xml.put("DtldNbOfTxs", count);
                xml.put("DtldSts", code.text());
            });
        }
    }
}

/// The longest `AddtlInf`, in characters.
const ADDITIONAL_MAX: usize = 105;

fn why(xml: &mut Xml, problem: &Problem, language: Language) {
    let document = problem.document(language);
    xml.within("Rsn", |xml| match reason(problem) {
        Some(code) => xml.put("Cd", code),
        None => xml.put_short("Prtry", document.code, 35),
    });
    xml.put_short(
        "AddtlInf",
        &format!("{} {}: {}", document.number, document.code, document.title),
        ADDITIONAL_MAX,
    );
    if let Some(detail) = document.detail {
        xml.put_short("AddtlInf", detail, ADDITIONAL_MAX);
    }
    if let Some(figures) = document.figures {
        xml.put_short("AddtlInf", &format!("have {}, need {}", figures.have, figures.need), ADDITIONAL_MAX);
    }
    if let Some(field) = document.field {
        xml.put_short("AddtlInf", field, ADDITIONAL_MAX);
    }
}

/// Of ExternalStatusReason1Code, where one says the same.
fn reason(problem: &Problem) -> Option<&'static str> {
    let field = problem.field_name();
    Some(match problem.code() {
        "debit_not_found" | "account_not_found" => "AC02",
        "credit_not_found" => "AC03",
        "debit_closed" => "AC05",
        "credit_closed" => "AC07",
        "debit_frozen" | "credit_frozen" => "AC06",
        "amount_zero" => "AM01",
        "credit_limit_exceeded" => "AM02",
        "currency_not_theirs" | "currencies_differ" => "AM03",
        "insufficient_funds" => "AM04",
        "id_reused" => "AM05",
        "daily_limit_exceeded" => "AM14",
        "forbidden" | "out_of_scope" | "operators_only" | "role_not_allowed" => "AG01",
        "invalid_field" | "missing_field" if field.contains("CdtrAcct") => "AC03",
        "invalid_field" | "missing_field" if field.contains("InstdAmt") => "AM12",
        "invalid_field" if field.contains("ReqdExctnDt") => "DT01",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    #[test]
    fn several_are_what_all_are_or_in_part() {
        let no = || Err(Problem::numbered(1111));
        let busy = || Err(Problem::numbered(catalogue::BUSY));
        assert_eq!(group([no(), no()].iter()), "RJCT");
        assert_eq!(group([busy(), busy()].iter()), "PDNG");
        assert_eq!(group([no(), busy()].iter()), "PART");
        assert_eq!(reason(&Problem::numbered(1111)), Some("AM04"));
        assert_eq!(reason(&Problem::numbered(1043)), None);
    }
}
