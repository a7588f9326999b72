//! Certificates of the server side (contract 3.3, flags of 4.2): files, rotation, client
//! verification, self-signed ones.
//!
//! Owns: the rustls configuration in use, rebuilt when a file it was read from has changed. A
//! rebuild that fails keeps the configuration before it (half of a rotation on disk must not stop
//! the server) and says which file is wrong, once per change. Runs on the handshake thread.
//! Invariant: the configuration in use was complete and consistent when it was read.

pub mod certificate;
pub mod self_signed;

mod client_auth;
mod files;
mod suites;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;

use crate::config::TlsVersion;
use files::Stamp;

/// TLS of one side (clients or peers), as the flags give it.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// `--cert-file`: PEM, leaf first.
    pub cert_file: PathBuf,
    /// `--key-file`: PEM; PKCS#8, PKCS#1 or SEC1.
    pub key_file: PathBuf,
    /// `--trusted-ca-file`: PEM. As in etcd, giving it is enough to require a client certificate.
    pub trusted_ca_file: Option<PathBuf>,
    /// `--client-cert-auth`.
    pub client_cert_auth: bool,
    /// `--client-crl-file`: DER or PEM.
    pub crl_file: Option<PathBuf>,
    /// `--client-cert-allowed-hostname`: the client certificate must be valid for one of them.
    pub allowed_hostnames: Vec<String>,
    /// `--peer-cert-allowed-cn`: the client certificate's common name must be one of them.
    pub allowed_common_names: Vec<String>,
    /// `--cipher-suites`, by Go's names; empty takes all.
    pub cipher_suites: Vec<String>,
    /// `--tls-min-version`; None is 1.2.
    pub min_version: Option<TlsVersion>,
    /// `--tls-max-version`; None is the newest.
    pub max_version: Option<TlsVersion>,
}

/// Why TLS cannot be served. Names the file or the flag.
#[derive(Clone, Debug)]
pub enum TlsError {
    /// A file cannot be read or does not hold what it should.
    File {
        /// The file.
        path: PathBuf,
        /// What it is for.
        purpose: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// A flag's value makes no sense.
    Option {
        /// The flag, with its dashes.
        flag: &'static str,
        /// What is wrong with its value.
        cause: String,
    },
}

impl TlsError {
    fn file(path: &Path, purpose: &'static str, cause: impl fmt::Display) -> TlsError {
        TlsError::File {
            path: path.to_owned(),
            purpose,
            cause: cause.to_string(),
        }
    }

    /// A file whose counterpart is missing.
    pub(crate) fn half(path: &Path, cause: &str) -> TlsError {
        TlsError::file(path, "TLS file", cause)
    }

    fn option(flag: &'static str, cause: impl fmt::Display) -> TlsError {
        TlsError::Option {
            flag,
            cause: cause.to_string(),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::File {
                path,
                purpose,
                cause,
            } => {
                write!(formatter, "{purpose} {}: {cause}", path.display())
            }
            TlsError::Option { flag, cause } => write!(formatter, "{flag}: {cause}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// The server side of TLS, following its files.
pub struct ServerTls {
    options: TlsOptions,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// What the files looked like when they were last read, whether that reading succeeded or not.
    stamps: Vec<Stamp>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServerTls")
            .field("options", &self.options)
            .finish()
    }
}

impl ServerTls {
    /// Reads every file. Errors: the first file or flag that is not usable.
    pub fn open(options: &TlsOptions) -> Result<Arc<ServerTls>, TlsError> {
        let stamps = stamps(options);
        let config = build(options)?;
        let loaded = Mutex::new(Loaded { config, stamps });
        Ok(Arc::new(ServerTls {
            options: options.clone(),
            loaded,
        }))
    }

    /// The configuration in use.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.loaded.lock().config.clone()
    }

    /// The configuration in use, read anew if a file has changed. Does file I/O: for the handshake
    /// thread.
    pub fn refreshed(&self) -> Arc<ServerConfig> {
        let now = stamps(&self.options);
        let mut loaded = self.loaded.lock();
        if loaded.stamps != now {
            // Taken before reading: a change during the reading is seen at the next handshake.
            loaded.stamps = now;
            match build(&self.options) {
                Ok(config) => {
                    tracing::info!(cert_file = %self.options.cert_file.display(), "read certificates anew");
                    loaded.config = config;
                }
                Err(error) => {
                    tracing::error!(%error, "certificates changed on disk but cannot be used; the old ones stay");
                }
            }
        }
        loaded.config.clone()
    }
}

fn stamps(options: &TlsOptions) -> Vec<Stamp> {
    let always = [&options.cert_file, &options.key_file];
    let given = options
        .trusted_ca_file
        .iter()
        .chain(options.crl_file.iter());
    always
        .into_iter()
        .chain(given)
        .map(|path| Stamp::of(path))
        .collect()
}

fn build(options: &TlsOptions) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: suites::select(&options.cipher_suites, options.min_version)?,
        ..rustls::crypto::ring::default_provider()
    });
    let versions = suites::versions(options.min_version, options.max_version)?;
    let chain = files::certificates(&options.cert_file, "certificate file")?;
    let key = files::private_key(&options.key_file)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| TlsError::option("--cipher-suites", error))?;
    let builder = match client_auth::verifier(options, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        TlsError::file(
            &options.key_file,
            "key file",
            format!("{error} (certificate: {})", options.cert_file.display()),
        )
    })?;
    // grpc-go refuses a server that does not agree on h2 (contract 1.17).
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
