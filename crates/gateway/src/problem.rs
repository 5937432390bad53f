//! Problem documents (RFC 9457): what a client is told when the answer is no.
//!
//! A handler returns a [`Problem`]; the outermost layer renders it in the client's language, so nobody
//! in between needs to know which. The number and `code` are the API; titles and details may change.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::catalogue::{self, Entry};
use crate::detail::Detail;

/// A language that titles exist in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English, the default.
    English,
    /// Simplified Chinese.
    Chinese,
}

impl Language {
    /// The better of the two by an `Accept-Language` header (RFC 9110, 12.5.4): the highest weight wins,
    /// the first of equals, English if neither is named.
    #[must_use]
    pub fn of(accept: &str) -> Self {
        let mut best = (Self::English, 0_u16);
        for range in accept.split(',').take(16) {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or("").trim();
            let language = match tag.get(..2).map(str::to_ascii_lowercase).as_deref() {
                Some("zh") => Self::Chinese,
                Some("en") => Self::English,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.trim().strip_prefix("q=")).map_or(1_000, thousandths);
            if weight > best.1 {
                best = (language, weight);
            }
        }
        best.0
    }

    /// Its tag (RFC 5646).
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-CN",
        }
    }
}

/// A weight such as `0.85` in thousandths; rubbish weighs nothing.
fn thousandths(text: &str) -> u16 {
    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    match (whole.parse::<u16>(), digits.parse::<u16>()) {
        (Ok(whole), Ok(part)) if whole <= 1 => (whole * 1_000 + part).min(1_000),
        _ => 0,
    }
}

/// The wait that is named where nobody knows a better one.
const RETRY_AFTER_MS: u32 = 1_000;

/// A problem on its way to a client. Boxed: it is the rare arm of every handler's result.
#[derive(Debug, Clone)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    entry: &'static Entry,
    status: Option<StatusCode>,
    detail: Option<Detail>,
    field: Option<Cow<'static, str>>,
    figures: Option<Figures>,
    existing: Option<String>,
    request: Option<String>,
    retry_after_ms: Option<u32>,
}

/// What there was and what was needed, in the unit of `field`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Figures {
    /// What there is.
    pub have: String,
    /// What it takes.
    pub need: String,
}

/// The document itself, as RFC 9457 lays it out with our members.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProblemDocument<'a> {
    /// The page that explains it: `/docs/errors/<number>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One line in the language of `Accept-Language` (English or zh-CN).
    pub title: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// The stable name to match on.
    pub code: &'a str,
    /// The stable number of the same.
    pub number: u16,
    /// What exactly, in the same language; some of it is known in English alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// The field of the request that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// The figures that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<&'a Figures>,
    /// The id of what exists already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing: Option<&'a str>,
    /// For `needs_approval`: the digest of the request, to be proposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<&'a str>,
    /// Milliseconds after which a retry makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
}

impl Problem {
    /// The problem with this number.
    #[must_use]
    pub fn numbered(number: u16) -> Self {
        Self::of(catalogue::entry(number))
    }

    /// The problem of this catalogue entry.
    #[must_use]
    pub fn of(entry: &'static Entry) -> Self {
        Self(Box::new(Inner {
            entry,
            status: None,
            detail: None,
            field: None,
            figures: None,
            existing: None,
            request: None,
            retry_after_ms: None,
        }))
    }

