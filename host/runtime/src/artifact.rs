//! What the runtime keeps in its folder: compiled components, and marks of those that are being started.
//!
//! An artifact is named by the digest of its component and the hash of the engine, sealed (see `shoal-artifact`), and put in
//! place whole. The folder has a bound in bytes; what has not been used longest goes first.
//!
//! A component whose first steps end the whole process would do so at every start. So a mark names it while it takes them. A
//! mark that is found at a start is a strike against its component, because the process may have been killed by chance; the
//! second one, with no start that went well in between, makes it a suspect, which is not loaded until somebody forgives it.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use shoal_artifact::{NotOpened, Origin, SealKey};
use shoal_model::Digest;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Where compiled components are kept.
#[derive(Clone)]
pub struct ArtifactOptions {
    /// A folder of the runtime's own; made when it is not there, for its owner only.
    pub folder: PathBuf,
    /// What tells this server's work from anybody else's.
    pub key: [u8; 32],
    /// How much all artifacts may take together.
    pub max_bytes: u64,
}

impl std::fmt::Debug for ArtifactOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArtifactOptions")
            .field("folder", &self.folder)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

const ARTIFACT: &str = "artifact";
const STARTING: &str = "starting";
const STRUCK: &str = "struck";
const SUSPECT: &str = "suspect";

/// The folder.
pub(crate) struct Artifacts {
    folder: PathBuf,
    key: SealKey,
    max_bytes: u64,
    suspects: Mutex<BTreeSet<Digest>>,
    /// Makes names of files unique within the process.
    next: AtomicU64,
}

/// Names a component while it is started; gone when dropped.
pub(crate) struct Mark(PathBuf);

impl Drop for Mark {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            let file = self.0.display();
            tracing::warn!(%file, %error, "a mark cannot be removed: it counts against its plugin at the next start");
        }
    }
}

