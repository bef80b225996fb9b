//! [pure] SCRAM-SHA-256 (RFC 5802, 7677) on both sides of the router. In front it verifies a client
//! against PostgreSQL's own verifier, which reveals the client's key; behind it proves itself with
//! that key to any member, because all members keep byte-equal verifiers. Nonces are arguments.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

/// The mechanism's name.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// Why an exchange failed. Clients are told one thing whatever it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that is not SCRAM.
    #[error("malformed SCRAM message")]
    Malformed,
    /// The proof does not fit: a wrong password.
    #[error("password authentication failed")]
    WrongProof,
    /// The server does not know the verifier: it is not who it says.
    #[error("the server's signature is wrong")]
    WrongServer,
}

/// What `pg_authid.rolpassword` holds: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: String,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl Verifier {
    /// Reads PostgreSQL's text; `None` for anything but SCRAM (md5 verifiers among them).
    pub fn read(text: &str) -> Option<Self> {
        let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        STANDARD.decode(salt).ok()?;
        Some(Self {
            iterations: iterations.parse().ok()?,
            salt: salt.to_owned(),
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }

    /// A verifier that nothing satisfies, the same each time for a name, so that an unknown user sees
    /// the same dance as a known one.
    pub fn mock(user: &str, secret: &[u8; 32]) -> Self {
        let salt = &hmac(secret, user.as_bytes())[..16];
        Self { iterations: 4096, salt: STANDARD.encode(salt), stored_key: hmac(secret, salt), server_key: [0; 32] }
    }
}

/// Proves a user to a server: what a login reveals, or what a password gives. No `Debug`: a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    client_key: [u8; 32],
    server_key: [u8; 32],
}

impl Keys {
    /// From a password, with the salt and iterations that the server's first message names.
    pub fn of_password(password: &str, server_first: &str) -> Result<Self, ScramError> {
        let salt = STANDARD.decode(attribute(server_first, "s=")?).map_err(|_| ScramError::Malformed)?;
        let iterations: u32 = attribute(server_first, "i=")?.parse().map_err(|_| ScramError::Malformed)?;
        // Above this a server could keep us busy for minutes; PostgreSQL's default is 4,096.
        if !(1..=1_000_000).contains(&iterations) {
            return Err(ScramError::Malformed);
        }
        let mut round = hmac(password.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
        let mut salted = round;
        for _ in 1..iterations {
            round = hmac(password.as_bytes(), &round);
            salted = xor(salted, &round);
        }
        Ok(Self { client_key: hmac(&salted, b"Client Key"), server_key: hmac(&salted, b"Server Key") })
    }
}

/// The router as server: after the client's first message.
pub struct ServerExchange {
    verifier: Verifier,
    client_first_bare: String,
    server_first: String,
    nonce: String,
    header: String,
}

impl ServerExchange {
    /// Reads the client's first message. `nonce` is ours, printable and without commas.
    pub fn begin(verifier: Verifier, client_first: &[u8], nonce: &str) -> Result<Self, ScramError> {
        let text = std::str::from_utf8(client_first).map_err(|_| ScramError::Malformed)?;
        let mut parts = text.splitn(3, ',');
        let (flag, authzid) = (parts.next().unwrap_or(""), parts.next().unwrap_or("x"));
        let bare = parts.next().ok_or(ScramError::Malformed)?;
        // No channel binding is offered; "y" (client supports it, believes we do not) is the truth.
        if !matches!(flag, "n" | "y") || !authzid.is_empty() {
            return Err(ScramError::Malformed);
        }
        let theirs = attribute(bare, "r=")?;
        if theirs.is_empty() || !theirs.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramError::Malformed);
        }
        let nonce = format!("{theirs}{nonce}");
        let server_first = format!("r={nonce},s={},i={}", verifier.salt, verifier.iterations);
        Ok(Self { verifier, client_first_bare: bare.to_owned(), server_first, nonce, header: format!("{flag},,") })
    }

    /// The message to answer with.
    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Reads the client's last message: our last message, and the keys to pass on.
    pub fn finish(self, client_final: &[u8]) -> Result<(String, Keys), ScramError> {
        let text = std::str::from_utf8(client_final).map_err(|_| ScramError::Malformed)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let binding = attribute(without_proof, "c=")?;
        if attribute(without_proof, "r=")? != self.nonce || binding != STANDARD.encode(&self.header) {
            return Err(ScramError::Malformed);
        }
        let proof = STANDARD.decode(proof).map_err(|_| ScramError::Malformed)?;
        let proof: [u8; 32] = proof.try_into().map_err(|_| ScramError::Malformed)?;
        let message = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let client_key = xor(hmac(&self.verifier.stored_key, message.as_bytes()), &proof);
        let stored: [u8; 32] = Sha256::digest(client_key).into();
        if !equal(&stored, &self.verifier.stored_key) {
            return Err(ScramError::WrongProof);
        }
        let signature = hmac(&self.verifier.server_key, message.as_bytes());
        let keys = Keys { client_key, server_key: self.verifier.server_key };
        Ok((format!("v={}", STANDARD.encode(signature)), keys))
    }
}