    /// Says what exactly.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Detail>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Names the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        let field = field.into();
        self.0.field = (!field.is_empty()).then_some(field);
        self
    }

    /// Puts the index of a list before the field: `transfers[3].amount`.
    #[must_use]
    pub fn at(mut self, list: &str, index: usize) -> Self {
        let field = self.0.field.take();
        self.0.field = Some(Cow::Owned(match field {
            Some(field) => format!("{list}[{index}].{field}"),
            None => format!("{list}[{index}]"),
        }));
        self
    }

    /// Adds the figures.
    #[must_use]
    pub fn figures(mut self, have: String, need: String) -> Self {
        self.0.figures = Some(Figures { have, need });
        self
    }

    /// Names what exists.
    #[must_use]
    pub fn existing(mut self, id: String) -> Self {
        self.0.existing = Some(id);
        self
    }

    /// Names the request that needs approval.
    #[must_use]
    pub fn request(mut self, digest: String) -> Self {
        self.0.request = Some(digest);
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, milliseconds: u32) -> Self {
        self.0.retry_after_ms = Some(milliseconds.max(1));
        self
    }

    /// When a retry makes sense: every answer that asks for one says so.
    fn retry_after(&self) -> Option<u32> {
        let asks = matches!(self.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        self.0.retry_after_ms.or_else(|| asks.then_some(RETRY_AFTER_MS))
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.0.entry.number
    }

    /// The field it names; empty if none.
    #[must_use]
    pub fn field_name(&self) -> &str {
        self.0.field.as_deref().unwrap_or("")
    }

    /// The customer that it says exists.
    #[must_use]
    pub fn existing_id(&self) -> Option<Result<skerry_money::CustomerNumber, skerry_money::NumberError>> {
        self.0.existing.as_deref().map(skerry_money::CustomerNumber::parse)
    }

    fn detail_in(&self, language: Language) -> Option<&str> {
        self.0.detail.as_ref().map(|detail| detail.text(language))
    }

    /// What exactly, in English.
    pub(crate) fn told(&self) -> String {
        self.detail_in(Language::English).unwrap_or(self.0.entry.title_en).to_owned()
    }

    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.entry.code
    }

    /// The status it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status.unwrap_or_else(|| self.0.entry.status())
    }

    /// The document in `language`.
    #[must_use]
    pub fn document(&self, language: Language) -> ProblemDocument<'_> {
        let entry = self.0.entry;
        ProblemDocument {
            kind: format!("/docs/errors/{}", entry.number),
            title: entry.title(language),
            status: self.status().as_u16(),
            code: entry.code,
            number: entry.number,
            detail: self.detail_in(language),
            field: self.0.field.as_deref(),
            figures: self.0.figures.as_ref(),
            existing: self.0.existing.as_deref(),
            request: self.0.request.as_deref(),
            retry_after_ms: self.retry_after(),
        }
    }

    /// The whole response in `language`.
    #[must_use]
    pub fn render(&self, language: Language) -> Response {
        let body = serde_json::to_vec(&self.document(language)).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        if let Some(milliseconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1_000)));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"skerry\""));
        }
        response
    }
}

impl IntoResponse for Problem {
    /// An empty response that carries the problem; the outermost layer renders it.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heavier_language_wins() {
        assert_eq!(Language::of("zh-CN,zh;q=0.9,en;q=0.8"), Language::Chinese);
        assert_eq!(Language::of("en-GB, zh;q=0.99"), Language::English);
        assert_eq!(Language::of("fr, zh;q=0.2, en;q=0.1"), Language::Chinese);
        assert_eq!(Language::of("zh;q=0"), Language::English);
        assert_eq!(Language::of("*"), Language::English);
        assert_eq!(Language::of(";;;,,é,zh;q=x"), Language::English);
    }

    #[test]
    fn whatever_asks_for_a_retry_says_when() {
        for entry in catalogue::all() {
            let asks = matches!(entry.status().as_u16(), 429 | 503);
            let response = Problem::of(entry).render(Language::English);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), asks, "{}", entry.code);
        }
    }

    #[test]
    fn a_problem_says_what_it_knows_and_no_more() {
        let problem = Problem::numbered(catalogue::BUSY).retry_after_ms(1_500).field("");
        let text = serde_json::to_string(&problem.document(Language::English)).unwrap();
        assert!(text.contains(r#""code":"busy""#) && text.contains(r#""retry_after_ms":1500"#), "{text}");
        assert!(!text.contains("field") && !text.contains("figures"), "{text}");
        let response = problem.render(Language::Chinese);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_LANGUAGE], "zh-CN");
    }
}
