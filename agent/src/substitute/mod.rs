//! Store paths from binary caches, before the laptop is asked for the rest.
//!
//! What a cache has is worth something only if a trusted key has signed it, or it is addressed by its content
//! (`cygnet_protocol::substituter` decides). [`curl`] fetches, [`unpack`] unpacks, and from there on a path comes in as any other:
//! through [`import`]. Whatever goes wrong with a cache, its paths are asked of the laptop, and a person is told once for each
//! cause. While it lasts it is a data channel: there is one at a time, and a later one ends it.

mod curl;
pub mod unpack;

use crate::agent::Agent;
use crate::run::{aborted, is_there};
use crate::store::admission::{Admission, check_content, keys_of_the_card};
use crate::store::import::{import, remove};
use curl::{Answer, Curl};
use cygnet_protocol::event::{Arrival, EventKind, Phase, Source};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::message::Reply;
use cygnet_protocol::store::{PathInfo, StorePath};
use cygnet_protocol::substituter::{self, MAX_NARINFO, Offer, Substituter};
use cygnet_protocol::trust::{Keys, Trust};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use unpack::{Counted, unpacked};

/// How many records are asked for at once.
const BATCH: usize = 64;
/// How often a cache may fail in the middle before it is left alone.
const STRIKES: u32 = 3;
/// How much may be lost to a power cut, NAR bytes …
const SYNC_BYTES: u64 = 64 * 1024 * 1024;
/// … and how long ago it came.
const SYNC_TIME: Duration = Duration::from_secs(10);
/// How often a client is told of progress.
const EVERY: Duration = Duration::from_millis(200);

/// Fetches what the caches have of `paths`, which come references first, and tells which of them are there then.
pub fn serve(agent: &Agent, paths: &[StorePath], caches: &[String], keys: &[String]) -> Result<Reply, Fault> {
    let mut trusted = Keys::parse(keys.iter().map(String::as_str))?;
    trusted.add(keys_of_the_card(agent));
    let caches = caches.iter().map(|url| Substituter::parse(url).map(Cache::new)).collect::<Result<Vec<_>, _>>();
    let caches = caches.map_err(|why| {
        Fault::new(
            FaultCode::BadRequest,
            format!("A cache cannot be asked: {why}."),
            "Only caches that are reached by http or https are asked.",
            "Give another one with --substituter, or leave it out.",
        )
    })?;
    let admission = Admission::new(agent, &Trust::default())?;
    // As a data channel, so that there is no other meanwhile, and that a later one can end this.
    let pair = UnixStream::pair().and_then(|pair| pair.1.set_nonblocking(true).map(|()| pair));
    let (bridge, hung_up) = pair.map_err(|error| Fault::internal("The caches could not be asked.", error))?;
    agent.open_channel(&bridge)?;
    let mut run = Run {
        agent,
        store: agent.places.target.join("nix/store"),
        admission,
        trusted,
        caches,
        hung_up,
        told_of: HashSet::new(),
        pending: Vec::new(),
        pending_bytes: 0,
        synced: Instant::now(),
        told: Instant::now(),
        fetched: 0,
        nar_bytes: 0,
        wire_bytes: 0,
    };
    let result = run.all(paths);
    // What came before a failure is whole; keep it.
    let result = result.and(run.sync());
    agent.close_channel();
    result?;
    if run.fetched > 0 {
        run.note(EventKind::Task {
            text: format!("{} store paths ({} bytes of NARs) came from caches", run.fetched, run.nar_bytes),
        });
    }
    Ok(Reply::Substituted {
        paths: paths.iter().filter(|path| agent.is_valid(path)).cloned().collect(),
        fetched: run.fetched,
        nar_bytes: run.nar_bytes,
        wire_bytes: run.wire_bytes,
    })
}

struct Cache {
    url: Substituter,
    strikes: u32,
}

impl Cache {
    fn new(url: Substituter) -> Self {
        Self { url, strikes: 0 }
    }

    fn is_alive(&self) -> bool {
        self.strikes < STRIKES
    }
}