impl Artifacts {
    /// Opens the folder, and finds who was being started when the process before ended.
    pub(crate) fn open(options: &ArtifactOptions) -> std::io::Result<Artifacts> {
        let folder = options.folder.clone();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let (mut suspects, mut struck, mut marks) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let end = path
                .extension()
                .and_then(|end| end.to_str())
                .unwrap_or_default();
            match (end, digest_of(&path)) {
                (STARTING, Some(digest)) => marks.push((digest, path)),
                (STRUCK, Some(digest)) => drop(struck.insert(digest)),
                (SUSPECT, Some(digest)) => drop(suspects.insert(digest)),
                (ARTIFACT, Some(_)) => {}
                // Half of what a process before wrote.
                ("new", _) => fs::remove_file(&path)?,
                _ => {}
            }
        }
        let artifacts = Artifacts {
            folder,
            key: SealKey::new(options.key),
            max_bytes: options.max_bytes,
            suspects: Mutex::new(suspects),
            next: AtomicU64::new(0),
        };
        // Several marks of one component are one strike: it was at work in several places when the process ended.
        for (digest, path) in marks {
            artifacts.strike(digest, &path, struck.contains(&digest))?;
        }
        Ok(artifacts)
    }

    /// Counts a mark of a process before against its component.
    fn strike(&self, digest: Digest, mark: &Path, is_second: bool) -> std::io::Result<()> {
        if !is_second {
            tracing::warn!(plugin.digest = %digest, "the process ended while this plugin was started; once more, and it is not loaded until it is forgiven");
            return fs::rename(mark, self.beside(&digest, STRUCK));
        }
        tracing::error!(plugin.digest = %digest, "the process ended while this plugin was started, twice; it is not loaded until it is forgiven");
        fs::rename(mark, self.beside(&digest, SUSPECT))?;
        self.suspects.lock().insert(digest);
        self.clear(&digest)
    }

    /// Takes back the strike against a component, if there is one: it got through its first start.
    pub(crate) fn clear(&self, digest: &Digest) -> std::io::Result<()> {
        match fs::remove_file(self.beside(digest, STRUCK)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    pub(crate) fn suspects(&self) -> Vec<Digest> {
        self.suspects.lock().iter().copied().collect()
    }

    pub(crate) fn is_suspect(&self, digest: &Digest) -> bool {
        self.suspects.lock().contains(digest)
    }

    /// Lets a suspect be loaded again; false when it was none.
    pub(crate) fn forgive(&self, digest: &Digest) -> std::io::Result<bool> {
        let mut suspects = self.suspects.lock();
        if !suspects.contains(digest) {
            return Ok(false);
        }
        fs::remove_file(self.beside(digest, SUSPECT))?;
        self.clear(digest)?;
        Ok(suspects.remove(digest))
    }

    /// Names a component as being started.
    pub(crate) fn mark(&self, digest: &Digest) -> std::io::Result<Mark> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self
            .folder
            .join(format!("{}-{n}.{STARTING}", hex(&digest.0)));
        // Not synced: it is to outlive this process, not the machine.
        File::create(&path).map(|_| Mark(path))
    }

    /// A compiled component, if there is one that this server made for this engine.
    pub(crate) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let origin = origin(engine, digest);
        let path = self.path(&origin);
        let sealed = fs::read(&path).ok()?;
        match shoal_artifact::open(engine, &self.key, &origin, &sealed) {
            Ok(component) => {
                let used = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                if let Err(error) = used {
                    tracing::debug!(%error, "the use of an artifact cannot be noted");
                }
                Some(component)
            }
            Err(error) => {
                let file = path.display();
                tracing::warn!(%file, %error, "compiling a plugin again");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps code that was just compiled, and loads it.
    pub(crate) fn keep(
        &self,
        engine: &Engine,
        digest: &Digest,
        code: &[u8],
    ) -> Result<Component, NotOpened> {
        let origin = origin(engine, digest);
        let sealed = shoal_artifact::seal(&self.key, &origin, code);
        let component = shoal_artifact::open(engine, &self.key, &origin, &sealed)?;
        if let Err(error) = self.write(&self.path(&origin), &sealed) {
            tracing::warn!(%error, "a compiled plugin cannot be kept; it is compiled again at the next start");
        }
        Ok(component)
    }

    fn write(&self, path: &Path, sealed: &[u8]) -> std::io::Result<()> {
        self.make_room(sealed.len() as u64)?;
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let new = path.with_extension(format!("{n}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(sealed)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Removes what was compiled of a component, for whatever engine.
    pub(crate) fn discard(&self, digest: &Digest) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let is_artifact = path.extension().is_some_and(|end| end == ARTIFACT);
            if is_artifact && digest_of(&path) == Some(*digest) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Removes what has not been used longest until `more` bytes fit.
    fn make_room(&self, more: u64) -> std::io::Result<()> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == ARTIFACT) {
                let metadata = fs::metadata(&path)?;
                all.push((metadata.modified()?, metadata.len(), path));
            }
        }
        all.sort_unstable();
        let mut bytes: u64 = all.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in all {
            if bytes.saturating_add(more) <= self.max_bytes {
                break;
            }
            fs::remove_file(path)?;
            bytes -= size;
        }
        Ok(())
    }

    /// What is remembered of a component.
    fn beside(&self, digest: &Digest, what: &str) -> PathBuf {
        self.folder.join(format!("{}.{what}", hex(&digest.0)))
    }

    fn path(&self, origin: &Origin) -> PathBuf {
        let (component, engine) = (hex(&origin.component), hex(&origin.engine[..8]));
        self.folder.join(format!("{component}-{engine}.{ARTIFACT}"))
    }
}

fn origin(engine: &Engine, digest: &Digest) -> Origin {
    Origin {
        component: digest.0,
        engine: shoal_artifact::engine_hash(engine),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest at the beginning of a file's name.
fn digest_of(path: &Path) -> Option<Digest> {
    let name = path.file_stem()?.to_str()?;
    format!("sha256:{}", name.get(..64)?).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Sort, compiling_engine};

    struct World {
        folder: tempfile::TempDir,
        engine: Engine,
        code: Vec<u8>,
    }

    impl World {
        fn new() -> World {
            let engine = compiling_engine(Sort::General).expect("an engine");
            let component = wat::parse_str("(component)").expect("a component");
            World {
                folder: tempfile::tempdir().expect("a folder"),
                code: engine.precompile_component(&component).expect("compiled"),
                engine,
            }
        }

        fn open(&self, max_bytes: u64, key: u8) -> Artifacts {
            let options = ArtifactOptions {
                folder: self.folder.path().join("plugins"),
                key: [key; 32],
                max_bytes,
            };
            Artifacts::open(&options).expect("a folder")
        }
    }

    #[test]
    fn what_was_kept_is_loaded_by_the_next_process_unless_it_was_changed() {
        let world = World::new();
        let digest = Digest([1; 32]);
        let kept = world
            .open(1 << 30, 1)
            .keep(&world.engine, &digest, &world.code);
        assert!(kept.is_ok());
        let next = world.open(1 << 30, 1);
        assert!(next.load(&world.engine, &digest).is_some());
        assert!(next.load(&world.engine, &Digest([2; 32])).is_none());
        let path = next.path(&origin(&world.engine, &digest));
        let mut bytes = fs::read(&path).expect("kept");
        *bytes.last_mut().expect("bytes") ^= 1;
        fs::write(&path, bytes).expect("changed");
        assert!(next.load(&world.engine, &digest).is_none(), "changed");
        assert!(!path.exists(), "it is compiled anew");
        let _ = next.keep(&world.engine, &digest, &world.code);
        let other = world.open(1 << 30, 2);
        assert!(other.load(&world.engine, &digest).is_none(), "another key");
    }

    #[test]
    fn what_has_not_been_used_longest_gives_way() {
        let world = World::new();
        let size = world.code.len() as u64 + 48;
        let artifacts = world.open(size * 2, 1);
        for (n, age) in [(1, 30), (2, 20)] {
            let digest = Digest([n; 32]);
            artifacts
                .keep(&world.engine, &digest, &world.code)
                .expect("kept");
            let file = File::open(artifacts.path(&origin(&world.engine, &digest)));
            let then = SystemTime::now() - std::time::Duration::from_secs(age);
            file.expect("kept").set_modified(then).expect("older");
        }
        assert!(
            artifacts.load(&world.engine, &Digest([1; 32])).is_some(),
            "used now"
        );
        artifacts
            .keep(&world.engine, &Digest([3; 32]), &world.code)
            .expect("kept");
        let is_there = |n| artifacts.load(&world.engine, &Digest([n; 32])).is_some();
        assert_eq!([1, 2, 3].map(is_there), [true, false, true]);
    }

    /// The process ends while a component is being started.
    fn killed_at_its_start(artifacts: &Artifacts, digest: &Digest) {
        for _ in 0..2 {
            std::mem::forget(artifacts.mark(digest).expect("marked"));
        }
    }

    #[test]
    fn whoever_was_being_started_twice_when_the_process_ended_is_a_suspect() {
        let world = World::new();
        let (well, bad) = (Digest([1; 32]), Digest([2; 32]));
        let first = world.open(1 << 30, 1);
        drop(first.mark(&well).expect("marked"));
        killed_at_its_start(&first, &bad);
        for _ in 0..2 {
            let next = world.open(1 << 30, 1);
            assert_eq!(next.suspects(), [], "it may have been chance");
        }
        killed_at_its_start(&world.open(1 << 30, 1), &bad);
        for _ in 0..2 {
            let next = world.open(1 << 30, 1);
            assert_eq!(next.suspects(), [bad]);
            assert!(next.is_suspect(&bad) && !next.is_suspect(&well));
        }
        let next = world.open(1 << 30, 1);
        assert!(next.forgive(&bad).expect("forgiven"));
        assert!(!next.forgive(&well).expect("none"));
        killed_at_its_start(&next, &bad);
        assert_eq!(world.open(1 << 30, 1).suspects(), [], "it begins anew");
    }

    #[test]
    fn a_start_that_goes_well_takes_the_strike_back() {
        let world = World::new();
        let digest = Digest([1; 32]);
        for _ in 0..3 {
            killed_at_its_start(&world.open(1 << 30, 1), &digest);
            let next = world.open(1 << 30, 1);
            next.clear(&digest).expect("cleared");
            next.clear(&digest).expect("there is nothing to clear");
            assert_eq!(next.suspects(), []);
        }
    }
}
