//! Space that is kept on the disk, so that a full disk can still be stated.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use actlog_core::OpenMode;

use crate::writer::Writer;

/// What is written to the reserve at once.
const CHUNK: usize = 64 << 10;

impl Writer {
    fn reserve_path(&self) -> PathBuf {
        self.directory.join("reserve")
    }

    /// Makes sure that the reserve is there.
    ///
    /// # Errors
    /// As the storage gives them; without space, there is no reserve then.
    pub(crate) fn make_reserve(&mut self) -> io::Result<()> {
        let path = self.reserve_path();
        if self.storage.length(&path)? == Some(self.options.reserve_bytes) || self.options.reserve_bytes == 0 {
            return Ok(());
        }
        let made = (|| {
            let file = self.storage.open(&path, OpenMode::Create)?;
            // Written, not only made longer: a hole keeps no space free.
            let zeros = vec![0; CHUNK];
            let mut at = 0;
            while at < self.options.reserve_bytes {
                let length = (self.options.reserve_bytes - at).min(CHUNK as u64);
                file.write_all_at(&zeros[..length as usize], at)?;
                at += length;
            }
            file.set_length(at)?;
            file.sync()?;
            self.storage.sync_directory(&self.directory)
        })();
        if made.is_err() {
            let _ = self.storage.remove_file(&path);
        }
        made
    }

    /// The disk is full: gives up the reserve for cursors and statements, and refuses data.
    pub(crate) fn enter_full(&mut self) {
        self.reserve_tried = Instant::now();
        if let Err(error) = self.storage.remove_file(&self.reserve_path())
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(%error, "the journal's reserve could not be given up");
        }
        self.shared.catalog().disk_full = true;
        self.shared.published();
    }

    /// Takes data again when there is room for the reserve and for as much again.
    pub(crate) fn try_leave_full(&mut self) {
        if !self.shared.catalog().disk_full || self.reserve_tried.elapsed() < self.options.idle_mark_after {
            return;
        }
        self.reserve_tried = Instant::now();
        let needed = 2 * self.options.reserve_bytes + self.options.group_bytes as u64;
        let room = self.storage.available_space(&self.directory).unwrap_or(0);
        if room < needed || self.make_reserve().is_err() {
            return;
        }
        self.shared.catalog().disk_full = false;
        self.shared.published();
    }
}
