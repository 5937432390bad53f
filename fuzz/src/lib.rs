//! One function for every edge that parses bytes: it must refuse or accept, and whatever it accepts it must write
//! back the same. The fuzzing engine calls them with the kept corpus first, then with new bytes.

use skerry_book::{Seed, actor, packed, record};
use skerry_branch::api::GatewayKey;
use skerry_branch::channels::message;
use skerry_bus::{Extra, Name, Pattern, Subject, TraceContext};
use skerry_gateway::events::cursor::Cursor;
use skerry_gateway::iso20022::{initiation, status, tree};
use skerry_gateway::oidc::{ClaimNames, OidcSettings, claims, jwt, keys};
use skerry_gateway::problem::{Language, Problem};
use skerry_gateway::wire::transfers::TransferIn;
use skerry_money::{AccountNumber, Amount, Balance, Currency, CustomerNumber, Date};
use skerry_node::remote::wire::{self, AskFrame, Here, Told, ToldFrame, Word};
use skerry_proof::Rotation;
use skerry_proof::batch::{BatchHeader, HEADER_LENGTH};
use skerry_signers::answer::{parse_request, request};
use skerry_signers::{Answer, KeyFile, SealedKey};

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
    if let Ok(receipt) = skerry_proof::receipt::Receipt::decode(bytes) {
        assert_eq!(receipt.encode(), bytes, "a receipt that is read is written the same");
    }
    if let Ok(signed) = skerry_proof::checkpoint::SignedCheckpoint::decode(bytes) {
        assert_eq!(signed.encode(), bytes, "a checkpoint that is read is written the same");
    }
}

/// A key file, a signing command's answer and the request to it, a key rotation.
pub fn signers(bytes: &[u8]) {
    if let Ok(sealed) = SealedKey::decode(bytes) {
        assert_eq!(sealed.encode(), bytes, "a sealed key that is read is written the same");
    }
    if let Ok(KeyFile::Plain(algorithm, secret)) = KeyFile::parse(bytes) {
        let text = KeyFile::plain_text(algorithm, &secret);
        assert_eq!(text.as_bytes(), bytes.trim_ascii().to_ascii_lowercase(), "and so is a plain one");
    }
    if let Ok(answer) = Answer::parse(bytes) {
        assert_eq!(Answer::parse(answer.line().as_bytes()), Ok(answer), "an answer is one again");
    }
    if let Some((key, message)) = std::str::from_utf8(bytes).ok().and_then(parse_request) {
        assert_eq!(parse_request(&request(key, &message)), Some((key, message)), "a request is one again");
    }
    if let Ok(rotation) = Rotation::decode(bytes) {
        assert_eq!(rotation.encode(), bytes, "a rotation that is read is written the same");
    }
}

/// What one branch says to another: as it comes, and as if its seal were good.
pub fn channel(bytes: &[u8]) {
    assert!(message::open(bytes, &GatewayKey::new([7; 32])).is_err(), "nobody sealed this");
    assert!(message::head(bytes, &GatewayKey::new([7; 32])).is_err(), "and nobody carries it");
    assert!(message::weight(bytes) > 0, "whatever it is, it takes room in the queue");
    if let Ok((header, said)) = message::read(bytes) {
        assert_eq!(header.write(&said), bytes, "a message that is read is written the same");
        let key = GatewayKey::new([7; 32]);
        assert_eq!(message::head(&header.seal(&said, &key), &key), Ok(header), "and carried as it says");
    }
}

/// A record of the embedded directory, a header or frame of its log, the names and places in its rows.
pub fn directory(bytes: &[u8]) {
    if let Some((record, taken)) = skerry_directory::record::decode(bytes) {
        let mut again = Vec::new();
        assert_eq!(skerry_directory::record::encode(&record, &mut again), taken);
        assert_eq!(again, bytes[..taken], "a record that is read is written the same: {record:?}");
    }
    let _refused = skerry_directory::log::is_read(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(name) = skerry_directory::Name::new(text) {
            assert_eq!(name.as_str(), text);
        }
        if let Ok(place) = skerry_directory::Where::new(text) {
            assert_eq!(place.as_str(), text);
        }
    }
}

/// A message of ISO 20022 that starts payments.
pub fn iso20022(bytes: &[u8]) {
    if let Ok(initiation) = initiation::read(bytes, 100) {
        assert!((1..=100).contains(&initiation.count()));
        let results: Vec<_> = (0..initiation.count()).map(|_| Err(Problem::numbered(5030))).collect();
        let report = status::report(&initiation, &results, "R", 0, Language::Chinese);
        let (root, _) = tree::parse(&report).expect("a report is XML whatever it repeats");
        let payments = &root.children[0].children;
        assert_eq!(payments.len(), 2 + initiation.payments.len(), "and tells of each payment");
    }
}

