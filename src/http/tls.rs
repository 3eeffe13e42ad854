//! TLS for a listener: a certificate chain and its key from PEM files.
//!
//! TLS 1.2 and newer with the provider named explicitly; clients show no certificate. HTTP/1.1 is what ALPN offers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::TlsAcceptor;

/// Why a certificate and a key make no TLS server. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file could not be read, or holds no PEM certificate.
    #[error("read certificate {}: {cause}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// In words.
        cause: String,
    },
    /// The key file could not be read, or holds no PEM private key.
    #[error("read private key {}: {cause}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// In words.
        cause: String,
    },
    /// The two do not belong together, or are of a kind that is not supported.
    #[error("use certificate {} with private key {}: {cause}", certificate.display(), key.display())]
    Pair {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// In the TLS library's words.
        cause: rustls::Error,
    },
}

/// An acceptor that shows the certificate chain in the one file and signs with the key in the other; both PEM.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let chain = read_chain(certificate)?;
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|cause| TlsError::Key {
        path: key.to_owned(),
        cause: in_words(cause, "it holds no PEM private key (PKCS #8, PKCS #1 or SEC 1)"),
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pair = |cause| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), cause };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// When the first certificate in a file of PEM certificates expires, in Unix seconds.
pub fn expires(certificate: &Path) -> Result<i64, TlsError> {
    let chain = read_chain(certificate)?;
    let failed = |cause: String| TlsError::Certificate { path: certificate.to_owned(), cause };
    let first = chain.first().ok_or_else(|| failed("it holds no PEM certificate".to_owned()))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first).map_err(|error| failed(error.to_string()))?;
    Ok(parsed.validity().not_after.timestamp())
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const NONE: &str = "it holds no PEM certificate";
    let failed = |cause| TlsError::Certificate { path: path.to_owned(), cause: in_words(cause, NONE) };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if chain.is_empty() {
        return Err(TlsError::Certificate { path: path.to_owned(), cause: NONE.to_owned() });
    }
    Ok(chain)
}

/// The library's own words, but for a file without what is looked for, and never a line of the file itself.
fn in_words(cause: pem::Error, nothing_there: &str) -> String {
    match cause {
        pem::Error::Io(cause) => cause.to_string(),
        pem::Error::NoItemsFound => nothing_there.to_owned(),
        _ => "it is not well-formed PEM".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_certificate_says_when_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut asked = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        asked.not_after = rcgen::date_time_ymd(2031, 5, 7);
        let cert = file(&dir, "cert.pem", &asked.self_signed(&key).unwrap().pem());
        assert_eq!(expires(&cert).unwrap(), 1_935_878_400);
        assert!(expires(&dir.path().join("missing.pem")).is_err());
    }

    #[test]
    fn a_wrong_certificate_or_key_is_named_with_its_cause() {
        let dir = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let cert = file(&dir, "cert.pem", &own.cert.pem());
        let key = file(&dir, "key.pem", &own.signing_key.serialize_pem());
        let other_key = file(&dir, "other.pem", &other.signing_key.serialize_pem());
        let empty = file(&dir, "empty.pem", "");
        let missing = dir.path().join("missing.pem");
        assert!(acceptor(&cert, &key).is_ok());
        let table = [
            (&missing, &key, "read certificate", "missing.pem", "No such file"),
            (&empty, &key, "read certificate", "empty.pem", "no PEM certificate"),
            (&key, &key, "read certificate", "key.pem", "no PEM certificate"),
            (&cert, &missing, "read private key", "missing.pem", "No such file"),
            (&cert, &cert, "read private key", "cert.pem", "no PEM private key"),
            (&cert, &other_key, "use certificate", "other.pem", ""),
        ];
        for (cert, key, act, file, cause) in table {
            let text = acceptor(cert, key).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(text.starts_with(act) && text.contains(file) && text.contains(cause), "{text}");
        }
    }
}
