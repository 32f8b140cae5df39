//! The one thread that writes.
//!
//! It takes what waits, writes it as one frame, syncs once, and only then tells the submitters. A frame is written only
//! after the one before it was synced: so an intact frame proves that all before it was durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use actlog_core::{Clock, EntryKind, OpenMode, Storage, StorageFile};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

use crate::batch::Batch;
use crate::catalog::{Segment, SegmentName};
use crate::error::{CommitError, Pressure};
use crate::format::{self, FRAME_HEADER, Flags, FrameHeader, MAX_INDEX, SEGMENT_HEADER};
use crate::ids::Window;
use crate::journal::{Committed, JournalOptions, Shared};

/// How many states there can be.
const MAX_STATES: usize = 1024;
/// Bytes of all states together, at most.
const MAX_STATES_BYTES: usize = 16 << 20;

pub(crate) enum Message {
    Submit(Job),
    Shutdown(oneshot::Sender<Result<(), CommitError>>),
}

/// A batch that waits, and who waits for it.
pub(crate) struct Job {
    pub(crate) batch: Batch,
    pub(crate) receipt: oneshot::Sender<Result<Committed, CommitError>>,
    /// The room that the batch takes up in the queue, until it is written.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl Job {
    fn resolve(self, result: Result<Committed, CommitError>) {
        drop(self.room);
        // Nobody may be waiting any more; the batch is durable all the same.
        let _ = self.receipt.send(result);
    }
}

/// The segment that is being written.
struct Active {
    file: Box<dyn StorageFile>,
    name: SegmentName,
    length: u64,
    ids: Vec<Uuid>,
}

pub(crate) struct Writer {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: PathBuf,
    pub(crate) options: JournalOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) window: Window,
    /// Segments that are sealed and whose ids are not written yet.
    pub(crate) sealed: Vec<(SegmentName, Vec<Uuid>)>,
    /// The last segment that there is or whose creation was tried.
    pub(crate) last_name: Option<SegmentName>,
    active: Option<Active>,
    states: BTreeMap<String, Bytes>,
    /// States that a batch with data failed to set, until they are mended; see [`Batch::mend`].
    broken: BTreeSet<String>,
    next: u64,
    buffer: Vec<u8>,
    /// Whether the last frame is an empty one, which proves all before it.
    marked: bool,
    /// When it was last tried to make the reserve again.
    pub(crate) reserve_tried: Instant,
}

/// A group as it was encoded, before it is durable.
struct Group {
    outcomes: Vec<Result<Committed, CommitError>>,
    states: Option<BTreeMap<String, Bytes>>,
    ids: Vec<Uuid>,
    entries: u64,
    duplicates: u64,
}

