//! SM2 signatures: GB/T 32918.2-2016 over the curve of GB/T 32918.5-2017, with SM3.
//!
//! What is signed is `SM3(Z ‖ message)`; Z binds the signer's id and public key and is made here with the default id of
//! GM/T 0009-2012, `1234567812345678`, as every tool does that was not told otherwise. Signatures are r ‖ s, 32 bytes
//! big-endian each; a public key is its point, x ‖ y.

use alloc::string::ToString;
use core::fmt;

use sm2::SecretKey;
use sm2::dsa::signature::{Signer as _, Verifier as _};
use sm2::dsa::{Signature as Sm2Signature, SigningKey, VerifyingKey};

use crate::signer::{PublicKey, SignError, Signature, Signer};

/// The user id that goes into Z.
pub const USER_ID: &str = "1234567812345678";

/// The tag of an uncompressed point (SEC 1, 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// The order of the curve less one: the one number below the order that is no key, for 1 + d has no inverse then.
#[rustfmt::skip]
const LAST: [u8; 32] = [
    0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x72, 0x03, 0xdf, 0x6b, 0x21, 0xc6, 0x05, 0x2b, 0x53, 0xbb, 0xf4, 0x09, 0x39, 0xd5, 0x41, 0x22,
];

/// An SM2 key in this process's memory.
pub struct Sm2Signer {
    key: SigningKey,
    public: [u8; 64],
}

impl Sm2Signer {
    /// The key with this secret number, big-endian; `None` if it is not between 1 and the order less two.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Option<Self> {
        if *secret == LAST {
            return None;
        }
        let key = SigningKey::new(USER_ID, &SecretKey::from_slice(secret).ok()?).ok()?;
        let point = key.verifying_key().to_sec1_bytes();
        let public = *point.split_first()?.1.first_chunk()?;
        Some(Self { key, public })
    }
}

impl Signer for Sm2Signer {
    fn public_key(&self) -> PublicKey {
        PublicKey::Sm2(self.public)
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        // The nonce is derived from key and message (RFC 6979); that it does not serve has never been seen.
        let signature = self.key.try_sign(message);
        let failed =
            |error: sm2::dsa::signature::Error| SignError { key: self.key_id(), reason: error.to_string() };
        Ok(signature.map_err(failed)?.to_bytes())
    }
}

/// Shows the name of the key, never the key.
impl fmt::Debug for Sm2Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sm2Signer({})", self.key_id())
    }
}

/// Whether `signature` is that of the key with this point over `message`; false for what is no point of the curve.
pub(crate) fn verify(point: &[u8; 64], message: &[u8], signature: &Signature) -> bool {
    let mut encoded = [UNCOMPRESSED; 65];
    let (_, rest) = encoded.split_at_mut(1);
    rest.copy_from_slice(point);
    let Ok(key) = VerifyingKey::from_sec1_bytes(USER_ID, &encoded) else { return false };
    Sm2Signature::from_bytes(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::check_contract;
    use alloc::format;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        assert_eq!(hex.len(), 2 * N);
        core::array::from_fn(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap())
    }

    fn of_the_standard() -> Sm2Signer {
        let secret = bytes("3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8");
        Sm2Signer::from_secret(&secret).unwrap()
    }

    /// GB/T 32918.5-2017, annex A.2: key pair, message and signature of the recommended curve.
    #[test]
    fn the_example_of_the_standard_verifies() {
        let signer = of_the_standard();
        let point: [u8; 64] = bytes(
            "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020\
             ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13",
        );
        assert_eq!(signer.public_key(), PublicKey::Sm2(point));
        let signature: Signature = bytes(
            "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3\
             b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa",
        );
        assert!(verify(&point, b"message digest", &signature));
        for at in 0..64 {
            let mut changed = signature;
            changed[at] ^= 1;
            assert!(!verify(&point, b"message digest", &changed), "byte {at} of the signature");
            let mut other = point;
            other[at] ^= 1;
            assert!(!verify(&other, b"message digest", &signature), "byte {at} of the key");
        }
        assert!(!verify(&point, b"message digest.", &signature));
    }

    #[test]
    fn sm2_keeps_the_contract() {
        check_contract(&of_the_standard());
        check_contract(&Sm2Signer::from_secret(&[7; 32]).unwrap());
    }

    #[test]
    fn numbers_beyond_the_curve_are_no_keys() {
        let mut beyond = LAST;
        beyond[31] += 1;
        for secret in [[0; 32], [0xff; 32], LAST, beyond] {
            assert!(Sm2Signer::from_secret(&secret).is_none());
        }
        let mut greatest = LAST;
        greatest[31] -= 1;
        check_contract(&Sm2Signer::from_secret(&greatest).unwrap());
        assert!(!verify(&[0; 64], b"", &[1; 64]), "no point of the curve");
    }

    #[test]
    fn it_prints_no_secret() {
        let signer = of_the_standard();
        assert_eq!(format!("{signer:?}"), format!("Sm2Signer({})", signer.key_id()));
    }
}
