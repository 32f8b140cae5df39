//! The solution file: a ZIP archive with `customizations.xml` in it. Nothing else of it is read, and nothing is written.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config, ZipFileEntry};

use super::{
    AuditFlags, CustomizationsError, MAX_CLAIMED_BYTES, MAX_DIRECTORY_BYTES, MAX_ENTRIES, MAX_RATIO, MAX_XML_BYTES, xml,
};

/// The file of a solution that describes its entities.
const CUSTOMIZATIONS: &str = "customizations.xml";

pub(super) fn read<R: Read + Seek>(mut file: R, flags: &mut AuditFlags) -> Result<(), CustomizationsError> {
    let length = file.seek(SeekFrom::End(0))?;
    // What lists the files decides about memory before it can be counted, so its bytes are limited.
    let mut metered = Metered { file, left: MAX_DIRECTORY_BYTES };
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let archive = ZipArchive::with_config(config, &mut metered).map_err(refused)?;
    let place = check(&archive, length).map_err(CustomizationsError::Archive)?;
    let claimed = archive.by_index_data(place).map_err(refused)?.size();
    let directory = archive.metadata();
    drop(archive);
    metered.left = u64::MAX;
    let entry = directory.entry(place).map_err(refused)?;
    let content = entry.with_reader(&mut metered, zip::ZipReadOptions::new()).map_err(refused)?;
    let mut content = BufReader::new(content);
    if content.fill_buf().map_err(|error| damaged(&error))?.starts_with(b"PK") {
        let reason = format!("its {CUSTOMIZATIONS} is itself an archive; archives in archives are not opened");
        return Err(CustomizationsError::Archive(reason));
    }
    xml::read(content, claimed.min(MAX_XML_BYTES), flags)
}

/// Refuses what no export makes. Returns the place of `customizations.xml`.
fn check<R: Read + Seek>(archive: &ZipArchive<R>, length: u64) -> Result<usize, String> {
    if archive.len() > MAX_ENTRIES {
        return Err(format!("it holds more than {MAX_ENTRIES} files"));
    }
    if archive.has_duplicate_names() {
        return Err("two files in it have the same name".to_owned());
    }
    let (mut found, mut compressed, mut claimed) = (None, 0_u64, 0_u64);
    for place in 0..archive.len() {
        let entry = archive.by_index_data(place).map_err(|error| error.to_string())?;
        let name = entry.name().map_err(|error| error.to_string())?.into_owned();
        check_entry(&entry, &name)?;
        compressed = compressed.saturating_add(entry.compressed_size());
        claimed = claimed.saturating_add(entry.size());
        if name.eq_ignore_ascii_case(CUSTOMIZATIONS) && found.replace(place).is_some() {
            return Err(format!("{CUSTOMIZATIONS} is in it twice"));
        }
    }
    if compressed > length {
        return Err("its files overlap: together they are longer than the file".to_owned());
    }
    if claimed > MAX_CLAIMED_BYTES {
        return Err(format!("decompressed, its files would be longer than {MAX_CLAIMED_BYTES} bytes"));
    }
    let found = found.ok_or_else(|| format!("there is no {CUSTOMIZATIONS} in it"))?;
    let size = archive.by_index_data(found).map_err(|error| error.to_string())?.size();
    if size > MAX_XML_BYTES {
        return Err(format!("its {CUSTOMIZATIONS} is longer than {MAX_XML_BYTES} bytes"));
    }
    Ok(found)
}

fn check_entry(entry: &ZipFileEntry<'_>, name: &str) -> Result<(), String> {
    let shown: String = name.chars().take(100).collect();
    let drive = name.as_bytes().get(1) == Some(&b':');
    if name.starts_with(['/', '\\']) || drive || name.contains('\0') || name.split(['/', '\\']).any(|part| part == "..")
    {
        return Err(format!("the name {shown:?} in it leads out of its folder"));
    }
    if entry.encrypted() {
        return Err(format!("{shown:?} in it is encrypted"));
    }
    if entry.is_symlink() {
        return Err(format!("{shown:?} in it is a link"));
    }
    if name.len() > 4 && name.as_bytes()[name.len() - 4..].eq_ignore_ascii_case(b".zip") {
        return Err(format!("{shown:?} in it is itself an archive; take it out and import it by itself"));
    }
    // Of short files the ratio says nothing.
    if entry.size() > 1024 * 1024 && entry.size() / MAX_RATIO > entry.compressed_size() {
        return Err(format!("{shown:?} in it would be more than {MAX_RATIO} times as long decompressed"));
    }
    Ok(())
}

fn refused(error: zip::result::ZipError) -> CustomizationsError {
    CustomizationsError::Archive(error.to_string())
}

fn damaged(error: &io::Error) -> CustomizationsError {
    CustomizationsError::Archive(format!("its {CUSTOMIZATIONS} can't be decompressed: {error}"))
}

/// Reads so many bytes at most.
struct Metered<R> {
    file: R,
    left: u64,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!("its list of files is longer than {MAX_DIRECTORY_BYTES} bytes")));
        }
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read(&mut buffer[..length])?;
        self.left -= read as u64;
        Ok(read)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