/// How far somebody has read.
pub fn cursor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(cursor) = Cursor::parse(text) {
        assert_eq!(cursor.to_string(), text, "a cursor that is read is written the same");
        assert!(cursor.places().all(|(branch, place)| (1..=9_999).contains(&branch) && place.incarnation > 0));
    }
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

/// A bearer token that is not one of ours, a set of keys, and claims: the same bytes as each of the three.
pub fn oidc(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(token) = jwt::Token::parse(text) {
            assert!(text.len() <= jwt::LENGTH_MAX && text.as_bytes().starts_with(token.message));
            let signature = &text[token.message.len() + 1..];
            assert_eq!(jwt::base64url(signature), Some(token.signature), "what was read is read again the same");
            claims_of(&token.claims);
        }
    }
    if let Ok(keys) = keys::parse(bytes) {
        assert!(keys.len() <= keys::KEYS_MAX);
        for key in keys {
            assert!(!key.verifies(b"a message", bytes), "nobody signed this");
        }
    }
    claims_of(bytes);
}

fn claims_of(bytes: &[u8]) {
    let settings = OidcSettings {
        issuer: "https://login.example".to_owned(),
        audience: "bank".to_owned(),
        jwks: "unused".into(),
        algorithms: Vec::new(),
        leeway_s: 60,
        roles: vec![skerry_book::Role::Service, skerry_book::Role::Customer],
        claims: ClaimNames::default(),
    };
    if let Ok(grant) = claims::read(bytes, &settings, 1_800_000_000) {
        assert!(settings.roles.contains(&grant.role), "only roles that the issuer may give");
        assert!(grant.expires_s.is_some_and(|ends| ends > 1_800_000_000), "what is taken ends, and not before now");
        assert!(grant.role != skerry_book::Role::Customer || grant.customer.is_some(), "a customer is somebody");
    }
}

/// What the bus reads from outside: a subject, a pattern, a name and a trace, a line each, then headers with a colon.
pub fn bus(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let subject = lines.next().and_then(|line| Subject::new(line).ok());
    let pattern = lines.next().and_then(|line| Pattern::new(line).ok());
    if let (Some(subject), Some(pattern)) = (subject, pattern) {
        let heard = pattern.hears(&subject);
        assert_eq!(heard, pattern.overlaps(&Pattern::from(subject)), "{subject} {pattern}");
        assert!(Pattern::all().hears(&subject) && Pattern::from(subject).hears(&subject));
    }
    if let Some(name) = lines.next().and_then(|line| Name::new(line).ok()) {
        assert!(Subject::new(name.as_str()).is_ok(), "a name is a token");
    }
    if let Some(trace) = lines.next().and_then(TraceContext::parse) {
        assert_eq!(TraceContext::parse(&trace.to_string()), Some(trace));
    }
    let mut extra = Extra::default();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if extra.insert(name, value).is_ok() {
            assert_eq!(extra.get(name), Some(value));
        }
    }
    assert_eq!(extra.bytes(), extra.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>());
}

/// What gateways and the processes that hold branches say to each other. The seal is left out: the engine would never find it.
pub fn seat(bytes: &[u8]) {
    let key = GatewayKey::new([7; 32]);
    let _refused = wire::decode::<AskFrame>(bytes, &key).is_ok();
    let Some((kind, body)) = bytes.split_first() else { return };
    match kind {
        1 => drop(said_the_same::<AskFrame>(body, &key)),
        2 => {
            let Some(frame) = said_the_same::<ToldFrame>(body, &key) else { return };
            match frame.told {
                Told::Records(records) => records.into_iter().for_each(|record| drop(record.read())),
                Told::SigningKeys(Some(keys)) => drop(keys.read()),
                _ => (),
            }
        }
        _ => drop(said_the_same::<Here>(body, &key)),
    }
}

fn said_the_same<W: Word>(body: &[u8], key: &GatewayKey) -> Option<W> {
    let word = W::read(body).ok()?;
    let said = wire::encode(&word, key);
    let again = wire::decode::<W>(&said, key).expect("what is said can be read");
    assert_eq!(wire::encode(&again, key), said, "what is read is said the same");
    Some(word)
}
