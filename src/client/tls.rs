//! TLS: which authorities, which certificate of ours, which pin, and what a failure is called.
//!
//! Owns the configurations, made once per set of options. The provider is always passed explicitly; versions are 1.2 and
//! 1.3. There is no switch that skips verification. A pin replaces the chain: exactly the certificate with that SHA-256 is
//! accepted, whoever signed it, whatever name or date it bears, so that a self-signed receiver in one's own house can be
//! named exactly; the handshake still proves that the other side holds its key.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::guard::{Host, TargetUrl};
use super::{ClientError, Failure};
use crate::model::Reason;
use crate::model::destination::TlsOptions;

/// Why a destination's TLS options do not serve. Nothing was dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsOptionsError {
    /// The authorities are not certificates in PEM.
    #[error("read tls.ca: {0}")]
    Ca(String),
    /// Our certificate is not a chain in PEM, or does not belong to its key.
    #[error("read tls.client_cert: {0}")]
    ClientCert(String),
    /// Our key is no private key in PEM.
    #[error("read tls.client_key: {0}")]
    ClientKey(String),
    /// Only one of certificate and key is there.
    #[error("read tls: client_cert and client_key belong together")]
    Half,
}

/// Whether a destination's TLS options serve: asked once, when it is saved.
///
/// # Errors
///
/// When an authority, a certificate or a key cannot be read, or certificate and key do not belong together.
pub fn check_tls(options: &TlsOptions) -> Result<(), TlsOptionsError> {
    configure(&provider(), RootCertStore::empty(), options).map(drop)
}

/// Which set of options: connections are shared only where it is the same. The plain one is all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity([u8; 32]);

impl Identity {
    const PLAIN: Identity = Identity([0; 32]);

    fn of(options: &TlsOptions) -> Self {
        let TlsOptions { ca, client_cert, client_key, pin } = options;
        if ca.is_none() && client_cert.is_none() && client_key.is_none() && pin.is_none() {
            return Identity::PLAIN;
        }
        let mut hasher = Sha256::new();
        let parts = [ca.as_deref(), client_cert.as_deref(), client_key.as_ref().map(|key| key.expose())]
            .map(|part| part.map(str::as_bytes));
        for part in parts.into_iter().chain([pin.as_ref().map(|pin| pin.as_slice())]) {
            // Length first, and absent apart from empty, so that two sets never read the same.
            hasher.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            hasher.update(part.unwrap_or_default());
        }
        Identity(hasher.finalize().into())
    }
}

/// The configurations in use.
pub(super) struct Configs {
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    /// Locked to look up and to insert; a configuration is made outside. Those with a destination's own options hold its private
    /// key: they live as long as a target or a connection that uses them, and no longer.
    made: Mutex<HashMap<Identity, Weak<ClientConfig>>>,
    /// The one without any, which most destinations share; made when it is first asked for.
    plain: OnceLock<Arc<ClientConfig>>,
}

impl Configs {
    /// Loads the system's authorities, and those in `ca` besides. That the system has none is no error: a destination's
    /// own authority or pin may be all that is needed, and every other certificate will be refused.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, ClientError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca {
            let refuse = |why: String| ClientError::Authorities { path: path.to_owned(), why };
            let pem = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
            add_authorities(&mut roots, &pem).map_err(refuse)?;
        }
        Ok(Configs { provider: provider(), roots, made: Mutex::default(), plain: OnceLock::new() })
    }

    pub(super) fn of(&self, options: &TlsOptions) -> Result<(Identity, Arc<ClientConfig>), TlsOptionsError> {
        let identity = Identity::of(options);
        let lock = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match identity {
            Identity::PLAIN => self.plain.get().cloned(),
            _ => lock().get(&identity).and_then(Weak::upgrade),
        };
        if let Some(config) = made {
            return Ok((identity, config));
        }
        let config = Arc::new(configure(&self.provider, self.roots.clone(), options)?);
        if identity == Identity::PLAIN {
            return Ok((identity, Arc::clone(self.plain.get_or_init(|| config))));
        }
        let mut made = lock();
        made.retain(|_, config| config.strong_count() > 0);
        made.insert(identity, Arc::downgrade(&config));
        Ok((identity, config))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn configure(
    provider: &Arc<CryptoProvider>,
    mut roots: RootCertStore,
    options: &TlsOptions,
) -> Result<ClientConfig, TlsOptionsError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3");
    if let Some(pem) = &options.ca {
        add_authorities(&mut roots, pem.as_bytes()).map_err(TlsOptionsError::Ca)?;
    }
    let builder = match options.pin {
        None => builder.with_root_certificates(roots),
        Some(pin) => {
            let verifier = Pinned { pin, provider: Arc::clone(provider) };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match (&options.client_cert, &options.client_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(chain), Some(key)) => {
            let chain = certificates(chain.as_bytes()).map_err(TlsOptionsError::ClientCert)?;
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                .map_err(|_| TlsOptionsError::ClientKey("not a private key in PEM".to_owned()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| TlsOptionsError::ClientCert(error.to_string()))?
        }
        (Some(_), None) | (None, Some(_)) => return Err(TlsOptionsError::Half),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| format!("not PEM: {error}"))?;
    if certificates.is_empty() { Err("no certificate in PEM in it".to_owned()) } else { Ok(certificates) }
}

fn add_authorities(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), String> {
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Accepts one certificate.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Sha256::digest(end_entity).ct_eq(self.pin.as_slice()).into() {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

pub(super) fn server_name(target: &TargetUrl) -> Result<ServerName<'static>, Failure> {
    match target.host() {
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Name(name) => ServerName::try_from(name.clone())
            .map_err(|_| Failure::new(Reason::TlsName, format!("agree on TLS: no certificate can be for {name}"))),
    }
}

/// What an error of the handshake, or of a record after it, means.
pub(super) fn failure(error: &io::Error) -> Failure {
    let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        let words = match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "the connection ended in the middle".to_owned()
            }
            _ => error.to_string(),
        };
        return Failure::new(Reason::TlsHandshake, format!("agree on TLS: {words}"));
    };
    let (reason, hint) = match cause {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => (Reason::TlsExpired, ""),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                (Reason::TlsName, "")
            }
            // Only the verifier of pins gives this one.
            CertificateError::ApplicationVerificationFailure => (Reason::TlsPin, " (it is not the pinned one)"),
            CertificateError::UnknownIssuer => {
                (Reason::TlsUntrusted, " (a private authority or a pin can be set in the destination's tls)")
            }
            _ => (Reason::TlsUntrusted, ""),
        },
        _ => (Reason::TlsHandshake, ""),
    };
    Failure::new(reason, format!("agree on TLS: {cause}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A private key stays in memory as long as somebody speaks TLS with it; what most destinations share stays for good.
    #[test]
    fn a_configuration_of_ones_own_goes_with_its_last_user() {
        let configs = Configs::new(None).unwrap();
        let own = |pin: u8| configs.of(&TlsOptions { pin: Some([pin; 32]), ..TlsOptions::default() }).unwrap().1;
        let plain = || Arc::downgrade(&configs.of(&TlsOptions::default()).unwrap().1);
        let (first, second) = (own(1), own(1));
        assert!(Arc::ptr_eq(&first, &second), "who has the same options shares one");
        let gone = Arc::downgrade(&first);
        drop((first, second));
        assert!(gone.upgrade().is_none());
        let _other = own(2);
        assert_eq!(configs.made.lock().unwrap().len(), 1, "no trace of it stays");
        assert!(plain().upgrade().is_some() && plain().ptr_eq(&plain()));
    }
}
