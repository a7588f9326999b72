//! The founding of a cluster: what `--initial-*` says, judged only for an empty data directory.
//!
//! Pure. Invariant: a [`Bootstrap`] names exactly one member. Limits: none.

use super::{Config, ConfigError, InitialClusterState, Url};

/// What a first start founds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The peer URLs of the one member, sorted; with the token they make its id and the cluster's.
    pub peer_urls: Vec<Url>,
    /// `--initial-cluster-token`.
    pub token: String,
}

impl Config {
    /// Judges the `--initial-*` flags. Called only for an empty data directory: they are ignored on
    /// a restart (contract 4.1).
    ///
    /// # Errors
    /// etcd's words where etcd refuses too; a clear one for clusters of several members and for
    /// discovery, which are not built yet.
    pub fn bootstrap(&self) -> Result<Bootstrap, ConfigError> {
        if self.discovery {
            return Err(ConfigError::invalid(
                "discovery (--discovery-*) is not supported by Sternpost yet: name the member with \
                 --initial-cluster",
            ));
        }
        if self.initial_cluster_state == InitialClusterState::Existing {
            return Err(ConfigError::invalid(
                "--initial-cluster-state=existing with an empty data directory means joining a \
                 running cluster, which Sternpost does not support yet",
            ));
        }
        let members = parse_initial_cluster(&self.initial_cluster)?;
        if members.is_empty() {
            return Err(ConfigError::invalid(
                "initial cluster unset and no discovery endpoints found",
            ));
        }
        let mut all: Vec<&Url> = members.iter().flat_map(|(_, urls)| urls).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        let Some((_, own)) = members.iter().find(|(name, _)| *name == self.name) else {
            return Err(ConfigError::invalid(format!(
                "couldn't find local name {:?} in the initial cluster configuration",
                self.name
            )));
        };
        if all.len() != count {
            return Err(ConfigError::invalid(format!(
                "initial cluster {} has duplicate url",
                self.initial_cluster
            )));
        }
        if members.len() > 1 {
            return Err(ConfigError::invalid(format!(
                "--initial-cluster names {} members: Sternpost does not support clusters of \
                 several members yet",
                members.len()
            )));
        }
        self.check_advertised(own)?;
        Ok(Bootstrap {
            peer_urls: own.clone(),
            token: self.initial_cluster_token.clone(),
        })
    }

    /// The advertised peer URLs and those of the initial cluster must be the same.
    fn check_advertised(&self, own: &[Url]) -> Result<(), ConfigError> {
        let advertised = &self.initial_advertise_peer_urls;
        let join = |urls: Vec<String>| urls.join(",");
        let named = |url: &Url| format!("{}={url}", self.name);
        let missing: Vec<String> = own
            .iter()
            .filter(|url| !advertised.contains(url))
            .map(named)
            .collect();
        if !missing.is_empty() {
            return Err(ConfigError::invalid(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
                join(missing),
                join(advertised.iter().map(Url::to_string).collect())
            )));
        }
        let missing: Vec<String> = advertised
            .iter()
            .filter(|url| !own.contains(url))
            .map(Url::to_string)
            .collect();
        if !missing.is_empty() {
            return Err(ConfigError::invalid(format!(
                "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
                join(missing),
                join(advertised.iter().map(named).collect())
            )));
        }
        Ok(())
    }
}

/// Reads `name=url,name=url`; a name may stand several times. In the order of first mention.
fn parse_initial_cluster(text: &str) -> Result<Vec<(&str, Vec<Url>)>, ConfigError> {
    let mut members: Vec<(&str, Vec<Url>)> = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        let url = Url::parse(url).map_err(|error| {
            ConfigError::invalid(format!("error setting up initial cluster: {error}"))
        })?;
        match members.iter_mut().find(|(known, _)| *known == name) {
            Some((_, urls)) => urls.push(url),
            None => members.push((name, vec![url])),
        }
    }
    for (_, urls) in &mut members {
        urls.sort();
    }
    Ok(members)
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