/// The router as client of a member.
pub struct ClientExchange {
    nonce: String,
    keys: Option<Keys>,
    message: String,
}

impl ClientExchange {
    /// `nonce` is ours, printable and without commas.
    pub fn begin(nonce: &str) -> Self {
        Self { nonce: nonce.to_owned(), keys: None, message: String::new() }
    }

    /// Our first message. PostgreSQL takes the user from the start-up packet and ignores `n=`.
    pub fn client_first(&self) -> String {
        format!("n,,n=,r={}", self.nonce)
    }

    /// Reads the server's first message: our last one.
    pub fn proof(&mut self, keys: &Keys, server_first: &str) -> Result<String, ScramError> {
        let nonce = attribute(server_first, "r=")?;
        if !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Malformed);
        }
        let without_proof = format!("c=biws,r={nonce}");
        self.message = format!("n=,r={},{server_first},{without_proof}", self.nonce);
        let stored: [u8; 32] = Sha256::digest(keys.client_key).into();
        let proof = xor(hmac(&stored, self.message.as_bytes()), &keys.client_key);
        self.keys = Some(keys.clone());
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Checks the server's last message: only who has the verifier can write it.
    pub fn verify(&self, server_final: &str) -> Result<(), ScramError> {
        let given = STANDARD.decode(attribute(server_final, "v=")?).map_err(|_| ScramError::Malformed)?;
        let keys = self.keys.as_ref().ok_or(ScramError::Malformed)?;
        let wanted = hmac(&keys.server_key, self.message.as_bytes());
        if given.len() == wanted.len() && equal(&wanted, &given) { Ok(()) } else { Err(ScramError::WrongServer) }
    }
}

/// The value of the attribute that `name` (`r=`) begins.
fn attribute<'a>(message: &'a str, name: &str) -> Result<&'a str, ScramError> {
    message.split(',').find_map(|part| part.strip_prefix(name)).ok_or(ScramError::Malformed)
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn xor(mut left: [u8; 32], right: &[u8; 32]) -> [u8; 32] {
    left.iter_mut().zip(right).for_each(|(byte, other)| *byte ^= other);
    left
}

/// Compares without telling by its time where the first difference is.
fn equal(left: &[u8], right: &[u8]) -> bool {
    left.iter().zip(right).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::secret::Secret;

    fn dance(password: &str) -> Result<(), ScramError> {
        let verifier = Secret::new("cluster").verifier("app", &Secret::new("right"));
        let verifier = Verifier::read(&verifier).expect("our own verifier is SCRAM");
        let mut client = ClientExchange::begin("abc");
        let server = ServerExchange::begin(verifier, client.client_first().as_bytes(), "def")?;
        let keys = Keys::of_password(password, server.server_first())?;
        let last = client.proof(&keys, server.server_first())?;
        let (signature, passed_on) = server.finish(last.as_bytes())?;
        client.verify(&signature)?;
        assert!(passed_on == keys, "the client's key can be passed on");
        Ok(())
    }

    #[test]
    fn right_password_passes_and_its_key_is_revealed() {
        assert_eq!(dance("right"), Ok(()));
    }

    #[test]
    fn wrong_password_fails() {
        assert_eq!(dance("wrong"), Err(ScramError::WrongProof));
    }

    #[test]
    fn nonsense_is_malformed() {
        for text in ["", "n", "n,,", "n,,n=", "p=tls-server-end-point,,n=,r=x", "n,a=b,n=,r=x"] {
            let verifier = Verifier::mock("x", &[1; 32]);
            assert!(ServerExchange::begin(verifier, text.as_bytes(), "d").is_err(), "{text:?}");
        }
    }
}
