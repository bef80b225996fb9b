//! Addresses of gRPC services as people give them: `http://host:port`, several with commas.

use std::{fmt, str::FromStr};

use tonic::codegen::http::Uri;

/// `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUrl(String);

/// Why a text is not a service's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address of the form http://host:port")]
pub struct InvalidUrl {
    text: String,
}

impl ServiceUrl {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let text = text.trim().trim_end_matches('/');
        let invalid = || InvalidUrl { text: text.to_owned() };
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let complete = uri.scheme_str() == Some("http")
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.port_u16().is_some_and(|port| port != 0)
            && matches!(uri.path(), "" | "/");
        if complete { Ok(Self(text.to_owned())) } else { Err(invalid()) }
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As the roles' settings hold them.
pub fn urls(list: &[ServiceUrl]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_addresses_pass() {
        assert_eq!("http://a:1/".parse::<ServiceUrl>().map(|url| url.0), Ok("http://a:1".to_owned()));
        for bad in ["", "a:1", "http://a", "http://:1", "ftp://a:1", "http://a:0", "http://a:1/x", "http://a:99999"] {
            assert!(bad.parse::<ServiceUrl>().is_err(), "{bad:?}");
        }
    }
}
