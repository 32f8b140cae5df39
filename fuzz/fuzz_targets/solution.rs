//! Any bytes as a solution file: reading it comes to an end, without a panic, and without unpacking a bomb.
//!
//! Half of the inputs are archives whose one file is the input, so that what is behind the compression is reached too.
#![no_main]

use std::io::{Cursor, Write};

use actlog_dataverse::customizations::read;
use libfuzzer_sys::fuzz_target;
use zip::write::SimpleFileOptions;

fuzz_target!(|input: (bool, &[u8])| {
    let (packed, bytes) = input;
    if !packed {
        let _ = read(Cursor::new([b"PK\x03\x04", bytes].concat()), "file");
        return;
    }
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("customizations.xml", SimpleFileOptions::default()).expect("a first file");
    archive.write_all(bytes).expect("memory takes it");
    let archive = archive.finish().expect("memory takes it").into_inner();
    let plain = read(Cursor::new(bytes), "file").map_err(drop);
    let packed = read(Cursor::new(archive), "file").map_err(drop);
    // An archive in an archive is not opened, and one by itself is.
    if !bytes.starts_with(b"PK") {
        assert_eq!(plain, packed);
    }
});
