//! Writes generated contexts, one a line, to standard output: `traffic SEED COUNT [MEAN_SIZE]`.

use std::io::Write;
use std::process::ExitCode;

use actlog_testkit::generator::Generator;

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).map_while(|argument| argument.parse().ok()).collect();
    let (seed, count, mean) = match numbers[..] {
        [seed, count] => (seed, count, Generator::MEAN_SIZE as u64),
        [seed, count, mean] => (seed, count, mean),
        _ => {
            eprintln!("usage: traffic SEED COUNT [MEAN_SIZE]");
            return ExitCode::FAILURE;
        }
    };
    let mut generator = Generator::new(seed).with_mean_size(mean as usize);
    let mut out = std::io::stdout().lock();
    let mut lines = Vec::new();
    for number in 1..=count {
        generator.body(&mut lines);
        lines.push(b'\n');
        if lines.len() >= 1 << 20 || number == count {
            if out.write_all(&lines).is_err() {
                return ExitCode::FAILURE;
            }
            lines.clear();
        }
    }
    ExitCode::SUCCESS
}
