//! What the network layer takes from the configuration.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::connection::ConnectionOptions;
use super::socket::SocketOptions;
use crate::config::{Config, TlsFiles, Url};
use crate::tls::{TlsError, TlsOptions, self_signed};

/// What to listen on, taken from the configuration.
#[derive(Clone, Debug, Default)]
pub struct ListenOptions {
    /// `--listen-client-urls`.
    pub client_urls: Vec<Url>,
    /// `--listen-client-http-urls`; when given, the client URLs speak gRPC alone.
    pub client_http_urls: Vec<Url>,
    /// `--listen-metrics-urls`.
    pub metrics_urls: Vec<Url>,
    /// `--listen-peer-urls`.
    pub peer_urls: Vec<Url>,
    /// Certificates of the client side; None without `--cert-file` and `--auto-tls`.
    pub client_tls: Option<TlsOptions>,
    /// Certificates of the peer side.
    pub peer_tls: Option<TlsOptions>,
    /// `--socket-reuse-port`, `--socket-reuse-address`.
    pub socket: SocketOptions,
    /// Streams and keep-alive.
    pub connection: ConnectionOptions,
}

impl ListenOptions {
    /// From the configuration. With `--auto-tls` it makes the certificate below the data directory
    /// if it is not there; `now` is the wall clock. Errors: the certificate cannot be made, or half
    /// of a pair of files is given.
    pub fn from_config(config: &Config, now: SystemTime) -> Result<ListenOptions, TlsError> {
        let fixtures = config.data_dir.join("fixtures");
        let client_hosts = &config.listen_client_urls;
        let peer_hosts = &config.listen_peer_urls;
        let side = |files: &TlsFiles, urls: &[Url], directory: &Path| {
            tls_options(config, files, urls, directory, now)
        };
        Ok(ListenOptions {
            client_urls: config.listen_client_urls.clone(),
            client_http_urls: config.listen_client_http_urls.clone(),
            metrics_urls: config.listen_metrics_urls.clone(),
            peer_urls: config.listen_peer_urls.clone(),
            client_tls: side(&config.client_tls, client_hosts, &fixtures.join("client"))?,
            peer_tls: side(&config.peer_tls, peer_hosts, &fixtures.join("peer"))?,
            socket: SocketOptions {
                reuse_port: config.socket_reuse_port,
                reuse_address: config.socket_reuse_address,
            },
            connection: ConnectionOptions {
                max_concurrent_streams: config.max_concurrent_streams,
                keepalive_interval: config.grpc_keepalive_interval,
                keepalive_timeout: config.grpc_keepalive_timeout.unwrap_or(Duration::MAX),
            },
        })
    }
}

fn tls_options(
    config: &Config,
    files: &TlsFiles,
    urls: &[Url],
    fixtures: &Path,
    now: SystemTime,
) -> Result<Option<TlsOptions>, TlsError> {
    let (cert_file, key_file) = match (&files.cert_file, &files.key_file) {
        (Some(cert_file), Some(key_file)) => (cert_file.clone(), key_file.clone()),
        (Some(cert_file), None) => return Err(TlsError::half(cert_file, "has no --key-file")),
        (None, Some(key_file)) => return Err(TlsError::half(key_file, "has no --cert-file")),
        (None, None) if !files.auto_tls => return Ok(None),
        (None, None) => {
            let mut hosts: Vec<String> = urls
                .iter()
                .filter(|url| !url.scheme().is_unix())
                .map(|url| url.host().to_owned())
                .collect();
            hosts.sort();
            hosts.dedup();
            self_signed::ensure(
                fixtures,
                &hosts,
                config.self_signed_cert_validity_years,
                now,
            )?
        }
    };
    Ok(Some(TlsOptions {
        cert_file,
        key_file,
        trusted_ca_file: files.trusted_ca_file.clone(),
        client_cert_auth: files.client_cert_auth,
        crl_file: files.crl_file.clone(),
        allowed_hostnames: files.allowed_hostnames.clone(),
        allowed_common_names: files.allowed_cns.clone(),
        cipher_suites: config.cipher_suites.clone(),
        min_version: Some(config.tls_min_version),
        max_version: config.tls_max_version,
    }))
}
