//! What the hardware could do with a file of contexts: parse each into a typed shell, hash and copy a record's worth of
//! bytes, write them one after the other, and sync every group of 1 MiB.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The shell: what every context has, with the parameters left as they are.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(dead_code, reason = "parsing them is what is measured")]
struct Shell<'a> {
    #[serde(borrow)]
    message_name: &'a str,
    #[serde(borrow)]
    primary_entity_name: &'a str,
    #[serde(borrow)]
    primary_entity_id: &'a str,
    #[serde(borrow)]
    organization_id: &'a str,
    #[serde(borrow)]
    correlation_id: &'a str,
    #[serde(borrow)]
    user_id: &'a str,
    stage: i32,
    mode: i32,
    depth: i32,
    #[serde(borrow)]
    input_parameters: &'a RawValue,
    #[serde(borrow)]
    output_parameters: &'a RawValue,
    #[serde(borrow)]
    parent_context: Option<&'a RawValue>,
}

const GROUP: usize = 1 << 20;

pub(crate) fn run(contexts: &Path, out: &Path, record_bytes: usize) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut input = BufReader::with_capacity(1 << 20, File::open(contexts).map_err(text)?);
    let mut output = File::create(out).map_err(text)?;
    let (mut line, mut group) = (Vec::new(), Vec::with_capacity(GROUP + record_bytes));
    let mut syncs = Vec::new();
    let mut flush = |group: &mut Vec<u8>| {
        output.write_all(group)?;
        let began = Instant::now();
        output.sync_data()?;
        syncs.push(began.elapsed());
        group.clear();
        std::io::Result::Ok(())
    };
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(text)? == 0 {
            break;
        }
        let shell: Shell<'_> = serde_json::from_slice(&line).map_err(|error| error.to_string())?;
        std::hint::black_box(&shell);
        let record = &line[..record_bytes.min(line.len())];
        std::hint::black_box(Sha256::digest(record));
        group.extend_from_slice(record);
        if group.len() >= GROUP {
            flush(&mut group).map_err(text)?;
        }
    }
    flush(&mut group).map_err(text)?;
    syncs.sort_unstable();
    println!("{} {}", syncs[syncs.len() / 2].as_micros(), syncs[syncs.len() * 99 / 100].as_micros());
    Ok(())
}
