//! Settings from a TOML file: each key is the name of a flag, and stands in for that flag where
//! neither the flag nor its environment variable is given. So a value from a file is parsed, checked
//! and refused by the same code, with the same words, as one from the command line.

use std::{env, ffi::OsString, fs, path::PathBuf};

use clap::{Arg, ArgAction, Command};
use toml::{Table, Value};

/// Environment variable of `--config`.
const ENVIRONMENT: &str = "HOWDAH_CONFIG";

/// Why a settings file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidFile {
    /// It cannot be read.
    #[error("--config {path}: {source}; give a readable file")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("--config {path} is not TOML: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why, in one line.
        reason: String,
    },
    /// A key that the command has no flag for.
    #[error("--config {path}: unknown key {key:?}; keys are named like the flags of `howdah {command} --help`")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The command.
        command: String,
    },
    /// A value that no flag could have.
    #[error("--config {path}: {key} = {value} is neither text, number, boolean nor a list of these")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
}

/// `arguments`, and a flag for every key of the file that neither they nor the environment give.
pub fn with_settings(root: &Command, mut arguments: Vec<OsString>) -> Result<Vec<OsString>, InvalidFile> {
    let name = arguments.get(1).map(|name| name.to_string_lossy().into_owned());
    let Some(command) = name.and_then(|name| root.find_subcommand(name)) else { return Ok(arguments) };
    if !command.get_arguments().any(|argument| argument.get_long() == Some("config")) {
        return Ok(arguments);
    }
    let Some(path) = config_path(&arguments) else { return Ok(arguments) };
    for (key, value) in read(&path)? {
        let flag = find_flag(command, &key).ok_or_else(|| InvalidFile::UnknownKey {
            path: path.clone(),
            key: key.clone(),
            command: command.get_name().to_owned(),
        })?;
        if is_given(&arguments, &key) || flag.get_env().is_some_and(|name| env::var_os(name).is_some()) {
            continue;
        }
        let refused = || InvalidFile::Value { path: path.clone(), key: key.clone(), value: format!("{value:?}") };
        let text = text_of(&value).ok_or_else(refused)?;
        match flag.get_action() {
            ArgAction::SetTrue if text == "false" => {}
            ArgAction::SetTrue if text == "true" => arguments.push(format!("--{key}").into()),
            ArgAction::SetTrue => return Err(refused()),
            _ => arguments.push(format!("--{key}={text}").into()),
        }
    }
    Ok(arguments)
}

/// The flag a key of the file stands for; `config` itself is none.
fn find_flag<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command.get_arguments().filter(|flag| flag.get_long() != Some("config")).find(|flag| flag.get_long() == Some(key))
}

/// Path given by `--config PATH`, `--config=PATH` or the environment.
fn config_path(arguments: &[OsString]) -> Option<PathBuf> {
    let texts: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let after = texts
        .iter()
        .position(|text| text == "--config")
        .and_then(|at| texts.get(at + 1))
        .map(|path| PathBuf::from(path.as_ref()));
    let joined = || texts.iter().find_map(|text| text.strip_prefix("--config=").map(PathBuf::from));
    after.or_else(joined).or_else(|| env::var_os(ENVIRONMENT).map(PathBuf::from))
}

/// `--key`, `--key value` or `--key=value` is among the arguments.
fn is_given(arguments: &[OsString], key: &str) -> bool {
    arguments.iter().any(|argument| {
        let text = argument.to_string_lossy();
        text.strip_prefix("--")
            .and_then(|text| text.strip_prefix(key))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

fn read(path: &PathBuf) -> Result<Table, InvalidFile> {
    let text = fs::read_to_string(path).map_err(|source| InvalidFile::Unreadable { path: path.clone(), source })?;
    text.parse::<Table>().map_err(|error| InvalidFile::Syntax {
        path: path.clone(),
        reason: error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" "),
    })
}

/// A scalar, or a list of scalars with commas between.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Array(list) => Some(list.iter().map(text_of).collect::<Option<Vec<_>>>()?.join(",")),
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn command() -> Command {
        let role = Command::new("role")
            .arg(Arg::new("config").long("config"))
            .arg(Arg::new("name").long("name"))
            .arg(Arg::new("urls").long("urls"))
            .arg(Arg::new("loud").long("loud").action(ArgAction::SetTrue));
        Command::new("howdah").subcommand(role)
    }

    fn run(settings: &str, flags: &[&str]) -> Result<Vec<String>, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a scratch file");
        file.write_all(settings.as_bytes()).expect("it can be written");
        let path = file.path().to_string_lossy().into_owned();
        let all = [["howdah", "role", "--config", path.as_str()].as_slice(), flags].concat();
        let arguments = all.into_iter().map(OsString::from).collect();
        let result = with_settings(&command(), arguments).map_err(|error| error.to_string())?;
        Ok(result.iter().skip(4).map(|argument| argument.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn keys_stand_in_for_flags_that_are_not_given() {
        let settings = "name = 'a'\nurls = ['x', 'y']\nloud = true\n";
        assert_eq!(run(settings, &[]), Ok(["--loud", "--name=a", "--urls=x,y"].map(str::to_owned).to_vec()));
        assert_eq!(run("name = 'a'", &["--name", "b"]), Ok(["--name", "b"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = run("nom = 'a'", &[]).expect_err("no such flag");
        assert!(message.contains("unknown key \"nom\"") && message.contains("howdah role --help"), "{message}");
        assert!(run("name", &[]).expect_err("no TOML").contains("is not TOML"));
        assert!(run("name = 1.5", &[]).expect_err("no float").contains("name = Float(1.5)"));
    }
}
