//! The egress proxy, where an installation has one: a tunnel to the vetted address.
//!
//! Owns the proxy's setting and the words of CONNECT. The proxy is asked for the address that the guard has vetted, never
//! for the name: otherwise the proxy's own look-up would decide where deliveries go. So names are resolved here even behind
//! a proxy. The proxy's own address is the operator's word and is not weighed. Plain http goes through a tunnel as well.
//! Only a setting makes a proxy; the environment is never read.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use super::Failure;
use super::guard::Host;
use crate::model::{Reason, Secret};

/// The most bytes of the proxy's answer.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// An HTTP proxy: `http://[user:password@]host[:port]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: Host,
    port: u16,
    /// The value of Proxy-Authorization.
    authorization: Option<Secret>,
}

/// Why a text is no proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read the proxy: {0}")]
pub struct ProxyError(String);

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let refuse = |why: &str| ProxyError(format!("{why}; http://[user:password@]host:port is asked for"));
        // The host is spelled plainly: escapes are for credentials.
        let host_start = text.rfind('@').or_else(|| text.find("//")).unwrap_or_default();
        if !text.is_ascii() || text[host_start..].contains('%') {
            return Err(refuse("the host is not a plain name or address"));
        }
        let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
        if url.scheme() != "http" {
            return Err(refuse("only http proxies are spoken to"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("something follows the port"));
        }
        let host = match url.host() {
            None => return Err(refuse("it names no host")),
            Some(url::Host::Ipv4(address)) => Host::Address(IpAddr::V4(address)),
            Some(url::Host::Ipv6(address)) => Host::Address(IpAddr::V6(address)),
            Some(url::Host::Domain(name)) => Host::Name(name.to_owned()),
        };
        let port = match url.port_or_known_default() {
            None | Some(0) => return Err(refuse("port 0 cannot be reached")),
            Some(port) => port,
        };
        let authorization = if url.username().is_empty() && url.password().is_none() {
            None
        } else {
            let user = percent_decode_str(url.username()).collect::<Vec<u8>>();
            let password = percent_decode_str(url.password().unwrap_or_default()).collect::<Vec<u8>>();
            let pair = [user.as_slice(), b":", password.as_slice()].concat();
            Some(Secret::new(format!("Basic {}", STANDARD.encode(pair))))
        };
        Ok(Proxy { host, port, authorization })
    }
}

impl fmt::Display for Proxy {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl Proxy {
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Asks for a tunnel to `address` on a connection to the proxy.
    pub(super) async fn tunnel(&self, stream: &mut TcpStream, address: SocketAddr) -> Result<(), Failure> {
        let failed =
            |why: String| Failure::new(Reason::Refused, format!("cannot reach {address} through {self}: {why}"));
        let mut request = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("Proxy-Authorization: {}\r\n", authorization.expose()));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|error| failed(error.to_string()))?;

        let mut answer = Vec::with_capacity(512);
        let end = loop {
            match stream.read_buf(&mut answer).await {
                Ok(0) => return Err(failed("the proxy closed the connection".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(failed(error.to_string())),
            }
            if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(failed("the proxy's answer is over its limit".to_owned()));
            }
        };
        match status(&answer) {
            // Who tunnels must not speak first, and neither receivers nor TLS do.
            Some(200..=299) if end == answer.len() => Ok(()),
            Some(200..=299) => Err(failed("the proxy said more than its answer".to_owned())),
            Some(status) => Err(failed(format!("the proxy answered {status}"))),
            None => Err(failed("the proxy does not speak HTTP/1".to_owned())),
        }
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(2..5).filter(|_| rest.get(1) == Some(&b' '))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_http_url_without_a_path() {
        let proxy: Proxy = "http://Us%40er:pass@Proxy.Internal:3128".parse().unwrap();
        assert_eq!(proxy.authorization, Some(Secret::new(format!("Basic {}", STANDARD.encode("Us@er:pass")))));
        assert_eq!(format!("{proxy:?} {proxy}"), "Proxy(http://proxy.internal:3128) http://proxy.internal:3128");
        assert_eq!("http://10.0.0.1".parse::<Proxy>().unwrap().port(), 80);
        for wrong in [
            "",
            "proxy:3128",
            "https://proxy:3128",
            "socks5://proxy",
            "http://proxy:0",
            "http://proxy/x",
            "http://A%AA/",
            "é",
        ] {
            assert!(wrong.parse::<Proxy>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_status_line_is_read_strictly() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407\r\n\r\n"), Some(407));
        for wrong in [&b""[..], b"HTTP/1.1", b"HTTP/1.1 2", b"HTTP/2 200 OK", b"HTTP/1.1x200", b"HTTP/1.1 2x0"] {
            assert_eq!(status(wrong), None);
        }
    }
}