/// Why a path did not come.
enum Trouble {
    /// For a reason of the cache's: the next path may come.
    Cache { cause: &'static str, what: String },
    /// For a reason that holds for all: the target's, or somebody wants it to stop.
    Fatal(Fault),
}

struct Run<'a> {
    agent: &'a Agent,
    store: PathBuf,
    admission: Admission,
    trusted: Keys,
    caches: Vec<Cache>,
    /// Ends when somebody else wants to send.
    hung_up: UnixStream,
    /// Caches and causes that a person was told of.
    told_of: HashSet<(usize, &'static str)>,
    pending: Vec<PathInfo>,
    pending_bytes: u64,
    synced: Instant,
    told: Instant,
    fetched: u64,
    nar_bytes: u64,
    wire_bytes: u64,
}

impl Run<'_> {
    fn all(&mut self, paths: &[StorePath]) -> Result<(), Fault> {
        if !is_there("curl") {
            self.note(EventKind::Warning {
                text: "No cache can be asked: the bootstrap image on the card has no curl. All is sent instead.".into(),
            });
            return Ok(());
        }
        let wanted: Vec<&StorePath> = paths.iter().filter(|path| !self.agent.is_valid(path)).collect();
        for batch in wanted.chunks(BATCH) {
            let mut offers = self.offers(batch)?;
            for path in batch {
                let Some((at, offer)) = offers.remove(*path) else { continue };
                if !self.caches.get(at).is_some_and(Cache::is_alive) {
                    continue;
                }
                // It refers to what only the laptop has: so it comes from there, after that.
                if !offer.info.references.iter().all(|reference| self.is_known(reference, path)) {
                    continue;
                }
                match self.path(&offer) {
                    Ok(()) => {}
                    Err(Trouble::Cache { cause, what }) => self.strike(at, cause, &what, 1),
                    Err(Trouble::Fatal(fault)) => return Err(fault),
                }
                if self.pending_bytes >= SYNC_BYTES || self.synced.elapsed() >= SYNC_TIME {
                    self.sync()?;
                }
            }
        }
        Ok(())
    }

    fn is_known(&self, reference: &StorePath, itself: &StorePath) -> bool {
        reference == itself || self.pending.iter().any(|info| info.path == *reference) || self.agent.is_valid(reference)
    }

    /// What the first cache that has it offers for each path.
    fn offers(&mut self, batch: &[&StorePath]) -> Result<HashMap<StorePath, (usize, Offer)>, Fault> {
        let mut offers: HashMap<StorePath, (usize, Offer)> = HashMap::new();
        for at in 0..self.caches.len() {
            let Some(cache) = self.caches.get(at).filter(|cache| cache.is_alive()) else { continue };
            let url = cache.url.clone();
            let open: Vec<&StorePath> = batch.iter().filter(|path| !offers.contains_key(**path)).copied().collect();
            if open.is_empty() {
                break;
            }
            self.go_on()?;
            let urls: Vec<String> = open.iter().map(|path| url.narinfo(path)).collect();
            let (answers, ended) = curl::records(&self.agent.cancel, &urls, MAX_NARINFO);
            self.go_on()?;
            for (path, answer) in open.iter().zip(answers) {
                match answer {
                    Answer::None => {}
                    Answer::Status(status) => self.strike(at, "status", &format!("it answers with HTTP {status}"), 0),
                    Answer::Record(record) => match substituter::read(&url, path, &record, &self.trusted) {
                        Ok(offer) => {
                            offers.insert((*path).clone(), (at, offer));
                        }
                        Err(why) => self.strike(at, why.cause(), &why.to_string(), 0),
                    },
                }
            }
            if let Err(why) = ended {
                self.strike(at, "records", &why, STRIKES);
            }
        }
        Ok(offers)
    }

