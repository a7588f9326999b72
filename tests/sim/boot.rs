//! From a simulated disk to a running member: the calls of `server::bootstrap`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::{Engine, Parts, ValueReader};
use crate::node::{Node, Restored, Timing};
use storage::check::{self, Report};
use storage::checkpoint::layout;
use storage::checkpoint::{
    self, CheckpointStore, Checkpointer, Identity, Installed, Manifest, Member as ClusterMember,
    Membership, ModelDisk, ModelStore,
};
use storage::error::Fatal;
use storage::mvcc::Mvcc;
use storage::raft_log::Prepared;
use storage::types::MemberId;
use storage::vfs::Vfs;
use storage::vfs::sim::SimDisk;

use crate::host::SimHost;
use crate::member::Member;
use crate::settings::Settings;
use crate::store::{self, StoreFault};

const DIRECTORY: &str = "/data";

const IDENTITY: Identity = Identity {
    cluster_id: 77,
    member_id: MemberId(7),
};

/// Opens the data directory, or founds one.
pub fn open(
    disk: &SimDisk,
    (store_disk, fault): (&ModelDisk, &StoreFault),
    settings: &Settings,
    now: Instant,
) -> Result<Member, Fatal> {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let directory = Path::new(DIRECTORY);
    let known = layout::recognise(&*vfs, directory)?.accept()?;
    vfs.create_dir_all(directory)
        .map_err(|error| Fatal::io("create", directory, error))?;
    if known.is_none() {
        layout::create(&*vfs, directory, IDENTITY)?;
    }
    let published = checkpoint::read_manifest(&*vfs, directory)?;
    let store = store::open(store_disk, fault);
    let covered = published
        .as_ref()
        .map(|known| (known.applied_index, known.applied_term));
    let manifest = match published {
        Some(manifest) => manifest,
        None => first_manifest(&*vfs, directory)?,
    };
    let mvcc = Mvcc::with_hot_bytes_max(settings.hot_bytes_max);
    let Installed {
        machine,
        leftovers,
        dropped,
        reach,
    } = checkpoint::install(&manifest, &store, mvcc, settings.quota_bytes)?;
    let applied = (manifest.applied_index, manifest.applied_term);
    let options = settings.log_options(IDENTITY.member_id.0);
    let log_directory = directory.join(layout::LOG);
    let log = Prepared::verify(Arc::clone(&vfs), &log_directory, options, covered)?;
    check::require_values(&log_directory, &manifest, &reach, log.segments())?;
    let (log, recovered) = log.open()?;
    if covered.is_none() {
        manifest.publish(&*vfs, directory)?;
    }
    let values = ValueReader::new(log.reader(), store.reader());
    let timing = Timing {
        election_ticks: 10,
        heartbeat_ticks: 1,
    };
    let restored = Restored {
        hard_state: recovered.hard_state,
        applied,
        entries: recovered.entries,
        voters: manifest.membership.voters.clone(),
    };
    let node = Node::new(IDENTITY.member_id, timing, restored);
    let checkpointer = Checkpointer::new(
        vfs,
        directory,
        Box::new(store),
        manifest,
        leftovers,
        dropped,
    );
    let revision = machine.mvcc().current_revision();
    let parts = Parts {
        member: IDENTITY.member_id,
        name: "sim".to_owned(),
        client_urls: Vec::new(),
        node,
        log,
        machine,
        values: values.clone(),
        published: checkpointer.published().clone(),
        scrub: checkpointer.scrub(),
        sizes: settings.sizes.clone(),
    };
    let mut host = SimHost::new(now, revision);
    let engine = Engine::new(parts, &mut host)?;
    Ok(Member::new(engine, host, values, checkpointer))
}

/// `sternpost check` over the simulated disks.
pub fn check(disk: &SimDisk, store_disk: &ModelDisk) -> Result<Report, Fatal> {
    let store = ModelStore::open(store_disk);
    check::run_with(disk, Path::new(DIRECTORY), &store, &mut |_| {})
}

fn first_manifest(vfs: &dyn Vfs, directory: &Path) -> Result<Manifest, Fatal> {
    let identity = layout::read_identity(vfs, directory)?
        .ok_or_else(|| Fatal::refused(directory, "the identity file is gone"))?;
    Ok(Manifest {
        sequence: 1,
        members: vec![ClusterMember {
            id: identity.member_id,
            name: "sim".to_owned(),
            ..ClusterMember::default()
        }],
        membership: Membership {
            voters: vec![identity.member_id],
            ..Membership::default()
        },
        cluster_version: "3.7.0".to_owned(),
        ..Manifest::empty(identity)
    })
}
