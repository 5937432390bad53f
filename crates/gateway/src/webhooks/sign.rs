//! Signatures as Standard Webhooks has them (<https://www.standardwebhooks.com>): HMAC-SHA-256 over id, time and body.
//!
//! ```text
//! webhook-signature: v1,base64(HMAC(secret, "{webhook-id}.{webhook-timestamp}.{body}"))
//! ```

use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::random;

/// How every secret begins.
const PREFIX: &str = "whsec_";

/// Bytes of the secrets that we make.
pub(crate) const SECRET_BYTES: usize = 32;

/// What a receiver and the bank share.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<[u8; SECRET_BYTES]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl Secret {
    /// A fresh one.
    pub(crate) fn made() -> Self {
        Self::new(random::bytes())
    }

    /// The one of these bytes.
    pub(crate) fn new(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// As the receiver is told it, once.
    pub(crate) fn text(&self) -> String {
        format!("{PREFIX}{}", base64(&*self.0))
    }

    /// The signature of a message.
    pub(crate) fn sign(&self, id: &str, time_s: u64, body: &[u8]) -> String {
        sign(&*self.0, id, time_s, body)
    }
}

fn sign(secret: &[u8], id: &str, time_s: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{time_s}.").as_bytes());
    mac.update(body);
    format!("v1,{}", base64(&mac.finalize().into_bytes()))
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding (RFC 4648, 4).
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for nth in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * nth) & 63).unwrap_or(0);
            let is_there = nth <= three.len();
            text.push(if is_there { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, text) in cases {
            assert_eq!(base64(plain.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    /// The figures are those with which the libraries of Standard Webhooks test themselves.
    #[test]
    fn a_message_is_signed_as_other_libraries_sign_it() {
        let secret = crate::oidc::jwt::base64url("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_shows_only_where_it_is_meant_to() {
        let secret = Secret::new([0; SECRET_BYTES]);
        assert_eq!(secret.text(), "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_ne!(Secret::made().bytes(), Secret::made().bytes());
    }
}