impl Writer {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        directory: PathBuf,
        options: JournalOptions,
        clock: Arc<dyn Clock>,
        shared: Arc<Shared>,
        window: Window,
    ) -> Self {
        let (next, states) = {
            let catalog = shared.catalog();
            (catalog.durable, catalog.states.clone())
        };
        Self {
            storage,
            directory,
            options,
            clock,
            shared,
            window,
            sealed: Vec::new(),
            last_name: None,
            active: None,
            states,
            broken: BTreeSet::new(),
            next,
            buffer: Vec::new(),
            marked: true,
            reserve_tried: Instant::now(),
        }
    }

    /// Writes until the journal is shut down or dropped.
    pub(crate) fn run(mut self, messages: &Receiver<Message>) {
        let mut stop = None;
        while stop.is_none() {
            match messages.recv_timeout(self.options.idle_mark_after) {
                Ok(Message::Submit(job)) => {
                    let mut bytes = job.batch.bytes();
                    let mut group = vec![job];
                    while bytes < self.options.group_bytes {
                        match messages.try_recv() {
                            Ok(Message::Submit(job)) => {
                                bytes += job.batch.bytes();
                                group.push(job);
                            }
                            Ok(Message::Shutdown(done)) => {
                                stop = Some(Some(done));
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(group);
                }
                Ok(Message::Shutdown(done)) => stop = Some(Some(done)),
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => stop = Some(None),
            }
        }
        // What was submitted at the same time as the shutdown.
        while let Ok(message) = messages.try_recv() {
            if let Message::Submit(job) = message {
                self.commit(vec![job]);
            }
        }
        let closed = self.write_group(&[], Flags::CLOSED).map(drop);
        self.write_ids();
        if let Some(Some(done)) = stop {
            let _ = done.send(closed.map_err(|error| CommitError::Storage(Arc::new(error))));
        }
    }

    /// Writes the jobs as one group and resolves their receipts.
    pub(crate) fn commit(&mut self, jobs: Vec<Job>) {
        self.try_leave_full();
        let mut jobs = self.refuse_broken(jobs);
        if let Some(pressure @ (Pressure::Budget | Pressure::DiskFull)) = self.shared.pressure() {
            jobs = self.refuse_data(jobs, pressure);
        }
        let mut result = self.write_jobs(&jobs);
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::StorageFull
        {
            self.enter_full();
            jobs = self.refuse_data(jobs, Pressure::DiskFull);
            result = self.write_jobs(&jobs);
        }
        match result {
            Ok(outcomes) => {
                for (job, outcome) in jobs.into_iter().zip(outcomes) {
                    match outcome {
                        Ok(committed) => job.resolve(Ok(committed)),
                        Err(error) => self.fail(job, error),
                    }
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                jobs.into_iter().for_each(|job| self.fail(job, CommitError::Storage(Arc::clone(&error))));
            }
        }
        self.write_ids();
    }

    /// Resolves a batch that failed. If it was data, the states that it would have set are broken: what comes after it
    /// must not set them, or a position would become durable ahead of its data.
    fn fail(&mut self, job: Job, error: CommitError) {
        if !job.batch.control {
            self.broken.extend(job.batch.states.iter().map(|(key, _)| key.clone()));
        }
        job.resolve(Err(error));
    }

    /// Refuses the batches that would set a broken state; gives back the rest.
    fn refuse_broken(&mut self, jobs: Vec<Job>) -> Vec<Job> {
        let mut kept = Vec::with_capacity(jobs.len());
        for job in jobs {
            for key in &job.batch.mends {
                self.broken.remove(key);
            }
            let is_broken = !job.batch.control && job.batch.states.iter().any(|(key, _)| self.broken.contains(key));
            if is_broken { job.resolve(Err(CommitError::Broken)) } else { kept.push(job) }
        }
        kept
    }

    /// Refuses the batches that are not the journal's own; gives back the rest.
    fn refuse_data(&mut self, jobs: Vec<Job>, pressure: Pressure) -> Vec<Job> {
        let (control, data): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.batch.control);
        data.into_iter().for_each(|job| self.fail(job, CommitError::Full(pressure)));
        control
    }

    fn write_jobs(&mut self, jobs: &[Job]) -> io::Result<Vec<Result<Committed, CommitError>>> {
        if jobs.is_empty() { Ok(Vec::new()) } else { self.write_group(jobs, Flags::default()) }
    }

    /// Nothing was submitted for a while: proves what there is, and looks whether the disk has room again.
    fn idle(&mut self) {
        self.try_leave_full();
        if !self.marked && self.active.is_some() {
            // A failure is in the log and in the pressure; there is nobody to tell, and nothing is lost.
            let _ = self.write_group(&[], Flags::default());
            self.marked = true;
        }
        self.write_ids();
    }

    /// Writes and syncs a frame. After an error its segment is left for ever, and nothing has changed otherwise.
    fn write_group(&mut self, jobs: &[Job], flags: Flags) -> io::Result<Vec<Result<Committed, CommitError>>> {
        let bytes: usize = jobs.iter().map(|job| job.batch.bytes()).sum();
        let rotate = self.active.as_ref().is_none_or(|active| {
            active.length + (FRAME_HEADER + bytes) as u64 > self.options.segment_bytes
                && active.length > SEGMENT_HEADER as u64
                && bytes > 0
        });
        let written = self.encode(jobs, flags, rotate).and_then(|group| {
            if rotate { self.begin_segment() } else { self.append() }?;
            Ok(group)
        });
        match written {
            Ok(group) => Ok(self.committed(group)),
            Err(error) => {
                tracing::error!(%error, directory = %self.directory.display(), "a group of the journal failed");
                self.failed();
                Err(error)
            }
        }
    }

    /// Encodes the group into the buffer, behind a segment's header when it begins one.
    fn encode(&mut self, jobs: &[Job], flags: Flags, begins_segment: bool) -> io::Result<Group> {
        let now = self.clock.now();
        let next = self.next;
        self.buffer.clear();
        if begins_segment {
            self.buffer.extend_from_slice(&format::segment_header(next, now));
        }
        let frame = self.buffer.len();
        self.buffer.resize(frame + FRAME_HEADER, 0);
        let mut group = Group { outcomes: Vec::new(), states: None, ids: Vec::new(), entries: 0, duplicates: 0 };
        let mut changed = BTreeSet::new();
        for job in jobs {
            if let Err(error) = self.merge_states(&job.batch, &mut group.states, &mut changed) {
                group.outcomes.push(Err(error));
                continue;
            }
            let first = next + group.entries;
            let (written, duplicates) = self.encode_entries(&job.batch, &mut group.ids);
            group.entries += u64::from(written);
            group.duplicates += u64::from(duplicates);
            let first_index = (written > 0).then_some(first);
            group.outcomes.push(Ok(Committed { first_index, written, duplicates }));
        }
        let states = group.states.as_ref().unwrap_or(&self.states);
        let mut updates = 0_u16;
        if begins_segment {
            for (key, value) in states {
                format::write_update(&mut self.buffer, key, Some(value));
                updates += 1;
            }
        } else {
            for key in changed.into_iter().filter(|key| states.contains_key(*key) || self.states.contains_key(*key)) {
                format::write_update(&mut self.buffer, key, states.get(key).map(AsRef::as_ref));
                updates += 1;
            }
        }
        let payload = frame + FRAME_HEADER;
        let header = FrameHeader {
            length: u32::try_from(self.buffer.len() - payload).map_err(io::Error::other)?,
            payload_crc: crc32c::crc32c(&self.buffer[payload..]),
            first: next,
            count: u32::try_from(group.entries).map_err(io::Error::other)?,
            updates,
            flags: if begins_segment { flags.with(Flags::SNAPSHOT) } else { flags },
            time: now,
        };
        if header.end() >= MAX_INDEX {
            return Err(io::Error::other("the journal has no indices left"));
        }
        let (segment, position) = match &self.active {
            Some(active) if !begins_segment => (active.name.first, active.length),
            _ => (next, SEGMENT_HEADER as u64),
        };
        header.write(&mut self.buffer[frame..], segment, position);
        Ok(group)
    }

    /// Copies the entries of a batch, without duplicates; how many were written, how many were not.
    fn encode_entries(&mut self, batch: &Batch, ids: &mut Vec<Uuid>) -> (u32, u32) {
        let (mut written, mut duplicates) = (0, 0);
        // What is copied together: from here to where a duplicate begins.
        let (mut run, mut start) = (0, 0);
        for entry in &batch.entries {
            let is_record = entry.kind == EntryKind::Record;
            let is_new = !is_record || self.window.insert(entry.id);
            if is_new || batch.carried {
                written += 1;
                if is_record {
                    ids.push(entry.id);
                }
            } else {
                duplicates += 1;
                self.buffer.extend_from_slice(&batch.encoded[run..start]);
                run = entry.end;
            }
            start = entry.end;
        }
        self.buffer.extend_from_slice(&batch.encoded[run..start.max(run)]);
        (written, duplicates)
    }

    /// Applies the states of a batch to those of the group; refuses the batch when they would be too many.
    fn merge_states<'a>(
        &self,
        batch: &'a Batch,
        states: &mut Option<BTreeMap<String, Bytes>>,
        changed: &mut BTreeSet<&'a str>,
    ) -> Result<(), CommitError> {
        if batch.states.is_empty() {
            return Ok(());
        }
        let mut merged = states.as_ref().unwrap_or(&self.states).clone();
        for (key, value) in &batch.states {
            match value {
                Some(value) => drop(merged.insert(key.clone(), value.clone())),
                None => drop(merged.remove(key)),
            }
        }
        let bytes: usize = merged.iter().map(|(key, value)| format::update_length(key, Some(value))).sum();
        if merged.len() > MAX_STATES || bytes > MAX_STATES_BYTES {
            return Err(CommitError::TooLarge(format!(
                "there would be {} states with {bytes} bytes; {MAX_STATES} with {MAX_STATES_BYTES} are allowed",
                merged.len(),
            )));
        }
        changed.extend(batch.states.iter().map(|(key, _)| key.as_str()));
        *states = Some(merged);
        Ok(())
    }

    fn append(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.active else { return Err(io::Error::other("no segment is being written")) };
        let written = active.file.write_all_at(&self.buffer, active.length);
        if let Some(segment) = self.shared.catalog().segments.last_mut() {
            segment.bytes += self.buffer.len() as u64;
        }
        written?;
        let start = Instant::now();
        active.file.sync()?;
        self.shared.catalog().statistics.sync_time += start.elapsed();
        active.length += self.buffer.len() as u64;
        Ok(())
    }

    /// Creates the next segment with the buffer as its content.
    fn begin_segment(&mut self) -> io::Result<()> {
        let generation = self.last_name.filter(|last| last.first == self.next).map_or(0, |last| last.generation + 1);
        let name = SegmentName { first: self.next, generation };
        self.last_name = Some(name);
        let path = name.path(&self.directory);
        let file = self.storage.open(&path, OpenMode::CreateNew)?;
        let begun = (|| {
            file.write_all_at(&self.buffer, 0)?;
            let start = Instant::now();
            file.sync()?;
            self.shared.catalog().statistics.sync_time += start.elapsed();
            self.storage.sync_directory(&self.directory)
        })();
        if let Err(error) = begun {
            if let Err(left) = self.storage.remove_file(&path)
                && left.kind() != io::ErrorKind::NotFound
            {
                // It is void as long as the next segment, which begins at the same index, is there; so it has to be
                // released before that one.
                self.leave_active();
                let (bytes, sealed_at) = (self.buffer.len() as u64, Some(self.clock.now()));
                self.shared.catalog().segments.push(Segment { name, readable: 0, bytes, sealed_at });
            }
            return Err(error);
        }
        self.leave_active();
        self.active = Some(Active { file, name, length: self.buffer.len() as u64, ids: Vec::new() });
        Ok(())
    }

    /// The segment is not written any more.
    fn leave_active(&mut self) {
        let Some(active) = self.active.take() else { return };
        if let Some(segment) = self.shared.catalog().segments.last_mut() {
            segment.sealed_at = Some(self.clock.now());
        }
        self.sealed.push((active.name, active.ids));
    }

    /// The group is durable.
    fn committed(&mut self, group: Group) -> Vec<Result<Committed, CommitError>> {
        self.next += group.entries;
        self.marked = group.entries == 0 && group.outcomes.is_empty();
        self.window.commit();
        {
            let mut catalog = self.shared.catalog();
            if let Some(active) = &mut self.active {
                active.ids.extend(group.ids);
                match catalog.segments.last_mut().filter(|segment| segment.name == active.name) {
                    Some(segment) => (segment.readable, segment.bytes) = (active.length, active.length),
                    None => catalog.segments.push(Segment {
                        name: active.name,
                        readable: active.length,
                        bytes: active.length,
                        sealed_at: None,
                    }),
                }
            }
            catalog.durable = self.next;
            if let Some(states) = group.states {
                catalog.states.clone_from(&states);
                self.states = states;
            }
            catalog.failing = false;
            catalog.statistics.groups += 1;
            catalog.statistics.entries += group.entries;
            catalog.statistics.duplicates += group.duplicates;
            catalog.statistics.bytes += self.buffer.len() as u64;
        }
        self.shared.published();
        if self.buffer.capacity() > 4 * self.options.group_bytes {
            self.buffer = Vec::new();
        }
        group.outcomes
    }

    /// The group is void. The segment is left even when it was the next one that could not be begun: what may be there
    /// of the next one makes void whatever the segment would get from here on.
    fn failed(&mut self) {
        self.window.roll_back();
        self.leave_active();
        {
            let mut catalog = self.shared.catalog();
            catalog.failing = true;
            catalog.statistics.failed_groups += 1;
        }
        self.shared.published();
    }

    /// Writes the ids of sealed segments. They only save time at the next start: a failure costs no more than that.
    pub(crate) fn write_ids(&mut self) {
        for (name, ids) in std::mem::take(&mut self.sealed) {
            if self.options.duplicate_window > 0
                && let Err(error) = self.shared.write_ids(name, &ids)
            {
                tracing::warn!(%error, segment = %name, "the ids of a segment could not be written");
            }
        }
    }
}
