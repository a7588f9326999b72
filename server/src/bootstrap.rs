//! From a data directory to the parts of a running member. Start *is* "install
//! the local checkpoint" and replay the log behind it (design, section 4).
//!
//! Runs once, before anything is served; every refusal comes before any write.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha1::{Digest, Sha1};
use storage::check;
use storage::checkpoint::layout::{self, DirectoryLock};
use storage::checkpoint::log_place;
use storage::checkpoint::{self, Checkpointer, Installed, Manifest, Member, Membership};
use storage::error::Fatal;
use storage::mvcc::Mvcc;
use storage::raft_log::{LogOptions, Prepared};
use storage::types::{MemberId, Term};
use storage::vfs::Vfs;
use storage::vfs::real::RealVfs;

use crate::config::{Bootstrap, Config, ConfigError, MetricsLevel, Quota, Url};
use crate::engine::Sizes;
use crate::metrics::Metrics;
use crate::node::{Node, Restored, Timing};
use crate::rpc::{METHODS, UNSERVED};
use crate::runtime::{FlushChoice, Flusher, Identity, Parts, Values};
use crate::version::CLUSTER_VERSION;

/// The term of a member that has just been founded.
const FOUNDING_TERM: Term = Term(1);

/// How many seconds lie between two passes of the scrub, for tests.
const SCRUB_PAUSE_VARIABLE: &str = "STERNPOST_SCRUB_PAUSE";

/// What to do about damage that a start finds.
const AFTER_DAMAGE: &str = "`sternpost check` lists all that is damaged; restore the whole data \
                            directory from one copy, or replace the member";

/// Why a member does not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration makes no sense for this directory.
    Config(ConfigError),
    /// The directory cannot be used.
    Storage(Fatal),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Config(error) => error.fmt(f),
            StartError::Storage(damage @ Fatal::Corruption { .. }) => {
                write!(f, "{damage}; {AFTER_DAMAGE}")
            }
            StartError::Storage(fatal) => fatal.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> StartError {
        StartError::Config(error)
    }
}

impl From<Fatal> for StartError {
    fn from(fatal: Fatal) -> StartError {
        StartError::Storage(fatal)
    }
}

/// Everything that a start gives.
#[derive(Debug)]
pub struct Opened {
    /// For the core loop.
    pub parts: Parts,
    /// Held while the member runs: of the data directory, and of the log's if it has its own.
    pub locks: Vec<DirectoryLock>,
}

/// Opens the data directory, or founds one.
///
/// # Errors
/// A directory of somebody else, in use, damaged or of a newer format; flags that
/// cannot found a cluster.
pub fn open(config: &Config) -> Result<Opened, StartError> {
    let flush_choice = FlushChoice::from_environment().map_err(ConfigError::Invalid)?;
    let sizes = sizes(config.reader_grace).map_err(ConfigError::Invalid)?;
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let directory = config.data_dir.as_path();
    let known = layout::recognise(&*vfs, directory)?.accept()?;
    log_place::check(&*vfs, directory, config.wal_dir.as_deref())?;
    let bootstrap = if known.is_none() {
        Some(config.bootstrap()?)
    } else {
        None
    };
    vfs.create_dir_all(directory)
        .map_err(|error| Fatal::io("create", directory, error))?;
    let mut locks = vec![layout::lock(directory)?];
    if let Some(bootstrap) = &bootstrap {
        found(&*vfs, directory, bootstrap)?;
    }
    if let Some(wal_dir) = &config.wal_dir {
        locks.push(place_log(&*vfs, directory, wal_dir)?);
    }
    let published = checkpoint::read_manifest(&*vfs, directory)?;
    // Both are verified before either is written to; the store last, since fjall cleans up
    // when it opens. A manifest proves that there is a store.
    let log = prepare_log(&vfs, directory, published.as_ref())?;
    let store = checkpoint::open_or_defer(&*vfs, directory)?;
    let is_founding = published.is_none();
    let manifest = match published {
        Some(manifest) => manifest,
        None => first_manifest(&*vfs, directory, config)?,
    };
    let Installed {
        machine,
        leftovers,
        dropped,
        reach,
    } = checkpoint::install(&manifest, &*store, Mvcc::new(), quota_bytes(config))?;
    let applied = (manifest.applied_index, manifest.applied_term);
    check::require_values(
        &directory.join(layout::LOG),
        &manifest,
        &reach,
        log.segments(),
    )?;
    let (log, recovered) = log.open()?;
    // Behind the log's first segment: so a manifest proves that there was one.
    if is_founding {
        manifest.publish(&*vfs, directory)?;
    }
    if let Some(torn) = &recovered.torn_tail {
        tracing::warn!(
            path = %torn.path.display(),
            offset = torn.offset,
            "cut a group that was being written when the process ended; it was never acknowledged"
        );
    }
    tracing::info!(
        applied_index = applied.0.0,
        entries = recovered.entries.len(),
        revision = machine.mvcc().current_revision(),
        compact_revision = machine.mvcc().compacted_revision(),
        "loaded the checkpoint; replaying the log"
    );
    let values = Values::new(log.reader(), store.reader());
    let identity = identity(config, &manifest)?;
    let timing = Timing {
        election_ticks: config.election_ticks().max(2),
        heartbeat_ticks: 1,
    };
    // Founding counts as the first term, as in etcd, whose first leader is of term 2.
    let mut hard_state = recovered.hard_state;
    hard_state.term = hard_state.term.max(FOUNDING_TERM);
    let restored = Restored {
        hard_state,
        applied,
        entries: recovered.entries,
        voters: manifest.membership.voters.clone(),
    };
    let node = Node::new(identity.member_id, timing, restored);
    let checkpointer = Checkpointer::new(vfs, directory, store, manifest, leftovers, dropped);
    let metrics = metrics(config, &identity);
    let flusher = Flusher::start(flush_choice, &log, Arc::clone(&metrics))?;
    let parts = Parts {
        identity,
        node,
        log,
        flusher,
        machine,
        values,
        checkpointer,
        tick: config.heartbeat_interval,
        election_timeout: config.election_timeout,
        metrics,
        slow_apply: config.warning_apply_duration,
        sizes,
    };
    Ok(Opened { parts, locks })
}