    /// Fetches one.
    fn path(&mut self, offer: &Offer) -> Result<(), Trouble> {
        self.go_on().map_err(Trouble::Fatal)?;
        let info = &offer.info;
        // The installation may ask for more than the caches' rule.
        self.admission.policy(info).map_err(|fault| Trouble::Cache { cause: "untrusted", what: fault.what })?;
        let agent = self.agent;
        let file = Curl::file(&agent.cancel, &offer.url, offer.file_size)
            .map_err(|error| Trouble::Cache { cause: "curl", what: format!("curl could not be started: {error}") })?;
        let mut file = Counted::new(file, offer);
        let came = Arrival { source: Source::Cache, paths: self.fetched, bytes: self.nar_bytes };
        let (pending, told, hung_up) = (self.pending_bytes, &mut self.told, &self.hung_up);
        let mut watch = |bytes: u64| {
            tell(agent, told, pending + bytes, Arrival { bytes: came.bytes + bytes, ..came });
            go_on(agent, hung_up)
        };
        let imported = {
            let mut nar = unpacked(&mut file, offer.packing);
            import(info, &mut nar, &self.store, &mut watch).and_then(|place| match nar.read(&mut [0]) {
                Ok(0) => Ok(place),
                // What the NAR is, was seen; but a record that does not know it knows nothing.
                _ => {
                    let _ = remove(&place);
                    Err(lie("more comes than the cache says"))
                }
            })
        };
        self.wire_bytes += file.count();
        let place = match imported {
            Ok(place) => place,
            Err(fault) => {
                go_on(agent, &self.hung_up).map_err(Trouble::Fatal)?;
                return Err(match fault.code {
                    // The target's, not the cache's.
                    FaultCode::DiskFull | FaultCode::StepFailed => Trouble::Fatal(fault),
                    // Whether there is more to it than that it ended, curl knows.
                    FaultCode::ConnectionLost => match file.into_inner().finish() {
                        Err(why) => Trouble::Cache { cause: "transfer", what: why },
                        Ok(()) => Trouble::Cache { cause: "short", what: "a file of it is cut short".into() },
                    },
                    _ => Trouble::Cache { cause: "content", what: fault.what },
                });
            }
        };
        let whole = file.finish(offer).and_then(Curl::finish);
        let checked = whole.map_err(|why| lie(&why)).and_then(|()| check_content(info, &place));
        if let Err(fault) = checked {
            let _ = remove(&place);
            return Err(Trouble::Cache { cause: "content", what: fault.what });
        }
        self.fetched += 1;
        self.nar_bytes += info.nar_size;
        self.pending_bytes += info.nar_size;
        self.pending.push(info.clone());
        Ok(())
    }

    /// Notes that a cache failed; a person is told once of each cause, and when it is left alone.
    fn strike(&mut self, at: usize, cause: &'static str, what: &str, strikes: u32) {
        let Some(cache) = self.caches.get_mut(at) else { return };
        let was_alive = cache.is_alive();
        cache.strikes += strikes;
        let given_up = was_alive && !cache.is_alive();
        let rest = match given_up {
            true => "It is not asked any more; what is missing is sent",
            false => "What it cannot give is sent",
        };
        let text = format!("Cache {}: {}. {rest}.", cache.url, what.trim_end_matches('.'));
        if self.told_of.insert((at, cause)) || given_up {
            self.note(EventKind::Warning { text });
        }
    }

    /// Only what is on the disk may stand in the journal.
    fn sync(&mut self) -> Result<(), Fault> {
        self.synced = Instant::now();
        if self.pending.is_empty() {
            return Ok(());
        }
        File::open(&self.store).and_then(|store| Ok(rustix::fs::syncfs(store)?)).map_err(|error| {
            Fault::new(
                FaultCode::StepFailed,
                format!("Syncing the target store to the disk failed: {error}."),
                "The target disk, its cable or its power supply may be faulty.",
                "Look for I/O errors with `dmesg` on the Pi.",
            )
        })?;
        self.pending_bytes = 0;
        self.agent.note_valid(std::mem::take(&mut self.pending))
    }

    fn go_on(&self) -> Result<(), Fault> {
        go_on(self.agent, &self.hung_up)
    }

    fn note(&self, kind: EventKind) {
        self.agent.log.emit(Some(Phase::Receive), kind);
    }
}

/// Whether nobody wants it to stop.
fn go_on(agent: &Agent, hung_up: &UnixStream) -> Result<(), Fault> {
    if agent.cancel.asked() {
        return Err(aborted());
    }
    let mut hung_up = hung_up;
    match hung_up.read(&mut [0]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        _ => Err(Fault::new(
            FaultCode::NotNow,
            "The caches are not asked any more.",
            "Another client sends store paths, or asks for caches, since.",
            "Wait for it, or stop it where it runs.",
        )),
    }
}

/// Tells how far it is, so often at most.
fn tell(agent: &Agent, told: &mut Instant, pending: u64, came: Arrival) {
    if told.elapsed() >= EVERY {
        *told = Instant::now();
        agent.tell_came(agent.receive_progress(pending), came);
    }
}

fn lie(what: &str) -> Fault {
    Fault::new(FaultCode::HashMismatch, what, "The cache is damaged, or it lies.", "Nothing: the path is sent instead.")
}
