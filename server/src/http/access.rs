//! The host whitelist and CORS, in front of every plain endpoint of the client port (contract 3.3).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    ORIGIN,
};
use http::{HeaderValue, Method, StatusCode};

use super::reply;
use crate::config::AllowedOrigins;
use crate::net::PeerInfo;

/// `--cors` and `--host-whitelist`.
#[derive(Clone, Debug)]
pub struct AccessRules {
    /// Origins that may read our answers.
    pub cors: AllowedOrigins,
    /// Hosts that plaintext requests may name.
    pub hosts: AllowedOrigins,
}

pub(super) async fn control(
    State(rules): State<Arc<AccessRules>>,
    request: Request,
    next: Next,
) -> Response {
    let secure = request
        .extensions()
        .get::<PeerInfo>()
        .is_some_and(PeerInfo::is_tls);
    let host = host_name(&request).to_owned();
    if !secure && !allows(&rules.hosts, &host) {
        tracing::warn!(%host, "rejecting HTTP request to prevent DNS rebinding attacks");
        return reply::error(StatusCode::MISDIRECTED_REQUEST, &misdirected(&host));
    }
    let origin = allowed_origin(&rules, &request);
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::OK.into_response(),
        _ => next.run(request).await,
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
        let accepted = HeaderValue::from_static("accept, content-type, authorization");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, accepted);
    }
    response
}

fn allows(allowed: &AllowedOrigins, name: &str) -> bool {
    match allowed {
        AllowedOrigins::All => true,
        AllowedOrigins::Listed(names) => names.iter().any(|listed| listed == name || listed == "*"),
    }
}

fn allowed_origin(rules: &AccessRules, request: &Request) -> Option<HeaderValue> {
    if allows(&rules.cors, "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = request.headers().get(ORIGIN)?;
    allows(&rules.cors, origin.to_str().ok()?).then(|| origin.clone())
}

/// The host a request names, without its port.
fn host_name(request: &Request) -> &str {
    let named = request.uri().authority().map(http::uri::Authority::as_str);
    let header = || {
        request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok())
    };
    let host = named.or_else(header).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name),
        _ => host,
    }
}

fn misdirected(host: &str) -> String {
    format!(
        "The request names a host that this server does not know: {host:?}.\n\n\
         Use TLS, or start the server with --host-whitelist {host:?}.\n\
         Without this check a web page could reach the server by rebinding its DNS name (CVE-2018-5702)."
    )
}
