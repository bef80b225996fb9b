//! A Rust source file as the rules see it: text without comments and literals, paths it names, and
//! functions with their length. Called by `rules`. Not a parser: just enough of the lexer.

/// Comments, strings and characters replaced by blanks; lines stay where they are.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at).unwrap_or(at);
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal that begins at `at` ends.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let fresh = at == 0 || !is_word(bytes[at - 1]);
    if rest.starts_with(b"//") {
        return Some(rest.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length));
    }
    if rest.starts_with(b"/*") {
        return Some(block_comment_end(bytes, at));
    }
    if fresh && (rest.starts_with(b"r\"") || rest.starts_with(b"r#") || rest.starts_with(b"br")) {
        return raw_string_end(bytes, at);
    }
    match rest {
        [b'"', ..] => Some(quoted_end(bytes, at + 1, b'"')),
        // A character, not a lifetime: closed after one character or an escape.
        [b'\'', b'\\', ..] => Some(quoted_end(bytes, at + 1, b'\'')),
        [b'\'', first, ..] => {
            let length = match first {
                0x00..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            (bytes.get(at + 1 + length) == Some(&b'\'')).then_some(at + length + 2)
        }
        _ => None,
    }
}

fn quoted_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// `None` where it is no raw string but a raw identifier or a word.
fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes_at = at + if bytes[at] == b'b' { 2 } else { 1 };
    let hashes = bytes[hashes_at..].iter().take_while(|byte| **byte == b'#').count();
    let open = hashes_at + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let found = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    Some(found.map_or(bytes.len(), |length| open + 1 + length + close.len()))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Line number, from 1, of a position.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// A path the code names, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// Line, from 1.
    pub line: usize,
    /// Segments, `use` groups expanded: `std::fs`.
    pub path: String,
}

/// Every path of two segments or more, and every use of one; `code` is without comments and literals.
pub fn paths(code: &str) -> Vec<Named> {
    let mut named = Vec::new();
    let bytes = code.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(bytes[at]) || (at > 0 && is_word(bytes[at - 1])) {
            at += 1;
            continue;
        }
        let line = line_of(code, at);
        if code[at..].starts_with("use ") {
            let end = code[at..].find(';').map_or(code.len(), |length| at + length);
            expand("", &code[at + 4..end], &mut |path| named.push(Named { line, path }));
            at = end;
        } else {
            let end =
                bytes[at..].iter().position(|byte| !is_word(*byte) && *byte != b':').map_or(bytes.len(), |n| at + n);
            let path = code[at..end].trim_end_matches(':');
            if path.contains("::") {
                named.push(Named { line, path: path.to_owned() });
            }
            at = end;
        }
    }
    named
}

/// `a::{b, c::d}` into `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, found: &mut impl FnMut(String)) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        if !name.is_empty() {
            found(format!("{prefix}{name}"));
        }
        return;
    };
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let (mut depth, mut start) = (0, 0);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                expand(&prefix, &inner[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &inner[start..], found);
}

/// A function and how many lines it takes, from `fn` to its last brace.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Line of its `fn`.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// Its length.
    pub lines: usize,
}

/// Every function with a body.
pub fn functions(code: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && is_word(code.as_bytes()[at - 1]) {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(&code.as_bytes()[at..]) {
            let line = line_of(code, at);
            functions.push(Function { line, name, lines: line_of(code, at + end) - line + 1 });
        }
    }
    functions
}

/// Offset of the brace that closes the body; `None` for a declaration.
fn body_end(bytes: &[u8]) -> Option<usize> {
    let (mut round, mut curly) = (0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b';' if round == 0 && curly == 0 => return None,
            b'{' => curly += 1,
            b'}' => {
                curly -= 1;
                if curly == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// How many `mod name { … }` blocks are around a line: there `super` means as many levels less.
pub fn inline_modules(code: &str, line: usize) -> usize {
    let starts = code.match_indices("mod ").filter(|(at, _)| *at == 0 || !is_word(code.as_bytes()[at - 1]));
    starts
        .filter(|(at, _)| {
            let body = body_end(&code.as_bytes()[*at..]);
            body.is_some_and(|length| (line_of(code, *at)..=line_of(code, at + length)).contains(&line))
        })
        .count()
}
