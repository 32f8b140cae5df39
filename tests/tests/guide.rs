//! The guide says what is true: its commands are run, its configurations are checked, its links lead to headings.
//!
//! Rules for the pages (`README.md`, `docs/*.md`, `docs/siem/*.md`):
//!
//! - A `sh` block is run. All blocks of a page make one script, in an empty folder, with `actlog` on the PATH. A page
//!   ends what it starts.
//! - A `text` block directly behind a `sh` block is what the block prints: each of its lines is found in the output, in
//!   that order. `…` stands for anything, and so does the number of spaces between words.
//! - A comment from a line `<!-- run` to a line `-->` is run too: what a page needs and nobody has to read.
//! - Commands that can't be run here are in a `console` block, with `<!-- not run: why -->` on the line above.
//! - A `toml` block is TOML. With `<!-- config -->` above, it is a configuration that `actlog validate` accepts; with
//!   `<!-- policy -->`, one that `actlog policy validate` accepts.
//! - A `rust` block with `<!-- from: FILE -->` above is in that file: the same lines in the same order, whatever their
//!   indentation, and with gaps where the page has `// …`.
//! - Every block names its language.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use actlog_testkit::fixtures::workspace;
use actlog_testkit::process::binary;
use actlog_testkit::skip;

/// A page that takes longer waits for something that will not come.
const PAGE_DEADLINE: Duration = Duration::from_secs(180);
/// Before each block in a page's output, with the block's place among them.
const MARK: &str = "@@ block ";
/// Where the embedded default configuration listens, and so the guide.
const DEFAULT_PORTS: [&str; 2] = ["127.0.0.1:7071", "127.0.0.1:9700"];

struct Page {
    /// Relative to the root of the repository.
    name: String,
    text: String,
}

/// A fenced block.
#[derive(Debug)]
struct Block {
    /// Line of its first fence, from 1.
    line: usize,
    language: String,
    /// The HTML comment above it.
    marker: Option<String>,
    text: String,
    /// Whether nothing but empty lines is between it and the block before.
    is_adjacent: bool,
}

fn pages() -> Vec<Page> {
    let mut files = vec![PathBuf::from("README.md")];
    for folder in ["docs", "docs/siem"] {
        for entry in std::fs::read_dir(workspace().join(folder)).unwrap() {
            let name = entry.unwrap().file_name();
            if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
                files.push(Path::new(folder).join(name));
            }
        }
    }
    files.sort();
    let read = |file: PathBuf| Page {
        name: file.display().to_string(),
        text: std::fs::read_to_string(workspace().join(&file)).unwrap(),
    };
    files.into_iter().map(read).collect()
}

/// The fenced blocks of a page. A fence begins at the beginning of a line, or indented in a list.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    let (mut marker, mut is_adjacent) = (None, false);
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim();
        let fence = trimmed.strip_prefix("```").map(|language| (language, "```"));
        if let Some((language, end)) = fence.or((trimmed == "<!-- run").then_some(("sh", "-->"))) {
            let content: Vec<_> = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != end).collect();
            blocks.push(Block {
                line: number + 1,
                language: language.to_owned(),
                marker: marker.take(),
                text: content.join("\n") + "\n",
                is_adjacent: std::mem::replace(&mut is_adjacent, true),
            });
        } else if !trimmed.is_empty() {
            let comment = trimmed.strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->"));
            marker = comment.map(|comment| comment.trim().to_owned());
            is_adjacent = false;
        }
    }
    blocks
}

/// Two ports of four digits that nobody listens on now.
fn free_ports() -> [String; 2] {
    let begin = 2000 + std::process::id() % 7000;
    let mut free = (begin..begin + 1000).filter(|port| TcpListener::bind(format!("127.0.0.1:{port}")).is_ok());
    std::array::from_fn(|_| format!("127.0.0.1:{}", free.next().expect("a free port")))
}

/// Puts a copy of the binary into `folder`. Its default ports are others there, of the same length: so the guide's
/// commands can be run beside an actlog that has the real ones.
fn copy_with_ports(binary: &Path, folder: &Path, ports: &[String; 2]) {
    let mut bytes = std::fs::read(binary).unwrap();
    for (default, port) in DEFAULT_PORTS.iter().zip(ports) {
        assert_eq!(default.len(), port.len());
        let places: Vec<_> = memchr::memmem::find_iter(&bytes, default.as_bytes()).collect();
        assert!(!places.is_empty(), "the embedded default does not listen on {default} any more");
        for place in places {
            bytes[place..place + port.len()].copy_from_slice(port.as_bytes());
        }
    }
    let copy = folder.join("actlog");
    std::fs::write(&copy, bytes).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whether a line of output is what the guide shows.
fn fits(shown: &str, line: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, line) = (words(shown), words(line));
    let mut parts = shown.split('…').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
    }
    rest.ends_with(last)
}

