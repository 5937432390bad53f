//! The client: calls by method and path, JSON both ways, retries, a pool of connections.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connection::{Address, Connection, trust};
use crate::error::{Error, Problem};
use crate::packed;

/// How to reach a bank.
#[derive(Debug, Clone)]
pub struct Options {
    /// `http://host:port` or `https://host:port`.
    pub server: String,
    /// The bearer token.
    pub token: Option<String>,
    /// PEM file of the certificates to trust, for `https`.
    pub certificate: Option<PathBuf>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How often a call that may be retried is tried again.
    pub retries: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            server: "http://127.0.0.1:7117".to_owned(),
            token: None,
            certificate: None,
            timeout: Duration::from_secs(30),
            retries: 5,
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status; below 400.
    pub status: u16,
    /// The headers.
    pub headers: hyper::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] if it is not what `T` expects.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|_| unexpected(self.status, &self.body))
    }
}

fn unexpected(status: u16, body: &[u8]) -> Error {
    let text = String::from_utf8_lossy(body.get(..body.len().min(300)).unwrap_or_default()).into_owned();
    Error::Unexpected { status, text }
}

/// Calls a bank. Clones share the pool.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    address: Address,
    tls: Option<Arc<rustls::ClientConfig>>,
    options: Options,
    idle: Mutex<Vec<Connection>>,
}

/// Connections kept for the next call; more are closed.
const IDLE_MAX: usize = 256;

impl Client {
    /// A client for the bank that `options` name. Connects at the first call.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] or [`Error::Certificate`].
    pub fn new(options: Options) -> Result<Self, Error> {
        let address = Address::parse(&options.server)?;
        let tls = options.certificate.as_deref().map(trust).transpose()?;
        Ok(Self { inner: Arc::new(Inner { address, tls, options, idle: Mutex::new(Vec::new()) }) })
    }

    /// The same without retries, for what must not be done twice.
    #[must_use]
    pub fn once(&self) -> Self {
        let Inner { address, tls, options, .. } = &*self.inner;
        let options = Options { retries: 0, ..options.clone() };
        let inner = Inner { address: address.clone(), tls: tls.clone(), options, idle: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The address it speaks to.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.inner.options.server
    }

    /// `GET path` as JSON.
    ///
    /// # Errors
    ///
    /// [`Error`]: refused by the bank, or not reached.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(Method::GET, path, None, Bytes::new(), &[]).await?.json()
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn post<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Error> {
        self.send_json(Method::POST, path, body, &[]).await?.json()
    }

    /// `POST path` with a JSON body under an idempotency key.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn post_keyed<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &B,
    ) -> Result<T, Error> {
        self.send_json(Method::POST, path, body, &[("idempotency-key", key)]).await?.json()
    }

    /// Any method with a JSON body.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn send_json<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: &B,
        headers: &[(&str, &str)],
    ) -> Result<Response, Error> {
        let bytes = serde_json::to_vec(body)
            .map_err(|error| Error::Unexpected { status: 0, text: error.to_string() })?;
        self.call(method, path, Some("application/json"), Bytes::from(bytes), headers).await
    }

    /// Sends packed transfers; the answer is one result of [`packed::RESULT_BYTES`] each, in order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn packed(&self, transfers: Bytes) -> Result<Bytes, Error> {
        let answer =
            self.call(Method::POST, "/v1/transfers/batch", Some(packed::MEDIA_TYPE), transfers, &[]).await?;
        Ok(answer.body)
    }

    /// One call with retries: the same bytes again after *busy*, a broken connection or no answer.
    ///
    /// # Errors
    ///
    /// The last attempt's [`Error`].
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        content: Option<&str>,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Result<Response, Error> {
        let mut attempt = 0;
        loop {
            let error = match self.attempt(&method, path, content, body.clone(), headers).await {
                Ok(response) => return Ok(response),
                Err((error, _)) if attempt >= self.inner.options.retries || !error.may_retry() => {
                    return Err(error);
                }
                Err((_, wait)) => wait,
            };
            let backoff = Duration::from_millis(20 << attempt.min(6));
            tokio::time::sleep(error.unwrap_or(backoff)).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        method: &Method,
        path: &str,
        content: Option<&str>,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Result<Response, (Error, Option<Duration>)> {
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, &self.inner.address.authority);
        if let Some(token) = &self.inner.options.token {
            builder = builder.header(hyper::header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(content) = content {
            builder = builder.header(hyper::header::CONTENT_TYPE, content);
        }
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let request = builder
            .body(Full::new(body))
            .map_err(|_| (Error::Address(format!("{}{path}", self.inner.options.server)), None))?;
        let timeout = self.inner.options.timeout;
        let (status, headers, body) = tokio::time::timeout(timeout, self.exchange(request))
            .await
            .map_err(|_| (Error::TimedOut(timeout), None))?
            .map_err(|error| (error, None))?;
        if status.as_u16() < 400 {
            return Ok(Response { status: status.as_u16(), headers, body });
        }
        let wait = headers
            .get(hyper::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok())
            .map(Duration::from_secs);
        Err((problem(status, &body), wait))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, hyper::HeaderMap, Bytes), Error> {
        let mut connection = match self.idle_connection() {
            Some(connection) => connection,
            None => Connection::open(&self.inner.address, self.inner.tls.as_ref()).await?,
        };
        let answer = connection.send(request).await?;
        if connection.is_open() {
            let mut idle = self.inner.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
        }
        Ok(answer)
    }

    fn idle_connection(&self) -> Option<Connection> {
        let mut idle = self.inner.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if connection.is_open() {
                return Some(connection);
            }
        }
        None
    }
}

fn problem(status: StatusCode, body: &[u8]) -> Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if !problem.code.is_empty() => Error::Problem(Box::new(problem)),
        _ => unexpected(status.as_u16(), body),
    }
}
