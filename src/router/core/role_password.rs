//! [pure] Passwords in `CREATE ROLE` and `ALTER ROLE`. Each PostgreSQL would salt one of its own and
//! keep another verifier, and a client's key would pass to none but the one it logged in by; so the
//! router makes the verifier, the same for all. Called by the router's DDL.

use super::lexer;

/// A password in a statement: where its literal stands, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Password {
    /// Byte range of the literal with its quotes.
    pub range: std::ops::Range<usize>,
    /// The password.
    pub text: String,
}

/// The plain password of a role statement, where it has one as an ordinary literal. A verifier, or
/// `PASSWORD NULL`, is left as it is.
pub fn find(sql: &str) -> Option<Password> {
    let mut at = 0;
    let mut after_password = false;
    loop {
        at = lexer::skip_space(sql, at);
        if at >= sql.len() {
            return None;
        }
        let end = lexer::token_end(sql, at);
        let token = &sql[at..end];
        if after_password && let Some(quoted) = token.strip_prefix('\'').and_then(|token| token.strip_suffix('\'')) {
            let text = quoted.replace("''", "'");
            let verifier = text.starts_with("SCRAM-SHA-256$") || (text.starts_with("md5") && text.len() == 35);
            return (!verifier).then_some(Password { range: at..end, text });
        }
        after_password = token.eq_ignore_ascii_case("password");
        at = end;
    }
}

/// The statement with a verifier in the password's place.
pub fn replace(sql: &str, password: &Password, verifier: &str) -> String {
    format!("{}'{verifier}'{}", &sql[..password.range.start], &sql[password.range.end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_passwords_are_replaced() {
        let sql = "CREATE ROLE \"password\" LOGIN PASSWORD 'it''s'";
        let password = find(sql).expect("there is one");
        assert_eq!(password.text, "it's");
        assert_eq!(replace(sql, &password, "V"), "CREATE ROLE \"password\" LOGIN PASSWORD 'V'");
        assert_eq!(find("ALTER ROLE a PASSWORD NULL"), None);
        assert_eq!(find("ALTER ROLE a PASSWORD 'SCRAM-SHA-256$4096:x'"), None);
        assert_eq!(find("CREATE ROLE a"), None);
    }
}