/// Runs a page's `sh` blocks and compares what they print; says what is wrong.
fn run(page: &Page, binary: &Path) -> Result<(), String> {
    let blocks = blocks(&page.text);
    let is_run = |block: &&Block| block.language == "sh";
    if !blocks.iter().any(|block| is_run(&block)) {
        return Ok(());
    }
    let ports = free_ports();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    std::fs::create_dir(place("bin")).unwrap();
    std::fs::create_dir(place("work")).unwrap();
    copy_with_ports(binary, &place("bin"), &ports);
    let mut script = "set -eu -o pipefail\n".to_owned();
    for (number, block) in blocks.iter().enumerate().filter(|(_, block)| is_run(block)) {
        writeln!(script, "echo '{MARK}{number}'\n{}", block.text).unwrap();
    }
    for (default, port) in DEFAULT_PORTS.iter().zip(&ports) {
        script = script.replace(default, port);
    }
    std::fs::write(place("script.sh"), script).unwrap();

    let path = format!("{}:{}", place("bin").display(), std::env::var("PATH").unwrap_or_default());
    let output = |name: &str| Stdio::from(std::fs::File::create(place(name)).unwrap());
    let mut bash = Command::new("bash")
        .arg(place("script.sh"))
        .current_dir(place("work"))
        .env("PATH", path)
        .env("HOME", place("work"))
        .env_remove("ACTLOG_CONFIG")
        .stdin(Stdio::null())
        .stdout(output("stdout"))
        .stderr(output("stderr"))
        .process_group(0)
        .spawn()
        .unwrap();
    let group = bash.id();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = bash.try_wait().unwrap() {
            break Some(status);
        }
        if began.elapsed() > PAGE_DEADLINE {
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // What the page has started is in its group; a page ends it by itself.
    let kill = format!("kill -KILL -- -{group}");
    let left_running = Command::new("bash").args(["-c", &kill]).stderr(Stdio::null()).status().unwrap().success();
    if status.is_none() {
        bash.wait().unwrap();
    }

    let mut stdout = std::fs::read_to_string(place("stdout")).unwrap();
    for (default, port) in DEFAULT_PORTS.iter().zip(&ports) {
        stdout = stdout.replace(port, default);
    }
    let stderr = std::fs::read_to_string(place("stderr")).unwrap();
    let log = std::fs::read_to_string(place("work/actlog.log")).unwrap_or_default();
    let fail = |at: usize, what: String| {
        let Page { name, .. } = page;
        Err(format!("{name}:{at}: {what}\n-- printed:\n{stdout}\n-- errors:\n{stderr}\n-- actlog.log:\n{log}"))
    };
    let output_of = |wanted: usize| {
        let outputs = stdout.split(MARK).skip(1).filter_map(|part| part.split_once('\n'));
        outputs.filter(|(number, _)| number.parse() == Ok(wanted)).map(|(_, output)| output).next()
    };
    let reached = (0..blocks.len()).rev().find(|number| output_of(*number).is_some()).unwrap_or(0);
    match status {
        None => return fail(blocks[reached].line, format!("not done after {} s", PAGE_DEADLINE.as_secs())),
        Some(status) if !status.success() => return fail(blocks[reached].line, format!("ended with {status}")),
        Some(_) if left_running => return fail(1, "the page leaves something running".to_owned()),
        Some(_) => {}
    }
    for (number, pair) in blocks.windows(2).enumerate() {
        let [commands, shown] = pair else { continue };
        if !is_run(&commands) || shown.language != "text" || !shown.is_adjacent {
            continue;
        }
        let mut printed = output_of(number).unwrap_or_default().lines();
        for (offset, line) in shown.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            if !printed.any(|printed| fits(line, printed)) {
                return fail(
                    shown.line + 1 + offset,
                    format!("the commands above do not print this (in this order): {line}"),
                );
            }
        }
    }
    Ok(())
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_commands_of_the_guide_print_what_it_shows() {
    if Command::new("curl").arg("--version").output().is_err() {
        skip!("the guide uses curl, which is not installed");
    }
    let binary = binary();
    let problems: Vec<_> = pages().iter().filter_map(|page| run(page, binary).err()).collect();
    report(&problems);
}

#[test]
fn every_block_says_what_it_is_and_commands_that_are_not_run_say_why() {
    const OTHERS: [&str; 11] =
        ["text", "toml", "json", "rust", "ini", "nginx", "http", "csv", "xml", "rsyslog", "syslog-ng"];
    let mut problems = Vec::new();
    for Page { name, text } in pages() {
        for Block { line, language, marker, .. } in blocks(&text) {
            let reason = marker.as_deref().and_then(|marker| marker.strip_prefix("not run:")).map(str::trim);
            match language.as_str() {
                "console" if reason.is_none_or(str::is_empty) => problems
                    .push(format!("{name}:{line}: say why it is not run, on the line above: <!-- not run: … -->")),
                "sh" | "console" => {}
                other if OTHERS.contains(&other) => {}
                other => problems.push(format!(
                    "{name}:{line}: {other:?} is none of the languages of the guide: `sh` for commands that are run, \
                     `console` for others, or {}",
                    OTHERS.join(", ")
                )),
            }
        }
    }
    report(&problems);
}

#[test]
fn the_configurations_and_policies_of_the_guide_are_valid() {
    let binary = binary();
    let folder = tempfile::tempdir().unwrap();
    // Policies that hash values need a key.
    std::fs::write(folder.path().join("hash.key"), "0123456789abcdef").unwrap();
    std::fs::write(folder.path().join("actlog.toml"), "policy.hash_key = { file = \"hash.key\" }\n").unwrap();
    let mut problems = Vec::new();
    for Page { name, text } in pages() {
        for Block { line, language, marker, text, .. } in blocks(&text) {
            if language != "toml" {
                continue;
            }
            if let Err(error) = toml::from_str::<toml::Table>(&text) {
                problems.push(format!("{name}:{line}: {error}"));
                continue;
            }
            let file = folder.path().join("block.toml");
            std::fs::write(&file, &text).unwrap();
            let mut command = Command::new(binary);
            command.current_dir(folder.path()).env_remove("ACTLOG_CONFIG");
            match marker.as_deref() {
                Some("config") => command.arg("--config").arg(&file).arg("validate"),
                Some("policy") => command.args(["policy", "validate"]).arg(&file),
                _ => continue,
            };
            let output = command.output().unwrap();
            if !output.status.success() {
                problems.push(format!("{name}:{line}: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
    }
    report(&problems);
}

#[test]
fn the_code_that_the_guide_quotes_is_what_stands_there() {
    let mut problems = Vec::new();
    for Page { name, text } in pages() {
        for Block { line, marker, text, .. } in blocks(&text) {
            let Some(file) = marker.as_deref().and_then(|marker| marker.strip_prefix("from:")).map(str::trim) else {
                continue;
            };
            let source = std::fs::read_to_string(workspace().join(file)).unwrap_or_default();
            if !quotes(&text, &source) {
                problems.push(format!("{name}:{line}: this is not what {file} says"));
            }
        }
    }
    report(&problems);
}

/// Whether the lines of a block, taken apart at its gaps, are in a file in that order.
fn quotes(block: &str, file: &str) -> bool {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let (block, file) = (lines(block), lines(file));
    let mut rest = &file[..];
    for part in block.split(|line| line.starts_with("// …")).filter(|part| !part.is_empty()) {
        let Some(place) = rest.windows(part.len()).position(|window| window == part) else { return false };
        rest = &rest[place + part.len()..];
    }
    true
}

/// That the linked files exist is among the rules of `cargo xtask tidy`.
#[test]
fn the_headings_that_the_guide_links_to_exist() {
    let mut problems = Vec::new();
    for Page { name, text } in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((file, anchor)) = link.split_once('#').filter(|_| !link.contains("://")) else { continue };
            let linked = if file.is_empty() { PathBuf::from(&name) } else { Path::new(&name).with_file_name(file) };
            let linked = std::fs::read_to_string(workspace().join(linked)).unwrap_or_default();
            if !anchors(&linked).iter().any(|present| present == anchor) {
                problems.push(format!("{name}: there is no heading for {link}"));
            }
        }
    }
    report(&problems);
}

/// The anchors that headings have where Markdown is shown: lower case, hyphens for spaces, no punctuation.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn what_the_guide_shows_is_compared_with_its_gaps() {
    assert!(fits("200", "200") && !fits("200", "2000") && !fits("200", "1200"));
    assert!(fits("version …, by uid …", "version 2, 2026-11-23T14:47:53Z, by uid 0"));
    assert!(fits("audit  yes  …", "audit   yes         0           2"));
    assert!(!fits("a … b … c", "a c b") && fits("a … b … c", "a - b - c"));
}

#[test]
fn a_quotation_is_whole_and_in_order() {
    let file = "fn a() {\n    one();\n    two();\n    three();\n}\n";
    assert!(quotes("fn a() {\n  one();\n  // … more …\n  three();\n", file));
    assert!(!quotes("one();\nthree();\n", file) && !quotes("two();\n// …\none();\n", file));
}

#[test]
fn blocks_are_found_with_what_stands_above_them() {
    let text = "# Title\n\n<!-- not run: needs root -->\n```console\n$ x\n```\n\n```text\nout\n```\nWords\n```sh\na\nb\n```\n<!-- run\nc\n-->\n";
    let found = blocks(text);
    let languages: Vec<_> = found.iter().map(|block| block.language.as_str()).collect();
    assert_eq!(languages, ["console", "text", "sh", "sh"]);
    assert_eq!(found[3].text, "c\n");
    assert_eq!(found[0].marker.as_deref(), Some("not run: needs root"));
    assert_eq!((found[1].is_adjacent, found[1].marker.as_deref()), (true, None));
    assert_eq!((found[2].is_adjacent, found[2].line, found[2].text.as_str()), (false, 12, "a\nb\n"));
}
