//! Bob Jenkins' lookup3 as `PostgreSQL` has it (`src/common/hashfn.c`), the 64-bit seeded form.

/// `hash_combine64(a, b)`.
pub fn combine(a: u64, b: u64) -> u64 {
    a ^ b.wrapping_add(0x49a0_f4dd_15e5_a8e3).wrapping_add(a << 54).wrapping_add(a >> 7)
}

/// The three words the hash keeps.
struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn new(len: usize, seed: u64) -> Self {
        // PostgreSQL's lengths are int: a value never exceeds 1 GiB.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let start = 0x9e37_79b9_u32.wrapping_add(len).wrapping_add(3_923_095);
        let mut state = Self { a: start, b: start, c: start };
        if seed != 0 {
            state.a = state.a.wrapping_add(high(seed));
            state.b = state.b.wrapping_add(low(seed));
            state.mix();
        }
        state
    }

    fn mix(&mut self) {
        let Self { a, b, c } = self;
        *a = a.wrapping_sub(*c) ^ c.rotate_left(4);
        *c = c.wrapping_add(*b);
        *b = b.wrapping_sub(*a) ^ a.rotate_left(6);
        *a = a.wrapping_add(*c);
        *c = c.wrapping_sub(*b) ^ b.rotate_left(8);
        *b = b.wrapping_add(*a);
        *a = a.wrapping_sub(*c) ^ c.rotate_left(16);
        *c = c.wrapping_add(*b);
        *b = b.wrapping_sub(*a) ^ a.rotate_left(19);
        *a = a.wrapping_add(*c);
        *c = c.wrapping_sub(*b) ^ b.rotate_left(4);
        *b = b.wrapping_add(*a);
    }

    fn finish(mut self) -> u64 {
        let Self { a, b, c } = &mut self;
        *c = (*c ^ *b).wrapping_sub(b.rotate_left(14));
        *a = (*a ^ *c).wrapping_sub(c.rotate_left(11));
        *b = (*b ^ *a).wrapping_sub(a.rotate_left(25));
        *c = (*c ^ *b).wrapping_sub(b.rotate_left(16));
        *a = (*a ^ *c).wrapping_sub(c.rotate_left(4));
        *b = (*b ^ *a).wrapping_sub(a.rotate_left(14));
        *c = (*c ^ *b).wrapping_sub(b.rotate_left(24));
        u64::from(self.b) << 32 | u64::from(self.c)
    }
}

/// The high half.
#[allow(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
pub fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

/// The low half.
#[allow(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
pub fn low(value: u64) -> u32 {
    value as u32
}

/// Four bytes, little-endian; missing ones are zero.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).enumerate().fold(0, |word, (at, byte)| word | u32::from(*byte) << (8 * at))
}

/// `hash_bytes_extended`.
pub fn bytes_extended(bytes: &[u8], seed: u64) -> u64 {
    let mut state = State::new(bytes.len(), seed);
    let mut chunks = bytes.chunks_exact(12);
    for chunk in &mut chunks {
        state.a = state.a.wrapping_add(word(&chunk[0..4]));
        state.b = state.b.wrapping_add(word(&chunk[4..8]));
        state.c = state.c.wrapping_add(word(&chunk[8..12]));
        state.mix();
    }
    let rest = chunks.remainder();
    state.a = state.a.wrapping_add(word(rest));
    state.b = state.b.wrapping_add(word(rest.get(4..).unwrap_or(&[])));
    // The lowest byte of the last word is reserved for the length.
    state.c = state.c.wrapping_add(word(rest.get(8..).unwrap_or(&[])) << 8);
    state.finish()
}

/// `hash_bytes_uint32_extended`.
pub fn uint32_extended(value: u32, seed: u64) -> u64 {
    let mut state = State::new(4, seed);
    state.a = state.a.wrapping_add(value);
    state.finish()
}

/// `hashint8extended`: equal to the hash of the same value as int4 or int2.
pub fn int8_extended(value: i64, seed: u64) -> u64 {
    let bits = value.cast_unsigned();
    let high = high(bits);
    uint32_extended(low(bits) ^ if value >= 0 { high } else { !high }, seed)
}
