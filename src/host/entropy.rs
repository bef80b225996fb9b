//! Randomness from the operating system.

/// `N` random bytes. Without entropy nothing here is safe, so the process stops.
#[expect(clippy::disallowed_methods, reason = "this is where entropy comes from")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives entropy");
    bytes
}

/// A random number.
pub fn number() -> u64 {
    u64::from_le_bytes(bytes())
}

/// `2 * N` lower-case hexadecimal digits.
pub fn hex<const N: usize>() -> String {
    use std::fmt::Write as _;
    bytes::<N>().iter().fold(String::with_capacity(2 * N), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}
