//! What handlers take: the caller, parameters, and bodies with their digest.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::auth::{Caller, ClientCertificate};
use crate::body::{self, Whole};
use crate::catalogue;
use crate::config::SMALL_BODY;
use crate::detail::said;
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::{random, text, traces};

/// The header of idempotency keys.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header that says `true` where the answer is a retry's: nothing was done this time.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, Problem> {
        let certificate = parts.extensions.get::<ClientCertificate>().copied();
        let now_s = text::now_us() / 1_000_000;
        let caller = Self::authenticate(&parts.headers, certificate, &gateway.tokens, now_s)?;
        traces::note_principal(caller.role().name());
        Ok(caller)
    }
}

/// What a caller showed, so that it can be looked at again later: streams outlive tokens.
#[derive(Debug)]
pub struct Standing {
    shown: HeaderMap,
    certificate: Option<ClientCertificate>,
}

impl Standing {
    /// The caller, if what was shown still holds.
    ///
    /// # Errors
    ///
    /// As [`Caller::authenticate`].
    pub(crate) fn caller(&self, gateway: &Shared) -> Result<Caller, Problem> {
        Caller::authenticate(&self.shown, self.certificate, &gateway.tokens, text::now_us() / 1_000_000)
    }
}

impl FromRequestParts<Shared> for Standing {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let authorization = parts.headers.get(header::AUTHORIZATION).cloned();
        let shown = authorization.map(|value| (header::AUTHORIZATION, value)).into_iter().collect();
        Ok(Self { shown, certificate: parts.extensions.get::<ClientCertificate>().copied() })
    }
}

/// Query parameters, unknown ones refused.
#[derive(Debug)]
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        read_parameters(&parts.uri).map(Self)
    }
}

fn read_parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    Query::<T>::try_from_uri(uri).map(|query| query.0).map_err(|rejection| {
        let text = rejection.body_text();
        let text = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, rest)| rest);
        let text: String = text.chars().take(300).collect();
        let named = text.split('`').nth(1).filter(|_| text.contains("field `"));
        let field = named.or_else(|| text.split_once(": ").map(|(field, _)| field)).unwrap_or("").to_owned();
        Problem::numbered(catalogue::INVALID_QUERY).detail(text).field(field)
    })
}

/// A body as bytes with what makes a request the same request.
#[derive(Debug)]
pub struct Raw {
    /// The bytes, and the room they hold.
    pub body: Whole,
    /// The headers.
    pub headers: HeaderMap,
    /// Keyed digest of method, path and body: the request as it is journaled, approved and told from others.
    pub digest: [u8; 16],
}

impl FromRequest<Shared> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, gateway: &Shared) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let packed = is_packed(&parts.headers);
        let most = if packed { gateway.limits.packed_bytes } else { gateway.limits.json_bytes };
        // A connection of HTTP/2 has many requests at once, and memory for one small body only.
        let free = if parts.version == Version::HTTP_2 { 0 } else { SMALL_BODY };
        let mut body = body;
        let read = body::read(&mut body, most, free, gateway.limits.body, &gateway.room).await;
        let refused = read.as_ref().is_err_and(|problem| problem.number() == catalogue::BODY_TOO_LARGE);
        // Who asked first (RFC 9110, 10.1.1) has not sent it.
        if refused && !parts.headers.contains_key(header::EXPECT) {
            tokio::spawn(body::discard(body, gateway.limits.body));
        }
        let body = read?;
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let digest =
            gateway.digests.request(&[parts.method.as_str().as_bytes(), path.as_bytes(), &body.bytes]);
        Ok(Self { body, headers: parts.headers, digest })
    }
}

/// Whether the body says that it is packed transfers.
#[must_use]
pub fn is_packed(headers: &HeaderMap) -> bool {
    media_type(headers) == Some(skerry_book::packed::MEDIA_TYPE)
}

/// Whether the body says that it is XML.
#[must_use]
pub fn is_xml(headers: &HeaderMap) -> bool {
    media_type(headers)
        .is_some_and(|kind| matches!(kind, "application/xml" | "text/xml") || kind.ends_with("+xml"))
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or("").trim())
}

/// A JSON body with its digest and idempotency key.
#[derive(Debug)]
pub struct Posted<T> {
    /// What was sent.
    pub body: T,
    /// The request's digest.
    pub digest: [u8; 16],
    /// The client's key, if it sent one.
    pub key: Option<Key>,
}

impl<T: DeserializeOwned> FromRequest<Shared> for Posted<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, gateway: &Shared) -> Result<Self, Problem> {
        let raw = Raw::from_request(request, gateway).await?;
        Self::read(&raw)
    }
}

