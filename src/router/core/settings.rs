//! [pure] The settings of a session and what a server connection must be told to have the same ones.
//! A setting is kept as the statement that sets it, in a map ordered by name, so that two sessions that
//! did the same compare equal. Called by the session (SET, RESET, start-up) and the pool (checkout).

use std::collections::BTreeMap;

/// Settings by lower-case name: the statement that makes each.
///
/// Server connections are opened without any settings, so that `RESET` always leads back to what the
/// database and role say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

/// Settings that decide which others may be set: applied last, in this order.
const IDENTITY: [&str; 2] = ["session_authorization", "role"];

impl Settings {
    /// Of a start-up packet: everything that is not the protocol's own, and `options` (manual, "libpq
    /// options": `-c name=value`, `--name=value`). `Err` names what cannot be read.
    pub fn of_startup(parameters: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut settings = Self::default();
        if let Some(options) = parameters.get("options") {
            for (name, value) in read_options(options)? {
                settings.choose(&name, &value);
            }
        }
        for (name, value) in parameters {
            if !matches!(name.as_str(), "user" | "database" | "options" | "replication") && !name.starts_with("_pq_.") {
                settings.choose(name, value);
            }
        }
        Ok(settings)
    }

    /// Sets by value, as a start-up packet does: lists are lists (`a,b`), not one name.
    pub fn choose(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        let statement = format!("SELECT pg_catalog.set_config({}, {}, false)", literal(&name), literal(value));
        self.0.insert(name, statement);
    }

    /// Sets by statement, as a client wrote it: `SET search_path TO a, b`.
    pub fn set(&mut self, name: &str, statement: &str) {
        let name = name.to_ascii_lowercase();
        // As in PostgreSQL, a new session user forgets the role.
        if name == "session_authorization" {
            self.0.remove("role");
        }
        self.0.insert(name, statement.to_owned());
    }

    /// `RESET name`: back to what the start-up packet said, if anything.
    pub fn reset(&mut self, name: &str, startup: &Self) {
        let name = name.to_ascii_lowercase();
        match startup.0.get(&name) {
            Some(statement) => self.0.insert(name, statement.clone()),
            None => self.0.remove(&name),
        };
    }

    /// `RESET ALL`: all but who the session is.
    pub fn reset_all(&mut self, startup: &Self) {
        let identity = |name: &str| IDENTITY.contains(&name);
        self.0.retain(|name, _| identity(name));
        let kept = startup.0.iter().filter(|(name, _)| !identity(name));
        self.0.extend(kept.map(|(name, statement)| (name.clone(), statement.clone())));
    }

    /// The statement that makes a setting, where the session chose one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// How many settings were chosen.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing was chosen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Statements that bring a connection from these settings to `wanted`; empty if they are equal.
    /// Each is to be run on its own, outside a transaction block.
    pub fn difference(&self, wanted: &Self) -> Vec<String> {
        if self == wanted {
            return Vec::new();
        }
        let changed = |name: &str| self.0.get(name) != wanted.0.get(name);
        let mut statements = Vec::new();
        let identity = IDENTITY.iter().any(|name| changed(name));
        if identity {
            statements.push("RESET ROLE".to_owned());
            statements.push("RESET SESSION AUTHORIZATION".to_owned());
        }
        let plain = |name: &&String| !IDENTITY.contains(&name.as_str());
        for name in self.0.keys().filter(plain).filter(|name| !wanted.0.contains_key(*name)) {
            statements.extend(reset_statement(name));
        }
        for (name, statement) in wanted.0.iter().filter(|(name, _)| plain(name) && changed(name)) {
            // Characteristics replace only what they name: begin from the defaults.
            if name == CHARACTERISTICS {
                statements.extend(reset_statement(name));
            }
            statements.push(statement.clone());
        }
        if identity {
            statements.extend(IDENTITY.iter().filter_map(|name| wanted.0.get(*name).cloned()));
        }
        statements
    }
}

/// Name under which `SET SESSION CHARACTERISTICS AS TRANSACTION …` is kept.
pub const CHARACTERISTICS: &str = "session characteristics";

fn reset_statement(name: &str) -> Vec<String> {
    if name == CHARACTERISTICS {
        return ["isolation", "read_only", "deferrable"]
            .iter()
            .map(|part| format!("RESET default_transaction_{part}"))
            .collect();
    }
    // A custom setting has a dot between its two names.
    let quoted: Vec<_> = name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    vec![format!("RESET {}", quoted.join("."))]
}

/// A text as an SQL literal that means the same whatever `standard_conforming_strings` is.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// Splits `options` as PostgreSQL does: white space separates, a backslash keeps the next character.
fn read_options(options: &str) -> Result<Vec<(String, String)>, String> {
    let mut words = vec![String::new()];
    let mut escaped = false;
    for c in options.chars() {
        match c {
            _ if escaped => {
                words.last_mut().expect("never empty").push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            c if c.is_whitespace() => words.push(String::new()),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    let mut pairs = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(setting) => setting.to_owned(),
            None if word == "-c" => words.next().ok_or_else(|| word.clone())?,
            None => word.strip_prefix("-c").ok_or_else(|| word.clone())?.to_owned(),
        };
        let (name, value) = setting.split_once('=').ok_or(word)?;
        pairs.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::of_startup(&pairs).expect("readable")
    }

    #[test]
    fn startup_settings_leave_out_the_protocols_own() {
        let settings =
            startup(&[("user", "u"), ("database", "d"), ("DateStyle", "ISO"), ("options", "-c a=b --c-d=e")]);
        assert_eq!(settings.len(), 3);
        assert_eq!(settings.get("c_d"), Some("SELECT pg_catalog.set_config('c_d', 'e', false)"));
    }

    #[test]
    fn differences_reset_what_is_gone_and_set_what_is_new() {
        let mut applied = startup(&[("a", "1"), ("b", "2")]);
        let mut wanted = startup(&[("b", "2")]);
        assert_eq!(applied.difference(&wanted), ["RESET \"a\""]);
        wanted.set("role", "SET ROLE x");
        wanted.set("B", "SET b TO 3");
        assert_eq!(
            applied.difference(&wanted),
            ["RESET ROLE", "RESET SESSION AUTHORIZATION", "RESET \"a\"", "SET b TO 3", "SET ROLE x"]
        );
        applied = wanted.clone();
        assert!(applied.difference(&wanted).is_empty());
    }

    #[test]
    fn reset_leads_back_to_the_startup_packet() {
        let base = startup(&[("a", "1")]);
        let mut settings = base.clone();
        settings.set("a", "SET a = 2");
        settings.reset("A", &base);
        assert_eq!(settings, base);
    }
}
