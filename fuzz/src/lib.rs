//! One function for every edge that parses bytes: it must refuse or accept, and whatever it accepts it must write
//! back the same. The fuzzing engine calls them with new bytes, `cargo test` with the kept corpus.

use skerry_book::{Seed, actor, packed, record};
use skerry_gateway::wire::transfers::TransferIn;
use skerry_money::{AccountNumber, Amount, Balance, Currency, CustomerNumber, Date};
use skerry_proof::batch::{BatchHeader, HEADER_LENGTH};

/// The edges, by name, for the corpus replay.
pub const EDGES: &[(&str, fn(&[u8]))] =
    &[("journal", journal), ("packed", packed), ("json", json), ("numbers", numbers), ("amounts", amounts)];

/// A batch as it lies in a journal, the records in it, a table of actors, receipts and checkpoints.
pub fn journal(bytes: &[u8]) {
    if let Ok(header) = BatchHeader::decode(bytes) {
        assert_eq!(header.encode()[..], bytes[..HEADER_LENGTH], "a header that is read is written the same");
        if let Some(body) = bytes.get(HEADER_LENGTH..) {
            let _refused = header.verify_body(body, &mut Vec::new());
            if let Ok(body) = header.split(body) {
                for index in 0..header.record_count.min(64) {
                    if let Some((fixed, tail)) = body.record(index) {
                        let _refused = record::decode(fixed, tail.unwrap_or_default(), Date(header.business_date));
                    }
                }
            }
        }
    }
    if let Some((fixed, tail)) = bytes.split_first_chunk::<112>() {
        let day = Date(20_000);
        if let Ok(decoded) = record::decode(fixed, tail, day) {
            let (mut again, mut tail_again) = ([0; 112], Vec::new());
            record::encode(&decoded.event, decoded.actor, &mut again, &mut tail_again);
            assert_eq!(&again, fixed, "a record that is read is written the same: {decoded:?}");
        }
    }
    let _refused = actor::decode_table(bytes);
    let _refused = skerry_proof::receipt::Receipt::decode(bytes);
    let _refused = skerry_proof::checkpoint::SignedCheckpoint::decode(bytes);
}

/// Packed transfers of 96 bytes.
pub fn packed(bytes: &[u8]) {
    let seed = Seed::new([7; 32]);
    let Ok(records) = packed::records(bytes) else {
        assert_ne!(bytes.len() % packed::TRANSFER_LENGTH, 0, "whole records are refused one by one");
        return;
    };
    for (index, bytes) in records.iter().enumerate() {
        if let Ok(transfer) = packed::decode(index, bytes, &seed) {
            let mut again = [0; packed::TRANSFER_LENGTH];
            packed::encode(&transfer, &mut again);
            assert_eq!(&again, bytes, "a transfer that is read is written the same");
        }
    }
}

/// A transfer as JSON.
pub fn json(bytes: &[u8]) {
    if let Ok(transfer) = skerry_gateway::body::parse::<TransferIn>(bytes) {
        if let Ok(branch) = transfer.branch() {
            let _refused = transfer.asked(branch, Some(1));
        }
    }
}

/// Account and customer numbers.
pub fn numbers(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(number) = AccountNumber::parse(text) {
        assert_eq!(number.to_string(), text);
        assert_eq!(text.parse::<u64>().unwrap() % 97, 1, "check digits");
    }
    if let Ok(number) = CustomerNumber::parse(text) {
        assert_eq!(number.to_string(), text);
    }
    let _refused = Date::parse(text);
}

/// Amounts and balances: the first byte chooses the currency.
pub fn amounts(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let currency = Currency::all().nth(usize::from(*first) % Currency::all().count()).unwrap();
    if let Ok(amount) = Amount::parse(text, currency) {
        let written = amount.to_string();
        let digits = written.split(' ').find(|part| part.starts_with(|c: char| c.is_ascii_digit())).unwrap();
        assert_eq!(Amount::parse(digits, currency), Ok(amount), "{text} was written {written}");
    }
    if let Ok(balance) = Balance::parse(text, currency) {
        assert_eq!(balance.currency(), currency);
    }
}
