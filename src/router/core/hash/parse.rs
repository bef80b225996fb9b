//! Values from their text and binary forms, exactly as `PostgreSQL` reads them, or [`Unparsed`].
//! The forms accepted are the plain ones that drivers and people write; whatever depends on a setting
//! (`DateStyle`, `TimeZone`) or is spelled oddly is left to `PostgreSQL`.

use super::{Unparsed, jenkins::bytes_extended};

/// Days from 1970-01-01 to 2000-01-01, `PostgreSQL`'s epoch.
const EPOCH_DAYS: i64 = 10_957;
/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;

/// `[+-]digits`, within 64 bits.
pub fn integer(text: &str) -> Result<i64, Unparsed> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Unparsed);
    }
    text.parse().map_err(|_| Unparsed)
}

/// int2, int4 or int8 by its length.
pub fn binary_integer(bytes: &[u8]) -> Result<i64, Unparsed> {
    if let Ok(bytes) = <[u8; 8]>::try_from(bytes) {
        Ok(i64::from_be_bytes(bytes))
    } else if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        Ok(i64::from(i32::from_be_bytes(bytes)))
    } else if let Ok(bytes) = <[u8; 2]>::try_from(bytes) {
        Ok(i64::from(i16::from_be_bytes(bytes)))
    } else {
        Err(Unparsed)
    }
}

/// `t`, `f`, `true`, `false`.
pub fn boolean(text: &str) -> Result<bool, Unparsed> {
    match text {
        "t" | "true" => Ok(true),
        "f" | "false" => Ok(false),
        _ => Err(Unparsed),
    }
}

fn nibble(byte: u8) -> Result<u8, Unparsed> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(Unparsed)
}

/// `\x` and pairs of hexadecimal digits.
pub fn hex(text: &str) -> Result<Vec<u8>, Unparsed> {
    let digits = text.strip_prefix("\\x").ok_or(Unparsed)?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err(Unparsed);
    }
    digits.chunks_exact(2).map(|pair| Ok(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

/// `8-4-4-4-12` hexadecimal digits.
pub fn uuid(text: &str) -> Result<[u8; 16], Unparsed> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 || [8, 13, 18, 23].iter().any(|at| bytes[*at] != b'-') {
        return Err(Unparsed);
    }
    let mut uuid = [0; 16];
    let mut digits = bytes.iter().enumerate().filter(|(at, _)| ![8, 13, 18, 23].contains(at)).map(|(_, byte)| *byte);
    for byte in &mut uuid {
        let (high, low) = (digits.next().ok_or(Unparsed)?, digits.next().ok_or(Unparsed)?);
        *byte = nibble(high)? << 4 | nibble(low)?;
    }
    Ok(uuid)
}

/// A field of exactly `width` digits.
fn field(text: &str, width: usize) -> Result<i64, Unparsed> {
    if text.len() == width && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().map_err(|_| Unparsed)
    } else {
        Err(Unparsed)
    }
}

/// Days since 2000-01-01 of `YYYY-MM-DD` (proleptic Gregorian, by the usual civil-from-days formula).
pub fn date(text: &str) -> Result<i32, Unparsed> {
    let mut parts = text.split('-');
    let (year, month, day) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(year), Some(month), Some(day), None) => (field(year, 4)?, field(month, 2)?, field(day, 2)?),
        _ => return Err(Unparsed),
    };
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(Unparsed),
    };
    if year == 0 || day == 0 || day > month_days {
        return Err(Unparsed);
    }
    let march_year = if month <= 2 { year - 1 } else { year };
    let era = march_year.div_euclid(400);
    let year_of_era = march_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    i32::try_from(days - EPOCH_DAYS).map_err(|_| Unparsed)
}