/// Has the log lie in its own directory and locks that.
fn place_log(vfs: &dyn Vfs, directory: &Path, wal_dir: &Path) -> Result<DirectoryLock, Fatal> {
    vfs.create_dir_all(wal_dir)
        .map_err(|error| Fatal::io("create", wal_dir, error))?;
    let lock = layout::lock(wal_dir)?;
    if let Some(identity) = layout::read_identity(vfs, directory)? {
        log_place::create(vfs, directory, wal_dir, identity)?;
    }
    Ok(lock)
}

/// The amounts of the engine; the pause of the scrub is as [`SCRUB_PAUSE_VARIABLE`] says.
fn sizes(pin_grace: Duration) -> Result<Sizes, String> {
    let mut sizes = Sizes {
        pin_grace,
        ..Sizes::default()
    };
    let text = std::env::var_os(SCRUB_PAUSE_VARIABLE).unwrap_or_default();
    if text.is_empty() {
        return Ok(sizes);
    }
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    let text = text.display();
    let seconds =
        seconds.ok_or_else(|| format!("{SCRUB_PAUSE_VARIABLE}={text} is no number of seconds"))?;
    sizes.scrub_pause = Duration::from_secs(seconds);
    Ok(sizes)
}

/// Verifies the log behind the published manifest; writes nothing.
fn prepare_log(
    vfs: &Arc<dyn Vfs>,
    directory: &Path,
    published: Option<&Manifest>,
) -> Result<Prepared, Fatal> {
    let covered = published.map(|known| (known.applied_index, known.applied_term));
    let identity = layout::read_identity(&**vfs, directory)?;
    let options = LogOptions {
        salt: identity.map_or(0, |ours| ours.member_id.0),
        ..LogOptions::default()
    };
    let path = directory.join(layout::LOG);
    Prepared::verify(Arc::clone(vfs), &path, options, covered)
}

/// Makes an empty directory that of a new member of a new cluster.
fn found(vfs: &dyn Vfs, directory: &Path, bootstrap: &Bootstrap) -> Result<(), StartError> {
    let (cluster_id, member_id) = founding_ids(bootstrap);
    let identity = checkpoint::Identity {
        cluster_id,
        member_id,
    };
    layout::create(vfs, directory, identity)?;
    tracing::info!(
        data_dir = %directory.display(),
        cluster_id = format!("{cluster_id:x}"),
        member_id = format!("{:x}", member_id.0),
        "founded a new cluster"
    );
    Ok(())
}

