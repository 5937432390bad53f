//! Payments as ISO 20022: a `pain.001` in, a `pain.002` out.

use axum::extract::State;
use axum::http::header;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::transfers::Part;
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::derived;
use crate::detail::said;
use crate::extract::{Key, Raw, is_xml};
use crate::gateway::Shared;
use crate::iso20022::initiation::{self, Initiation, Payment, Wanted};
use crate::iso20022::status;
use crate::notes;
use crate::problem::{Language, Problem};
use crate::text;

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(initiate))
}

/// Start payments by ISO 20022
///
/// A `pain.001.001.09` whose accounts are named by `Othr/Id`. Each of its transfers is decided by itself and told in the
/// `pain.002.001.10` that answers. The same message again does nothing twice: a transfer is known by `MsgId`, `PmtInfId` and its
/// place. `EndToEndId` becomes the reference, `Ustrd` the note.
#[utoipa::path(
    post, path = "/v1/payment-initiations", tag = "transfers",
    request_body(content = String, content_type = "application/xml"),
    responses(
        (status = 200, description = "Decided, each for itself", body = String, content_type = "application/xml"),
        (status = "default", description = "Nothing was tried", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn initiate(State(gateway): State<Shared>, caller: Caller, raw: Raw) -> Result<Response, Problem> {
    caller.may(Operation::TransfersWrite)?;
    if !is_xml(&raw.headers) {
        return Err(Problem::numbered(catalogue::UNSUPPORTED_MEDIA_TYPE)
            .detail(said!("send application/xml", "请发送 application/xml")));
    }
    let initiation = initiation::read(&raw.body.bytes, gateway.limits.batch_transfers)?;
    let results = decide(&gateway, &caller, raw.digest, &initiation).await;
    let accept = raw.headers.get(header::ACCEPT_LANGUAGE);
    let language = accept.and_then(|value| value.to_str().ok()).map_or(Language::English, Language::of);
    let id = text::hex(&raw.digest);
    let report = status::report(&initiation, &results, &id, text::now_us(), language);
    Ok(super::statements::xml(report))
}

/// What became of each transfer, in the message's order.
async fn decide(
    gateway: &Shared,
    caller: &Caller,
    digest: [u8; 16],
    initiation: &Initiation,
) -> Vec<status::Result> {
    let mut results: Vec<Option<status::Result>> = Vec::new();
    let mut parts: Vec<Part> = Vec::new();
    for payment in &initiation.payments {
        let key = Key::of_payment(&initiation.message, &payment.id);
        for (nth, wanted) in payment.transfers.iter().enumerate() {
            let index = results.len();
            let taken = take(gateway, caller, (payment, &key, nth, wanted), (&mut parts, index)).await;
            results.push(taken.err().map(Err));
        }
    }
    for part in parts {
        part.decide(gateway, caller, digest, &mut results).await;
    }
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(|| Err(Problem::numbered(catalogue::INTERNAL))))
        .collect()
}

/// Puts a transfer into the part of its branch, as the `index`-th of all.
async fn take(
    gateway: &Shared,
    caller: &Caller,
    (payment, key, nth, wanted): (&Payment, &Key, usize, &Wanted),
    (parts, index): (&mut Vec<Part>, usize),
) -> Result<(), Problem> {
    let wish = wanted.transfer.as_ref().map_err(Problem::clone)?;
    let branch = wish.branch()?;
    caller.may_in(branch)?;
    let open = super::open_day(gateway, branch).await?;
    if payment.on > open {
        return Err(Problem::numbered(catalogue::INVALID_FIELD)
            .field("PmtInf.ReqdExctnDt")
            .detail(said!(
                "orders for later days are not kept: the open business day is {open}",
                "不保留以后日期的指令：当前营业日为 {open}"
            ))
            .figures(open.to_string(), payment.on.to_string()));
    }
    let id = derived::by_key(gateway, caller, branch, key, nth).await?;
    let (mut asked, echo) = wish.asked(branch, Some(id))?;
    if let Some(note) = &wish.note {
        let sealing =
            notes::seal(gateway, caller, branch, std::slice::from_mut(&mut asked), vec![(0, note.clone())]);
        sealing.await.map_err(|(_, problem)| problem)?;
    }
    Part::in_branch(parts, branch).push(index, asked, echo, None);
    Ok(())
}
