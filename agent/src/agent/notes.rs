//! What is noted of an installation while it goes on, in the journal and for those who ask.

use super::desk::journal_fault;
use super::*;

impl Agent {
    /// Notes in the journal that a phase is done.
    pub fn note_done(&self, phase: Phase) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        // A resumed run skips phases that are long done; they take nothing back.
        desk.done = desk.done.max(Some(phase));
        desk.append(Record::Done { phase })
    }

    /// Notes that so many steps of the plan are done and the next may begin.
    pub fn note_steps(&self, done: usize) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        if desk.steps == Some(done) {
            return Ok(());
        }
        desk.append(Record::Steps { done })?;
        desk.steps = Some(done);
        Ok(())
    }

    /// Notes that what the step at this place makes is not there, and is made now.
    pub fn note_making(&self, step: usize) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        desk.append(Record::Making { step })?;
        desk.making = Some(step);
        Ok(())
    }

    /// The last step that [`Self::note_making`] noted.
    pub fn making(&self) -> Option<usize> {
        lock(&self.desk).making
    }

    /// How many steps of the plan are done, if the disks were written to but not all is formatted.
    pub fn steps_done(&self) -> Option<usize> {
        let desk = lock(&self.desk);
        desk.steps.filter(|_| desk.done < Some(Phase::Format))
    }

    /// Notes the UUIDs of the partition tables that were written, to know the disks again by.
    pub fn note_tables(&self, tables: BTreeMap<String, String>) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        desk.tables.clone_from(&tables);
        desk.append(Record::Tables { tables })
    }

    /// What [`Self::note_tables`] noted.
    pub fn tables(&self) -> BTreeMap<String, String> {
        lock(&self.desk).tables.clone()
    }

    /// Notes in the journal that the installation failed.
    pub fn note_failed(&self, phase: Phase, fault: &Fault) {
        let noted = lock(&self.desk).append(Record::Failed { phase, fault: fault.clone() });
        if let Err(error) = noted {
            self.log.emit(Some(phase), EventKind::Warning { text: error.what });
        }
    }

    /// Whether the target store has this path.
    pub fn is_valid(&self, path: &StorePath) -> bool {
        lock(&self.desk).valid.contains(path)
    }

    /// All paths that the target store has.
    pub fn valid_paths(&self) -> Vec<StorePath> {
        lock(&self.desk).valid.iter().cloned().collect()
    }

    /// Which store paths the present installation lets in.
    pub fn trust(&self) -> Trust {
        lock(&self.desk).job.as_ref().map(|job| job.options.trust.clone()).unwrap_or_default()
    }

    /// The file with a [`Record::Path`] for each of them.
    pub fn journal_file(&self) -> PathBuf {
        self.places.state.join(if self.receive_only { "received.jsonl" } else { "journal.jsonl" })
    }

    /// Notes paths that are whole and on the disk.
    pub fn note_valid(&self, infos: Vec<PathInfo>) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        if desk.state != State::Receiving {
            // The installation ended under a channel that would not; its target may be unmounted.
            return Err(not_now("the installation has ended.", "Go on with it: `cygnet install HOST …`."));
        }
        let records: Vec<Record> = infos.iter().cloned().map(Record::Path).collect();
        match &mut desk.journal {
            Some(journal) => journal.append(&records).map_err(journal_fault)?,
            None => return Err(not_now("no installation is running.", "Start one with `cygnet install HOST …`.")),
        }
        for info in infos {
            desk.add(info.path, info.nar_size);
        }
        drop(desk);
        // It may be the last one, whoever brought it.
        self.arrived.notify_all();
        Ok(())
    }

    /// Notes what of a path is on the disk; `bytes` 0: that nothing is any more.
    pub fn note_part(&self, info: &PathInfo, bytes: u64) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        if desk.state != State::Receiving {
            return Err(not_now("the installation has ended.", "Go on with it: `cygnet install HOST …`."));
        }
        let part = Part { path: info.path.clone(), nar_hash: info.nar_hash.clone(), bytes };
        desk.append(Record::Part(part.clone()))?;
        desk.parts.insert(info.path.clone(), part);
        Ok(())
    }

    /// Notes so many store paths and NAR bytes that came from the card.
    pub fn note_from_card(&self, (paths, bytes): (u64, u64)) {
        let mut desk = lock(&self.desk);
        desk.from_card.0 += paths;
        desk.from_card.1 += bytes;
    }

    /// Notes that nothing can be made of this path on the card.
    pub fn note_bad_base(&self, base: &StorePath) {
        lock(&self.desk).bad_bases.insert(base.clone());
    }

    /// Whether [`Self::note_bad_base`] noted it.
    pub fn is_bad_base(&self, base: &StorePath) -> bool {
        lock(&self.desk).bad_bases.contains(base)
    }

    /// How much of this very archive is on the disk, bytes.
    pub fn part(&self, info: &PathInfo) -> u64 {
        let desk = lock(&self.desk);
        desk.parts.get(&info.path).filter(|part| part.nar_hash == info.nar_hash).map_or(0, |part| part.bytes)
    }

    /// NAR bytes in the target store, `pending` more that are not synced yet, and those of the whole closure, 0 without one.
    pub fn receive_progress(&self, pending: u64) -> (u64, u64) {
        let desk = lock(&self.desk);
        let total = desk.job.as_ref().map_or(0, |job| job.closure.nar_size);
        (of_total(desk.bytes + pending, total), total)
    }

    /// Tells how far receiving is: `done` NAR bytes are in the target store, and this has come.
    pub fn tell_came(&self, (done, total): (u64, u64), came: Arrival) {
        let kind = EventKind::Progress { done: of_total(done, total), total, unit: "bytes".into(), came: Some(came) };
        self.log.emit(Some(Phase::Receive), kind);
    }
}

/// Never more than all of it, where that is known. A store may have more than the closure.
fn of_total(done: u64, total: u64) -> u64 {
    if total == 0 { done } else { done.min(total) }
}
