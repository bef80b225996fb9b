//! [pure] Reading fields out of a message's body without ever running past its end.

/// A body that does not hold what its kind must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid message format")]
pub struct BadBody;

/// What is left of a body.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], BadBody> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadBody)?;
        self.0 = rest;
        Ok(taken)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, BadBody> {
        Ok(self.bytes(1)?[0])
    }

    /// A 16-bit number, as the unsigned count that the protocol means by it.
    pub fn int16(&mut self) -> Result<u16, BadBody> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A 32-bit number.
    pub fn int32(&mut self) -> Result<i32, BadBody> {
        let bytes = self.bytes(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A 32-bit number without a sign: object identifiers.
    pub fn uint32(&mut self) -> Result<u32, BadBody> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Text up to its closing zero, which is consumed.
    pub fn text(&mut self) -> Result<&'a [u8], BadBody> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(BadBody)?;
        let text = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Ok(text)
    }

    /// A value with its length in front; `None` is NULL.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, BadBody> {
        match self.int32()? {
            -1 => Ok(None),
            length => self.bytes(usize::try_from(length).map_err(|_| BadBody)?).map(Some),
        }
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), BadBody> {
        if self.0.is_empty() { Ok(()) } else { Err(BadBody) }
    }
}