fn founding_manifest(
    config: &Config,
    identity: checkpoint::Identity,
    bootstrap: &Bootstrap,
) -> Manifest {
    Manifest {
        sequence: 1,
        members: vec![Member {
            id: identity.member_id,
            name: config.name.clone(),
            peer_urls: bootstrap.peer_urls.iter().map(Url::to_string).collect(),
            client_urls: config
                .advertise_client_urls
                .iter()
                .map(Url::to_string)
                .collect(),
        }],
        membership: Membership {
            voters: vec![identity.member_id],
            ..Membership::default()
        },
        cluster_version: CLUSTER_VERSION.to_owned(),
        ..Manifest::empty(identity)
    }
}

/// The manifest of a member that has applied nothing: of a new one, or of one whose
/// founding was cut short behind the identity file.
fn first_manifest(
    vfs: &dyn Vfs,
    directory: &Path,
    config: &Config,
) -> Result<Manifest, StartError> {
    let identity = layout::read_identity(vfs, directory)?.ok_or_else(|| {
        Fatal::refused(
            directory,
            "the identity file is gone; restore the directory from a copy",
        )
    })?;
    let bootstrap = config.bootstrap()?;
    if founding_ids(&bootstrap) != (identity.cluster_id, identity.member_id) {
        let text = "the directory was founded with other --initial-* flags and holds no data \
                    yet; remove it, or start with those flags";
        return Err(Fatal::refused(directory, text).into());
    }
    Ok(founding_manifest(config, identity, &bootstrap))
}

/// What is known of the member before it runs is told at once.
fn metrics(config: &Config, identity: &Identity) -> Arc<Metrics> {
    // What is not served is counted as well: dashboards expect every method of etcd (trap 24).
    let methods = [METHODS, UNSERVED].concat();
    let metrics = Metrics::new(&methods, config.metrics == MetricsLevel::Extensive);
    metrics.set_member(identity.member_id.0);
    let (cluster_version, _) = CLUSTER_VERSION
        .rsplit_once('.')
        .expect("the version has three parts");
    metrics.set_cluster_version(cluster_version);
    metrics.set_features(config.feature_gates.rows());
    let quota = &metrics.member.quota_backend_bytes;
    match quota_bytes(config) {
        Some(bytes) => quota.set_unsigned(bytes),
        None => quota.set_signed(-1),
    }
    // Auth is not built: its store never changes (contract 6).
    metrics.member.auth_revision.set_unsigned(1);
    metrics
}

fn quota_bytes(config: &Config) -> Option<u64> {
    match config.quota {
        Quota::Default => Some(Quota::DEFAULT_BYTES),
        Quota::Off => None,
        Quota::Bytes(bytes) => Some(bytes),
    }
}

/// Who this member is now: ids and peer URLs are those of the data, name and
/// client URLs those of the flags, as etcd publishes them on every start.
fn identity(config: &Config, manifest: &Manifest) -> Result<Identity, StartError> {
    let member_id = manifest.identity.member_id;
    let member = manifest
        .members
        .iter()
        .find(|member| member.id == member_id);
    let Some(member) = member else {
        let text = format!("the manifest does not list member {:x}", member_id.0);
        return Err(Fatal::corruption(layout::MANIFEST, 0, text).into());
    };
    Ok(Identity {
        cluster_id: manifest.identity.cluster_id,
        member_id,
        name: config.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: config
            .advertise_client_urls
            .iter()
            .map(Url::to_string)
            .collect(),
    })
}

/// Cluster and member id as etcd derives them (contract 1.11).
fn founding_ids(bootstrap: &Bootstrap) -> (u64, MemberId) {
    let mut urls: Vec<String> = bootstrap.peer_urls.iter().map(Url::to_string).collect();
    urls.sort();
    let mut member = Sha1::new();
    for url in &urls {
        member.update(url.as_bytes());
    }
    member.update(bootstrap.token.as_bytes());
    let member_id = first_8_bytes(&member.finalize());
    let mut cluster = Sha1::new();
    cluster.update(member_id.to_be_bytes());
    (first_8_bytes(&cluster.finalize()), MemberId(member_id))
}

fn first_8_bytes(digest: &[u8]) -> u64 {
    u64::from_be_bytes(*digest.first_chunk().expect("a SHA-1 digest has 20 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What etcd 3.7 derives from its default flags.
    #[test]
    fn ids_are_those_of_etcd() {
        let bootstrap = Config::defaults().bootstrap().unwrap();
        let (cluster_id, member_id) = founding_ids(&bootstrap);
        assert_eq!(format!("{:x}", member_id.0), "8e9e05c52164694d");
        assert_eq!(format!("{cluster_id:x}"), "cdf818194e3a8c32");
    }
}
