//! [`Storage`] over the operating system.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use actlog_core::{FileEntry, OpenMode, Storage, StorageFile};

/// The disk: files are created readable by their owner only (0600), folders accessible by their owner only (0700).
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskStorage;

/// The parent, where a path of one component has the current folder.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(or_current)
}

fn or_current(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

impl Storage for DiskStorage {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read).mode(0o600);
        match mode {
            OpenMode::Read | OpenMode::Write => {}
            OpenMode::Create => drop(options.create(true)),
            OpenMode::CreateNew => drop(options.create_new(true)),
        }
        Ok(Box::new(DiskFile(options.open(path)?)))
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        let path = or_current(path);
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => parent(path).map_or(Ok(()), |parent| self.sync_directory(parent)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some(parent) = parent(path) else { return Err(error) };
                self.create_directories(parent)?;
                // Somebody else may have made it meanwhile; a second NotFound is final.
                match DirBuilder::new().mode(0o700).create(path) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                    _ => self.sync_directory(parent),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<FileEntry>> {
        let mut entries = Vec::new();
        let read = match std::fs::read_dir(or_current(directory)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(entries),
            read => read?,
        };
        for entry in read {
            let entry = entry?;
            // Not the path that read_dir gives: it would have "./" before the names in the current folder.
            let path = directory.join(entry.file_name());
            match std::fs::metadata(&path) {
                Ok(metadata) => entries.push(FileEntry {
                    path,
                    is_directory: metadata.is_dir(),
                    length: metadata.len(),
                    modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                }),
                // Removed since, or a link to nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(entries)
    }

    fn length(&self, path: &Path) -> io::Result<Option<u64>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(or_current(path))?.sync_all()
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(or_current(path))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

#[derive(Debug)]
struct DiskFile(File);

impl StorageFile for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_and_folders_are_their_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        DiskStorage.create_directories(&deep).unwrap();
        DiskStorage.create_directories(&deep).unwrap();
        DiskStorage.open(&deep.join("file"), OpenMode::CreateNew).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path().join("a")), 0o700);
        assert_eq!(mode(&deep), 0o700);
        assert_eq!(mode(&deep.join("file")), 0o600);
    }

    #[test]
    fn a_file_in_the_way_of_a_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        DiskStorage.open(&folder.path().join("a"), OpenMode::Create).unwrap();
        assert!(DiskStorage.create_directories(&folder.path().join("a")).is_err());
        assert!(DiskStorage.create_directories(&folder.path().join("a/b")).is_err());
    }

    #[test]
    fn what_is_written_is_read_listed_renamed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        assert_eq!(DiskStorage.list(&folder.path().join("none")).unwrap(), []);
        assert_eq!(DiskStorage.open(&one, OpenMode::Write).unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = DiskStorage.open(&one, OpenMode::CreateNew).unwrap();
        assert_eq!(DiskStorage.open(&one, OpenMode::CreateNew).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        file.write_all_at(b"hello", 2).unwrap();
        file.sync().unwrap();
        file.set_length(6).unwrap();
        assert_eq!(DiskStorage.read(&one, 6).unwrap(), b"\0\0hell");
        assert_eq!(DiskStorage.read(&one, 5).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        DiskStorage.replace(&two, b"new").unwrap();
        let names = || DiskStorage.list(folder.path()).unwrap().into_iter().map(|entry| (entry.path, entry.length));
        assert!(names().eq([(one.clone(), 6), (two.clone(), 3)]));
        DiskStorage.rename(&two, &one).unwrap();
        assert_eq!(DiskStorage.length(&two).unwrap(), None);
        assert_eq!(DiskStorage.length(&one).unwrap(), Some(3));
        DiskStorage.remove_file(&one).unwrap();
        assert_eq!(DiskStorage.remove_file(&one).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(DiskStorage.available_space(folder.path()).unwrap() > 0);
    }
}
