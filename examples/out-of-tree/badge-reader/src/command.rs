//! `actlog badges FILE`: what an export holds, before it is taken in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use actlog_core::CommandContext;

use crate::event;
use crate::source::LONGEST_LINE;

actlog_core::register_command!(
    "badges",
    "Counts the events of a badge export by door, and says what is wrong in it",
    run
);

fn run(_: CommandContext, arguments: Vec<OsString>) -> ExitCode {
    let [file] = &arguments[..] else {
        eprintln!("error: say which export: badges FILE");
        return ExitCode::from(2);
    };
    match count(Path::new(file)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}

/// Prints the figures; whether every line is good.
fn count(file: &Path) -> std::io::Result<bool> {
    let mut input = BufReader::new(File::open(file)?);
    let mut doors = BTreeMap::<String, u64>::new();
    let mut all_good = true;
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if (&mut input).take(LONGEST_LINE as u64).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        match event::read(&line) {
            Ok(Some(record)) => *doors.entry(record.object_id.unwrap_or_default().into_owned()).or_default() += 1,
            Ok(None) => {}
            Err(reason) => {
                all_good = false;
                eprintln!("line {number}: {reason}");
            }
        }
    }
    for (door, events) in doors {
        println!("{events:8}  {door}");
    }
    Ok(all_good)
}