/// Microseconds of `HH:MM[:SS[.ffffff]]`.
fn time(text: &str) -> Result<i64, Unparsed> {
    let (clock, fraction) = text.split_once('.').map_or((text, ""), |(clock, fraction)| (clock, fraction));
    let mut parts = clock.split(':');
    let (hour, minute) = match (parts.next(), parts.next()) {
        (Some(hour), Some(minute)) => (field(hour, 2)?, field(minute, 2)?),
        _ => return Err(Unparsed),
    };
    let second = match parts.next() {
        Some(second) => field(second, 2)?,
        None if fraction.is_empty() && !text.contains('.') => 0,
        None => return Err(Unparsed),
    };
    // 24:00 and leap seconds roll over: left to PostgreSQL, as are more than six digits, which it rounds.
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 || fraction.len() > 6 {
        return Err(Unparsed);
    }
    let micros = if text.contains('.') {
        let width = u32::try_from(fraction.len()).map_err(|_| Unparsed)?;
        field(fraction, fraction.len())? * 10_i64.pow(6 - width)
    } else {
        0
    };
    Ok(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

/// Microseconds since 2000-01-01 of `YYYY-MM-DD[( |T)HH:MM[:SS[.ffffff]]]`.
pub fn timestamp(text: &str) -> Result<i64, Unparsed> {
    match text.split_once([' ', 'T']) {
        None => Ok(i64::from(date(text)?) * DAY_MICROS),
        Some((day, clock)) => Ok(i64::from(date(day)?) * DAY_MICROS + time(clock)?),
    }
}

/// A timestamp with its offset written out: `Z`, `±HH`, `±HH:MM`.
pub fn timestamptz(text: &str) -> Result<i64, Unparsed> {
    if let Some(utc) = text.strip_suffix(['Z', 'z']) {
        return if utc.contains([' ', 'T']) { timestamp(utc) } else { Err(Unparsed) };
    }
    let clock_at = text.find([' ', 'T']).ok_or(Unparsed)?;
    let sign_at = text[clock_at..].find(['+', '-']).ok_or(Unparsed)? + clock_at;
    let (stamp, offset) = text.split_at(sign_at);
    let (hours, minutes) = match offset[1..].split_once(':') {
        Some((hours, minutes)) => (field(hours, 2)?, field(minutes, 2)?),
        None => (field(&offset[1..], 2)?, 0),
    };
    if hours > 15 || minutes > 59 {
        return Err(Unparsed);
    }
    let micros = (hours * 60 + minutes) * 60_000_000;
    Ok(timestamp(stamp)? - if offset.starts_with('-') { -micros } else { micros })
}

/// A numeric as `PostgreSQL` keeps it: digits of base 10000, the first worth 10000^weight.
pub struct Numeric {
    digits: Vec<i16>,
    weight: i64,
}

impl Numeric {
    /// `hash_numeric_extended`: sign and scale do not count, zeros at either end neither.
    pub fn hash(&self, seed: u64) -> u64 {
        let leading = self.digits.iter().take_while(|digit| **digit == 0).count();
        if leading == self.digits.len() {
            return seed.wrapping_sub(1);
        }
        let trailing = self.digits.iter().rev().take_while(|digit| **digit == 0).count();
        let digits: Vec<u8> =
            self.digits[leading..self.digits.len() - trailing].iter().flat_map(|digit| digit.to_le_bytes()).collect();
        let skipped = i64::try_from(leading).expect("a numeric has fewer than 2^17 digits");
        bytes_extended(&digits, seed) ^ (self.weight - skipped).cast_unsigned()
    }
}

/// `[+-]digits[.digits]`; no exponent, no special values.
pub fn numeric(text: &str) -> Result<Numeric, Unparsed> {
    let plain = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    if whole.len() + fraction.len() == 0 || plain.len() > 1000 {
        return Err(Unparsed);
    }
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(Unparsed);
    }
    let groups = whole.len().div_ceil(4);
    let padded = format!("{}{whole}{fraction}{}", "0".repeat(groups * 4 - whole.len()), "000");
    let digits = padded
        .as_bytes()
        .chunks_exact(4)
        .map(|group| group.iter().fold(0, |digit, byte| digit * 10 + i16::from(byte - b'0')))
        .collect();
    Ok(Numeric { digits, weight: i64::try_from(groups).map_err(|_| Unparsed)? - 1 })
}

/// `numeric_send`: count, weight, sign, scale, digits.
pub fn binary_numeric(bytes: &[u8]) -> Result<Numeric, Unparsed> {
    let mut words = bytes.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]]));
    let header: Vec<i16> = words.by_ref().take(4).collect();
    let &[count, weight, sign, _scale] = header.as_slice() else { return Err(Unparsed) };
    // Anything but positive (0) and negative (0x4000) is NaN or an infinity.
    if sign != 0 && sign != 0x4000 {
        return Err(Unparsed);
    }
    let digits: Vec<i16> = words.collect();
    if i16::try_from(digits.len()) != Ok(count) || digits.iter().any(|digit| !(0..10_000).contains(digit)) {
        return Err(Unparsed);
    }
    Ok(Numeric { digits, weight: i64::from(weight) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times() {
        assert_eq!(date("2000-01-01"), Ok(0));
        assert_eq!(date("1999-12-31"), Ok(-1));
        assert_eq!(date("2024-02-29"), Ok(8825));
        for odd in ["2023-02-29", "24-01-01", "2024-1-1", "2024-01-01 BC", "today", "0000-01-01"] {
            assert_eq!(date(odd), Err(Unparsed), "{odd}");
        }
        assert_eq!(timestamp("2000-01-01 00:00:01.5"), Ok(1_500_000));
        assert_eq!(timestamp("2000-01-01T00:01"), Ok(60_000_000));
        assert_eq!(timestamptz("2000-01-01 02:00:00+02"), Ok(0));
        assert_eq!(timestamptz("1999-12-31T19:30:00-04:30"), Ok(0));
        for odd in ["2000-01-01 00:00:00", "2000-01-01", "2000-01-01 00:00:00 UTC", "2000-01-01Z"] {
            assert_eq!(timestamptz(odd), Err(Unparsed), "{odd}");
        }
        assert_eq!(timestamp("2000-01-01 00:00:60"), Err(Unparsed));
        assert_eq!(timestamp("2000-01-01 00:00:00."), Err(Unparsed));
    }

    #[test]
    fn plain_spellings_only() {
        assert_eq!(integer("-9223372036854775808"), Ok(i64::MIN));
        for odd in ["", "-", " 1", "1 ", "0x10", "1_000", "1.0", "9223372036854775808"] {
            assert_eq!(integer(odd), Err(Unparsed), "{odd}");
        }
        assert!(uuid("00000000-0000-0000-0000-00000000000g").is_err());
        assert!(uuid("{00000000-0000-0000-0000-000000000000}").is_err());
        assert_eq!(hex("\\xdeAD"), Ok(vec![0xde, 0xad]));
        assert!(numeric("1e5").is_err());
        assert!(numeric("NaN").is_err());
        assert!(numeric(".").is_err());
    }

    #[test]
    fn a_numeric_is_one_number_however_it_is_written() {
        let hash = |text: &str| numeric(text).map(|numeric| numeric.hash(7));
        assert_eq!(hash("1.50"), hash("+0001.5"));
        assert_eq!(hash("0.0"), Ok(6));
        assert_eq!(hash("10000"), hash("10000.0000"));
        assert_ne!(hash("1"), hash("10000"));
    }
}