impl<T: DeserializeOwned> Posted<T> {
    /// Reads a raw body as JSON.
    ///
    /// # Errors
    ///
    /// `unsupported_media_type`, `invalid_idempotency_key`, or what is wrong with the JSON.
    pub fn read(raw: &Raw) -> Result<Self, Problem> {
        if !media_type(&raw.headers)
            .is_none_or(|kind| kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json"))
        {
            return Err(Problem::numbered(catalogue::UNSUPPORTED_MEDIA_TYPE)
                .detail(said!("send application/json", "请发送 application/json")));
        }
        let key = Key::of(&raw.headers)?;
        Ok(Self { body: body::parse(&raw.body.bytes)?, digest: raw.digest, key })
    }

    /// The client's key, or one made here that the answer then names.
    #[must_use]
    pub fn key_or_new(&self) -> Key {
        self.key.clone().unwrap_or_else(Key::made)
    }
}

/// A request that may come without a body: `{}` and nothing are the same.
#[derive(Debug)]
pub struct Maybe<T>(pub Posted<T>);

impl<T: DeserializeOwned + Default> FromRequest<Shared> for Maybe<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, gateway: &Shared) -> Result<Self, Problem> {
        let raw = Raw::from_request(request, gateway).await?;
        if raw.body.bytes.is_empty() {
            let key = Key::of(&raw.headers)?;
            return Ok(Self(Posted { body: T::default(), digest: raw.digest, key }));
        }
        Posted::read(&raw).map(Self)
    }
}

/// An idempotency key: 1 to 255 visible characters of ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(Bytes);

impl Key {
    /// The longest key.
    pub const LENGTH_MAX: usize = 255;

    fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let wrong =
            |detail| Err(Problem::numbered(catalogue::INVALID_KEY).field("Idempotency-Key").detail(detail));
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return wrong(said!("the header is given twice", "该请求头出现了两次"));
        }
        let bytes = value.as_bytes();
        if bytes.is_empty() || bytes.len() > Self::LENGTH_MAX || !bytes.iter().all(u8::is_ascii_graphic) {
            return wrong(said!("1 to 255 visible characters of ASCII", "1 至 255 个可见 ASCII 字符"));
        }
        Ok(Some(Self(Bytes::copy_from_slice(bytes))))
    }

    /// A fresh one: random, so that it never meets another.
    #[must_use]
    pub fn made() -> Self {
        Self(text::hex(&random::bytes::<16>()).into())
    }

    /// One that follows from what is imported and its cause, so that customers and accounts may share causes.
    #[must_use]
    pub fn caused(kind: &str, cause: &str) -> Self {
        Self(Bytes::from(format!("import:{kind}:{cause}")))
    }

    /// That of a payment in a message of ISO 20022. A header's key has no spaces, so it is never the same.
    #[must_use]
    pub fn of_payment(message: &str, payment: &str) -> Self {
        Self(Bytes::from(format!("pain.001 {} {message} {payment}", message.len())))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As the book takes it.
    #[must_use]
    pub fn boxed(&self) -> Box<[u8]> {
        self.0.as_ref().into()
    }

    /// As a header of the answer.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Page {
        #[serde(default)]
        limit: Option<u16>,
    }

    fn parameters(query: &str) -> Result<Page, (u16, String)> {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        read_parameters::<Page>(&uri).map_err(|problem| {
            let document = problem.document(crate::problem::Language::English);
            (document.number, document.field.unwrap_or("").to_owned())
        })
    }

    #[test]
    fn parameters_are_strict_and_named() {
        assert_eq!(parameters("limit=5").unwrap().limit, Some(5));
        assert_eq!(parameters("").unwrap().limit, None);
        assert_eq!(parameters("limit=x").unwrap_err(), (catalogue::INVALID_QUERY, "limit".into()));
        assert_eq!(parameters("limt=5").unwrap_err(), (catalogue::INVALID_QUERY, "limt".into()));
        assert_eq!(parameters("limit=5&limit=6").unwrap_err().0, catalogue::INVALID_QUERY);
    }

    #[test]
    fn keys_are_visible_short_and_single() {
        let mut headers = HeaderMap::new();
        assert_eq!(Key::of(&headers).unwrap(), None);
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("k-1"));
        assert_eq!(Key::of(&headers).unwrap().unwrap().bytes(), b"k-1");
        headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static("k-2"));
        assert!(Key::of(&headers).is_err());
        for wrong in ["", "with space", &"x".repeat(256)] {
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(wrong).unwrap());
            assert!(Key::of(&headers).is_err(), "{wrong:?}");
        }
    }
}
