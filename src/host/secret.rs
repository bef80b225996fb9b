//! The cluster's one secret, and the role passwords and SCRAM verifiers derived from it. The salt is
//! derived as well, so every member stores the *same* verifier of a role and a client's SCRAM key
//! passes through a router to any of them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

/// SCRAM iterations: PostgreSQL's default (manual, `scram_iterations`).
pub const SCRAM_ITERATIONS: u32 = 4096;

/// A text nobody should see: no `Debug`, `Display` or `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Password of one of Howdah's own roles (`howdah_agent`, `howdah_replication`, `howdah_router`).
    #[must_use]
    pub fn password(&self, role: &str) -> Self {
        Self(hex(&hmac(self.0.as_bytes(), format!("password:{role}").as_bytes())))
    }

    /// The verifier that `pg_authid.rolpassword` holds for `role` with `password` (RFC 5803 as
    /// PostgreSQL writes it). Same secret, role and password: same verifier, on every member.
    /// Passwords must be ASCII: others would need `SASLprep`.
    pub fn verifier(&self, role: &str, password: &Self) -> String {
        let salt = &hmac(self.0.as_bytes(), format!("salt:{role}").as_bytes())[..16];
        let salted = salted_password(password.0.as_bytes(), salt);
        let stored = Sha256::digest(hmac(&salted, b"Client Key"));
        let server = hmac(&salted, b"Server Key");
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        format!("SCRAM-SHA-256${SCRAM_ITERATIONS}:{}${}:{}", encode(salt), encode(&stored), encode(&server))
    }
}

/// `HMAC-SHA-256(key, message)`.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// `Hi()` of RFC 5802: PBKDF2 with one block.
fn salted_password(password: &[u8], salt: &[u8]) -> [u8; 32] {
    let mut round = hmac(password, &[salt, &[0, 0, 0, 1]].concat());
    let mut salted = round;
    for _ in 1..SCRAM_ITERATIONS {
        round = hmac(password, &round);
        salted.iter_mut().zip(round).for_each(|(byte, other)| *byte ^= other);
    }
    salted
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifiers_are_equal_everywhere_and_differ_by_role() {
        let secret = Secret::new("s");
        let password = Secret::new("howdah");
        assert_eq!(secret.verifier("a", &password), secret.verifier("a", &password));
        assert_ne!(secret.verifier("a", &password), secret.verifier("b", &password));
        assert!(secret.verifier("a", &password).starts_with("SCRAM-SHA-256$4096:"));
    }
}
