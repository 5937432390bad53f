//! The collector of traces at the other end of one kept-alive connection: a batch goes out as OTLP over HTTP, and either it
//! was taken or it was not.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method, Request};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use skerry_client::connection::{Connection, Trust, trust};

use super::{Endpoint, Traces};
use crate::signing;

/// The longest answer that is read.
const ANSWER_MAX: usize = 64 << 10;

/// The longest file of headers.
const HEADERS_MAX: usize = 16 << 10;

/// How to reach the collector, and the connection if there is one.
pub(super) struct Collector {
    endpoint: Endpoint,
    tls: Option<Trust>,
    headers: HeaderMap,
    timeout: Duration,
    connection: Option<Connection>,
}

impl Collector {
    /// Reads the files that the section names. The collector itself need not be there.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, that others can read, or that holds something else.
    pub(super) fn new(section: &Traces, endpoint: Endpoint) -> anyhow::Result<Self> {
        let tls = section.certificate.as_deref().map(trust).transpose()?;
        let mut headers = match &section.headers_file {
            None => HeaderMap::new(),
            Some(path) => read_headers(path)?,
        };
        let authority = HeaderValue::from_str(&endpoint.address.authority)
            .context("traces.endpoint holds what no header can")?;
        headers.insert(HOST, authority);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("skerry/", env!("CARGO_PKG_VERSION"))));
        let timeout = Duration::from_millis(section.timeout_ms);
        Ok(Self { endpoint, tls, headers, timeout, connection: None })
    }

    /// Sends a batch, once. How many of its spans the collector refused.
    ///
    /// # Errors
    ///
    /// If it was not taken at all; the next one then goes over a new connection.
    pub(super) async fn send(&mut self, batch: &ExportTraceServiceRequest) -> anyhow::Result<u64> {
        let body = Bytes::from(batch.encode_to_vec());
        let (timeout, kept) = (self.timeout, self.connection.take());
        let exchange = tokio::time::timeout(timeout, self.exchange(kept, body)).await;
        let (connection, answer) =
            exchange.with_context(|| format!("the collector did not answer within {timeout:?}"))??;
        self.connection = Some(connection);
        // An answer that cannot be read is still one of 200: the spans were taken.
        let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
        let refused = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(refused).unwrap_or(0))
    }

    async fn exchange(&self, kept: Option<Connection>, body: Bytes) -> anyhow::Result<(Connection, Bytes)> {
        // The collector may have closed a kept connection meanwhile. The same spans twice are the same spans.
        if let Some(kept) = kept.filter(Connection::is_open)
            && let Ok(done) = self.exchange_over(kept, body.clone()).await
        {
            return Ok(done);
        }
        let fresh = Connection::open(&self.endpoint.address, self.tls.as_ref()).await?;
        self.exchange_over(fresh, body).await
    }

    async fn exchange_over(
        &self,
        mut connection: Connection,
        body: Bytes,
    ) -> anyhow::Result<(Connection, Bytes)> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.path.parse().context("traces.endpoint holds no path")?;
        *request.headers_mut() = self.headers.clone();
        let (status, _, answer) = connection.send_bounded(request, ANSWER_MAX).await?;
        if !status.is_success() {
            bail!("the collector answered {status}");
        }
        Ok((connection, answer))
    }
}

/// Reads `Name: value` lines; blank ones and those that begin with `#` are passed over.
fn read_headers(path: &Path) -> anyhow::Result<HeaderMap> {
    let bytes = signing::read_secret(path, HEADERS_MAX)?;
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{} is no text", path.display()))?;
    let mut headers = HeaderMap::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself may be a secret, so only its place is told.
        let wrong = || format!("line {number} of {} is not 'Name: value'", path.display());
        let (name, value) = line.split_once(':').with_context(wrong)?;
        let name: HeaderName = name.trim().parse().with_context(wrong)?;
        ensure!(
            ![HOST, CONTENT_TYPE, hyper::header::CONTENT_LENGTH, hyper::header::TRANSFER_ENCODING]
                .contains(&name),
            "line {number} of {}: the header {name} is the bank's own",
            path.display()
        );
        let mut value: HeaderValue = value.trim().parse().with_context(wrong)?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    ensure!(!headers.is_empty(), "{} holds no header", path.display());
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, mode: u32) -> anyhow::Result<HeaderMap> {
        let name = format!("skerry-headers-{}-{:x}", std::process::id(), text.len());
        let path = std::env::temp_dir().join(name);
        crate::folder::write_new(&path, text.as_bytes(), mode).unwrap();
        let headers = read_headers(&path);
        std::fs::remove_file(&path).unwrap();
        headers
    }

    #[test]
    fn headers_come_from_a_file_that_is_the_banks_alone() {
        let headers = read("# for the collector\nauthorization: Bearer x:y\n\nx-tenant: 7\n", 0o600).unwrap();
        assert_eq!((headers.len(), &headers["authorization"]), (2, &HeaderValue::from_static("Bearer x:y")));
        for (text, mode, said) in [
            ("x-tenant: seven", 0o644, "chmod 600"),
            ("\nsecretword", 0o600, "line 2 of"),
            ("secret word: 1", 0o600, "line 1 of"),
            ("Host: secretword", 0o600, "the bank's own"),
            ("# none", 0o600, "holds no header"),
        ] {
            let error = format!("{:#}", read(text, mode).unwrap_err());
            assert!(error.contains(said) && !error.contains("secretword"), "{error}");
        }
    }
}
