//! Packed batches: the body goes to its branch as it came; only a batch for several branches is taken apart.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use skerry_book::actor::Role;
use skerry_book::packed;
use skerry_branch::api::{Body, Reply};
use skerry_ledger::Flags;

use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::said;
use crate::extract::Raw;
use crate::gateway::{Gateway, Shared};
use crate::problem::Problem;

/// Decides a packed batch.
///
/// # Errors
///
/// `packed_malformed`, `batch_too_large`, or what keeps a branch from answering; then nothing more is tried.
pub(super) async fn batch(gateway: &Shared, caller: &Caller, raw: &Raw) -> Result<Response, Problem> {
    let body = &raw.body.bytes;
    let malformed =
        |error: packed::PackedError| Problem::numbered(catalogue::PACKED_MALFORMED).detail(error.to_string());
    let records = packed::records(body).map_err(malformed)?;
    if records.is_empty() {
        return Ok(packed_answer(Bytes::new()));
    }
    if records.len() > gateway.limits.batch_transfers {
        return Err(super::transfers::too_many(gateway));
    }
    if !caller.is_unlimited() {
        check_flags(caller, records)?;
    }
    if caller.role() == Role::Customer {
        resolves_nothing(records)?;
    }
    let first = branch_of(&records[0]);
    if records.iter().all(|record| branch_of(record) == first) {
        // The usual case, and the fast one: the body goes to its branch as it came.
        is_here(gateway, first, 0)?;
        let results = send_packed(gateway, caller, first, raw.digest, body.clone()).await?;
        return Ok(packed_answer(results));
    }
    scattered(gateway, caller, raw.digest, records).await.map(packed_answer)
}

fn packed_answer(results: Bytes) -> Response {
    let mut response = results.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(packed::MEDIA_TYPE));
    response
}

/// The branch of the debit account, or of the credit account when debit is not said.
fn branch_of(record: &[u8; packed::TRANSFER_LENGTH]) -> u16 {
    match u16::from_le_bytes([record[22], record[23]]) {
        0 => u16::from_le_bytes([record[30], record[31]]),
        branch => branch,
    }
}

fn flags_of(record: &[u8; packed::TRANSFER_LENGTH]) -> Flags {
    Flags(u32::from_le_bytes([record[44], record[45], record[46], record[47]]))
}

/// Whether the record with this index names a branch that this bank has.
fn is_here(gateway: &Gateway, branch: u16, index: usize) -> Result<(), Problem> {
    if branch == 0 {
        return Err(Problem::numbered(DEBIT_MISSING)
            .detail(said!(
                "the debit account tells the branch, of a post or a void too",
                "借方账户指明分行，入账和撤销也是如此"
            ))
            .field("debit")
            .at("transfers", index));
    }
    gateway.bank.seat(branch).map(drop).map_err(|problem| problem.field("debit").at("transfers", index))
}

/// The ledger's number for a transfer without an account to debit.
const DEBIT_MISSING: u16 = 1041;

/// Customers end holds one by one: whether they may is asked of each.
fn resolves_nothing(records: &[[u8; packed::TRANSFER_LENGTH]]) -> Result<(), Problem> {
    let resolve = Flags::POST.with(Flags::VOID);
    match records.iter().position(|record| flags_of(record).overlaps(resolve)) {
        None => Ok(()),
        Some(index) => Err(Problem::numbered(catalogue::OUT_OF_SCOPE)
            .detail(said!("customers post and void by JSON", "客户须以 JSON 入账和撤销"))
            .field("flags")
            .at("transfers", index)),
    }
}

/// A token that names its operations must name these too.
fn check_flags(caller: &Caller, records: &[[u8; packed::TRANSFER_LENGTH]]) -> Result<(), Problem> {
    for (flag, operation) in
        [(Flags::IMPORTED, Operation::Import), (Flags::REVERSAL, Operation::TransfersReverse)]
    {
        if caller.may(operation).is_err()
            && let Some(index) = records.iter().position(|record| flags_of(record).has(flag))
        {
            return caller.may(operation).map_err(|problem| problem.field("flags").at("transfers", index));
        }
    }
    Ok(())
}

async fn send_packed(
    gateway: &Gateway,
    caller: &Caller,
    branch: u16,
    digest: [u8; 16],
    body: Bytes,
) -> Result<Bytes, Problem> {
    caller.may_in(branch)?;
    match gateway.bank.ask(branch, caller, digest, Body::Packed(body)).await? {
        Reply::Packed(packed) => Ok(packed.results),
        _ => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

/// A batch for several branches: taken apart by chains, sent, and put together again in order. If one branch cannot be
/// asked the whole call is a problem; a retry answers what the others did.
async fn scattered(
    gateway: &Gateway,
    caller: &Caller,
    digest: [u8; 16],
    records: &[[u8; packed::TRANSFER_LENGTH]],
) -> Result<Bytes, Problem> {
    let mut parts: Vec<(u16, Vec<usize>, BytesMut)> = Vec::new();
    let mut chain: Option<u16> = None;
    for (index, record) in records.iter().enumerate() {
        let branch = chain.unwrap_or_else(|| branch_of(record));
        chain = flags_of(record).has(Flags::LINKED).then_some(branch);
        let part = match parts.iter_mut().find(|(of, ..)| *of == branch) {
            Some(part) => part,
            None => {
                caller.may_in(branch)?;
                is_here(gateway, branch, index)?;
                parts.push((branch, Vec::new(), BytesMut::new()));
                parts.last_mut().expect("one was just pushed")
            }
        };
        part.1.push(index);
        part.2.extend_from_slice(record);
    }
    let mut results = BytesMut::zeroed(records.len() * packed::RESULT_LENGTH);
    for (branch, indexes, body) in parts {
        let answer = send_packed(gateway, caller, branch, digest, body.freeze()).await?;
        for (result, index) in answer.chunks_exact(packed::RESULT_LENGTH).zip(indexes) {
            let at = index * packed::RESULT_LENGTH;
            results[at..at + packed::RESULT_LENGTH].copy_from_slice(result);
        }
    }
    Ok(results.freeze())
}
