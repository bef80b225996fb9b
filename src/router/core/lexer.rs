//! Just enough of `PostgreSQL`'s lexer to find where a token ends: white space, nested comments,
//! quoted names, strings (plain, escape, dollar). The grammar gives where things begin. Called by
//! `splice`.

/// The first offset from `at` that is neither white space nor comment.
pub fn skip_space(text: &str, mut at: usize) -> usize {
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => at += 1,
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at = bytes[at..].iter().position(|b| matches!(b, b'\n' | b'\r')).map_or(bytes.len(), |end| at + end);
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => at = skip_comment(bytes, at),
            _ => break,
        }
    }
    at
}

/// Past a comment that begins at `at`; comments nest.
fn skip_comment(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_u32;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_name_part(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// Past what is quoted by `quote` at `at`, a doubled quote standing for itself.
fn quoted_end(bytes: &[u8], at: usize, quote: u8, escapes: bool) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        if escapes && bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at] == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 2;
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// Past a dollar-quoted string that begins at `at`; `None`: it is not one (a parameter, an operator).
fn dollar_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let tag_end = at + 1 + bytes[at + 1..].iter().position(|byte| !is_name_part(*byte) || *byte == b'$')?;
    if bytes[tag_end] != b'$' || bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let tag = &text[at..=tag_end];
    Some(text[tag_end + 1..].find(tag).map_or(text.len(), |found| tag_end + 1 + found + tag.len()))
}

/// Past the name that begins at `at`, quoted or not; `None`: no plain name is there (`U&"…"` included).
pub fn name_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    match *bytes.get(at)? {
        b'"' => Some(quoted_end(bytes, at, b'"', false)),
        first if is_name_start(first) => {
            let end = bytes[at..].iter().position(|byte| !is_name_part(*byte)).map_or(bytes.len(), |end| at + end);
            let unicode = end == at + 1 && matches!(first, b'u' | b'U') && bytes[end..].starts_with(b"&\"");
            (!unicode).then_some(end)
        }
        _ => None,
    }
}

/// Past the dotted name that begins at `at`.
pub fn dotted_name_end(text: &str, at: usize) -> Option<usize> {
    let mut end = name_end(text, at)?;
    loop {
        let dot = skip_space(text, end);
        if text.as_bytes().get(dot) != Some(&b'.') {
            return Some(end);
        }
        end = name_end(text, skip_space(text, dot + 1))?;
    }
}

/// Past the token that begins at `at` (which is not white space).
pub fn token_end(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let string_prefix = bytes.get(at + 1) == Some(&b'\'');
    match bytes[at] {
        b'\'' => quoted_end(bytes, at, b'\'', false),
        b'e' | b'E' if string_prefix => quoted_end(bytes, at + 1, b'\'', true),
        b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if string_prefix => quoted_end(bytes, at + 1, b'\'', false),
        b'u' | b'U' if bytes[at + 1..].starts_with(b"&'") => quoted_end(bytes, at + 2, b'\'', false),
        b'u' | b'U' if bytes[at + 1..].starts_with(b"&\"") => quoted_end(bytes, at + 2, b'"', false),
        b'"' => quoted_end(bytes, at, b'"', false),
        b'$' => dollar_end(text, at).unwrap_or(at + 1),
        first if is_name_start(first) => name_end(text, at).unwrap_or(at + 1),
        first if first.is_ascii_digit() => bytes[at..]
            .iter()
            .position(|byte| !is_name_part(*byte) && *byte != b'.')
            .map_or(bytes.len(), |end| at + end),
        _ => at + 1,
    }
}

/// Past the parenthesis that closes the one at `at`; `None`: it never closes.
pub fn closing(text: &str, at: usize) -> Option<usize> {
    let mut depth = 0_u32;
    let mut at = at;
    loop {
        at = skip_space(text, at);
        match *text.as_bytes().get(at)? {
            b'(' => depth += 1,
            b')' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at = token_end(text, at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_ends() {
        assert_eq!(skip_space("  /* a /* b */ c */ -- d\n x", 0), 26);
        assert_eq!(dotted_name_end("a . \"b\"\"c\" x", 0), Some(10));
        assert_eq!(name_end("U&\"d\\0061\" x", 0), None);
        assert_eq!(token_end("'a''b' c", 0), 6);
        assert_eq!(token_end("E'a\\'b' c", 0), 7);
        assert_eq!(token_end("$q$ ' $$ $q$ c", 0), 12);
        assert_eq!(token_end("$1)", 0), 1);
        assert_eq!(closing("(a, ')', $$)$$, \")\", /* ) */ (1)) x", 0), Some(33));
        assert_eq!(closing("((1)", 0), None);
    }

    proptest! {
        #[test]
        fn ends_are_within_the_text_and_go_forward(text in "[ a-zé'\"$()/*\\-.0-9;\\\\U&\n]{1,40}") {
            let at = skip_space(&text, 0);
            if at < text.len() {
                let end = token_end(&text, at);
                prop_assert!(end > at);
                prop_assert!(closing(&text, at).is_none_or(|end| end <= text.len()));
            }
        }

        #[test]
        fn a_row_of_strings_closes_where_it_ends(items in proptest::collection::vec("[^\0]{0,12}", 0..6)) {
            let row = format!("({})", items.iter().map(|item| format!("'{}'", item.replace('\'', "''"))).collect::<Vec<_>>().join(", "));
            prop_assert_eq!(closing(&format!("{row}, (')')"), 0), Some(row.len()));
        }
    }
}
