//! Path templates: from `{data_dir}/audit/{date}.jsonl` to the file that a record goes to, and back to patterns of the
//! files that can have come from one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use actlog_core::{BuildContext, BuildError, ConfigError, Entry, EntryKind, Timestamp};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;
use uuid::Uuid;

/// Characters of a value that are kept in a path.
const LONGEST_VALUE: usize = 64;
/// What stands in a path for what a record lacks.
const ABSENT: &str = "none";
/// The endings of compressed files.
pub(crate) const COMPRESSED: [&str; 2] = [".gz", ".zst"];
/// The ending of files that are not whole yet.
pub(crate) const TEMPORARY: &str = ".new";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    DataDir,
    Name,
    Date,
    Hour,
    Source,
    Organization,
}

/// A path template as it is configured.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Part>);

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let error = |message: String| Err(ConfigError::new("path", message));
        let text = text.strip_prefix("./").unwrap_or(text);
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            if brace > 0 {
                parts.push(Part::Text(rest[..brace].to_owned()));
            }
            let Some((name, behind)) = rest[brace..].strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
                return error(format!("{text:?} has a brace without its counterpart"));
            };
            parts.push(match name {
                "data_dir" if parts.is_empty() => Part::DataDir,
                "data_dir" => return error("{data_dir} can only stand at the beginning".into()),
                "name" => Part::Name,
                "date" => Part::Date,
                "hour" => Part::Hour,
                "source" => Part::Source,
                "organization" => Part::Organization,
                _ => {
                    return error(format!(
                        "there is no placeholder {{{name}}}; there are {{data_dir}}, {{name}}, {{date}}, {{hour}}, \
                         {{source}}, {{organization}}"
                    ));
                }
            });
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let file_name = text.rsplit('/').next().unwrap_or_default();
        if file_name.is_empty() || file_name == "." || file_name == "{data_dir}" {
            return error(format!("{text:?} does not end with the name of a file"));
        }
        let odd = |component: &str| matches!(component, "" | "." | "..");
        if text.strip_prefix('/').unwrap_or(text).split('/').any(odd) || text.contains('\0') {
            return error(format!("{text:?}: a path can't have \"//\", \".\", \"..\" or a zero byte in it"));
        }
        if parts.first() == Some(&Part::DataDir) && !text.starts_with("{data_dir}/") {
            return error("write a / behind {data_dir}".into());
        }
        if COMPRESSED.iter().any(|ending| file_name.ends_with(ending)) || file_name.ends_with(TEMPORARY) {
            return error(format!("{text:?}: leave the last ending out; compress = … adds it when the file is closed"));
        }
        Ok(Self(parts))
    }
}

/// A template of a running sink: finds the route of a record. A route is the path that a record's file has before it is
/// numbered.
#[derive(Debug)]
pub(crate) struct Router {
    parts: Vec<Part>,
    organizations: HashMap<String, String>,
    period: Option<i64>,
}

impl Router {
    /// Fills in what does not change while the sink runs.
    pub(crate) fn new(template: Template, cx: &BuildContext) -> Result<Self, BuildError> {
        let folder = |path: &Path| match path.components().collect::<PathBuf>().to_str() {
            // With a root, a relative path behind it would become an absolute one.
            Some("/") => Ok(String::new()),
            Some(text) => Ok(text.to_owned()),
            None => {
                Err(BuildError::Other(format!("the name of the folder {} is not UTF-8; rename it", path.display())))
            }
        };
        // Relative paths are seen from the configuration's folder.
        let config_dir = || match folder(&cx.config_dir)? {
            empty if cx.config_dir.as_os_str().is_empty() => Ok(empty),
            folder => Ok::<_, BuildError>(folder + "/"),
        };
        let beginning = match template.0.first() {
            Some(Part::DataDir) => folder(&cx.data_dir)?,
            Some(Part::Text(text)) if text.starts_with('/') => text.clone(),
            Some(Part::Text(text)) => config_dir()? + text,
            _ => config_dir()?,
        };
        let replaced = usize::from(matches!(template.0.first(), Some(Part::DataDir | Part::Text(_))));
        let mut parts = vec![Part::Text(beginning)];
        parts.extend(template.0.into_iter().skip(replaced).map(|part| match part {
            Part::Name => Part::Text(sanitized(&cx.name).into_owned()),
            part => part,
        }));
        let period = if parts.contains(&Part::Hour) {
            Some(3_600_000)
        } else {
            parts.contains(&Part::Date).then_some(86_400_000)
        };
        let mut organizations = HashMap::new();
        for (name, organization) in cx.organizations.iter() {
            let keys = organization.id.iter().map(Uuid::to_string).chain(organization.unique_name.clone());
            organizations.extend(keys.map(|key| (key, name.clone())));
        }
        Ok(Self { parts, organizations, period })
    }

    /// The number of the day or hour, as far as routes depend on it.
    pub(crate) fn period(&self, time: Timestamp) -> Option<i64> {
        self.period.map(|length| time.unix_milliseconds().div_euclid(length))
    }

    /// The routes of records that are written now.
    pub(crate) fn at(&self, now: Timestamp) -> Routes<'_> {
        let mut parts = Vec::new();
        let mut text = String::new();
        for part in &self.parts {
            // Writing to a String can't fail.
            let _ = match part {
                Part::Text(literal) => write!(text, "{literal}"),
                Part::Date => write!(text, "{}", now.to_datetime().format("%Y-%m-%d")),
                Part::Hour => write!(text, "{}", now.to_datetime().format("%H")),
                Part::Source | Part::Organization => {
                    parts.push((std::mem::take(&mut text), Some(part)));
                    Ok(())
                }
                Part::DataDir | Part::Name => Ok(()),
            };
        }
        parts.push((text, None));
        let route = if parts.len() == 1 { parts[0].0.clone() } else { String::new() };
        Routes { organizations: &self.organizations, parts, route }
    }

    /// The folder to look in for files of this template, how deep they lie below it (1: directly), and what their paths
    /// look like: plain, numbered, compressed.
    pub(crate) fn files(&self) -> Result<(PathBuf, usize, GlobSet), globset::Error> {
        let digits = |count: usize| "[0-9]".repeat(count);
        let mut pattern = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => pattern.push_str(&globset::escape(text)),
                Part::Date => pattern.push_str(&format!("{0}-{1}-{1}", digits(4), digits(2))),
                Part::Hour => pattern.push_str(&digits(2)),
                Part::Source | Part::Organization => pattern.push_str("[A-Za-z0-9_]*"),
                Part::DataDir | Part::Name => {}
            }
        }
        let (stem, extension) = split_extension(&pattern);
        let mut set = GlobSetBuilder::new();
        let numbers = (4..=NumberedName::MOST_DIGITS).map(|count| format!("-{}", digits(count)));
        for number in std::iter::once(String::new()).chain(numbers) {
            for compressed in ["", COMPRESSED[0], COMPRESSED[1]] {
                let glob = format!("{stem}{number}{extension}{compressed}");
                set.add(GlobBuilder::new(&glob).literal_separator(true).build()?);
            }
        }
        let Some(Part::Text(literal)) = self.parts.first() else { return Ok((PathBuf::new(), 0, set.build()?)) };
        let folder = literal.rfind('/').map_or("", |slash| &literal[..=slash]);
        let depth = 1 + self.parts[1..]
            .iter()
            .map(|part| if let Part::Text(text) = part { text.matches('/').count() } else { 0 })
            .sum::<usize>();
        Ok((PathBuf::from(folder), depth, set.build()?))
    }
}

/// The routes of records at one time.
#[derive(Debug)]
pub(crate) struct Routes<'a> {
    organizations: &'a HashMap<String, String>,
    /// Literal texts, each with the placeholder behind it.
    parts: Vec<(String, Option<&'a Part>)>,
    route: String,
}

/// What of a record a route can depend on.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Origin<'a> {
    #[serde(borrow, default)]
    source: Cow<'a, str>,
    #[serde(borrow, default)]
    organization_id: Cow<'a, str>,
    #[serde(borrow, default)]
    crm_organization_unique_name: Cow<'a, str>,
}

impl Routes<'_> {
    /// The route of an entry. A record is looked into only if the template asks for what is in it.
    pub(crate) fn of(&mut self, entry: &Entry) -> Result<&str, serde_json::Error> {
        if self.parts.len() == 1 {
            return Ok(&self.route);
        }
        let origin: Origin<'_> = match entry.kind {
            EntryKind::Record => serde_json::from_slice(&entry.bytes)?,
            EntryKind::Statement => Origin::default(),
        };
        self.route.clear();
        for (text, part) in &self.parts {
            self.route.push_str(text);
            match part {
                Some(Part::Source) => self.route.push_str(&sanitized(&origin.source)),
                Some(_) => self.route.push_str(&sanitized(origin.organization(self.organizations))),
                None => {}
            }
        }
        Ok(&self.route)
    }
}

impl Origin<'_> {
    /// The organisation's configured name, else its unique name, else its id.
    fn organization<'o>(&'o self, configured: &'o HashMap<String, String>) -> &'o str {
        let (id, name) = (self.organization_id.as_ref(), self.crm_organization_unique_name.as_ref());
        let configured = configured.get(id).or_else(|| configured.get(name));
        configured.map_or(if name.is_empty() { id } else { name }, String::as_str)
    }
}

/// A value as it can stand in a path: no separators, no leading dot or hyphen, bounded.
fn sanitized(value: &str) -> Cow<'_, str> {
    if value.is_empty() {
        return Cow::Borrowed(ABSENT);
    }
    let safe =
        |place: usize, byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || place > 0 && b".-".contains(&byte);
    if value.len() <= LONGEST_VALUE && value.bytes().enumerate().all(|(place, byte)| safe(place, byte)) {
        return Cow::Borrowed(value);
    }
    let kept = value.chars().take(LONGEST_VALUE).enumerate();
    Cow::Owned(kept.map(|(place, char)| if char.is_ascii() && safe(place, char as u8) { char } else { '_' }).collect())
}

/// Splits `a/b.c.jsonl` into `a/b.c` and `.jsonl`; a leading dot of the file's name begins no extension.
fn split_extension(path: &str) -> (&str, &str) {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[name..].rfind('.') {
        None | Some(0) => (path, ""),
        Some(dot) => path.split_at(name + dot),
    }
}

/// The names of the files of one route: `day.jsonl`, `day-0001.jsonl`, `day-0002.jsonl` …
#[derive(Debug)]
pub(crate) struct NumberedName<'a> {
    /// Where the files are.
    pub(crate) folder: &'a Path,
    stem: &'a str,
    extension: &'a str,
}

impl<'a> NumberedName<'a> {
    const MOST_DIGITS: usize = 7;

    pub(crate) fn new(route: &'a str) -> Self {
        let (stem, extension) = split_extension(route);
        let name = stem.rfind('/').map_or(0, |slash| slash + 1);
        Self { folder: Path::new(route).parent().unwrap_or(Path::new("")), stem: &stem[name..], extension }
    }

    /// The path of the file with that number; 0 has none in its name.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.folder.join(match number {
            0 => format!("{}{}", self.stem, self.extension),
            _ => format!("{}-{number:04}{}", self.stem, self.extension),
        })
    }

    /// The number in the name of a file of this route, compressed or not; none when it is no such file.
    pub(crate) fn number(&self, path: &Path) -> Option<u64> {
        let mut name = path.file_name()?.to_str()?;
        // A value at the end of a route can look like a compressed file's ending, so each name is tried as it is first.
        loop {
            if let Some(number) = self.number_of_plain(name) {
                return Some(number);
            }
            name = COMPRESSED.iter().chain(&[TEMPORARY]).find_map(|ending| name.strip_suffix(ending))?;
        }
    }

    fn number_of_plain(&self, name: &str) -> Option<u64> {
        let middle = name.strip_prefix(self.stem)?.strip_suffix(self.extension)?;
        if middle.is_empty() {
            return Some(0);
        }
        let digits = middle.strip_prefix('-')?;
        let numeric =
            (4..=Self::MOST_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if numeric { digits.parse().ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_template_that_cannot_work_is_refused_with_the_reason() {
        for (template, reason) in [
            ("{data_dir}/{colour}.jsonl", "{organization}"),
            ("{data_dir}/{date.jsonl", "brace"),
            ("a}.jsonl", "brace"),
            ("audit/{data_dir}/a.jsonl", "beginning"),
            ("{data_dir}", "name of a file"),
            ("{data_dir}/audit/", "name of a file"),
            ("", "name of a file"),
            ("{data_dir}x/a.jsonl", "write a /"),
            ("{data_dir}/../a.jsonl", ".."),
            ("/a//b.jsonl", "//"),
            ("a\0b", "zero byte"),
            ("{date}.jsonl.gz", "compress"),
        ] {
            let error = Template::parse(template).unwrap_err();
            assert!(error.path == "path" && error.message.contains(reason), "{template:?}: {error}");
        }
    }

    #[test]
    fn relative_paths_are_seen_from_the_folder_of_the_configuration() {
        let storage = std::sync::Arc::new(actlog_testkit::storage::FaultStorage::new(1));
        let mut cx =
            BuildContext::new("/var/data/", storage, std::sync::Arc::new(actlog_core::SystemClock)).named("a/b");
        cx.config_dir = "/etc/actlog".into();
        let entry = Entry {
            index: 0,
            kind: EntryKind::Statement,
            id: Uuid::nil(),
            time: Timestamp::default(),
            salt: [0; 32],
            bytes: Default::default(),
        };
        for (template, path) in [
            ("{data_dir}/{name}.jsonl", "/var/data/a_b.jsonl"),
            ("audit/x", "/etc/actlog/audit/x"),
            ("./x", "/etc/actlog/x"),
            ("{date}/{hour}.jsonl", "/etc/actlog/1970-01-01/00.jsonl"),
            ("/log/x-{source}", "/log/x-none"),
        ] {
            let router = Router::new(Template::parse(template).unwrap(), &cx).unwrap();
            assert_eq!(router.at(Timestamp::default()).of(&entry).unwrap(), path);
            let (folder, depth, files) = router.files().unwrap();
            assert!(files.is_match(path), "{template}");
            assert_eq!(Path::new(path).strip_prefix(&folder).unwrap().components().count(), depth, "{template}");
        }
        cx.config_dir = PathBuf::new();
        let router = Router::new(Template::parse("x.jsonl").unwrap(), &cx).unwrap();
        assert_eq!(router.at(Timestamp::default()).of(&entry).unwrap(), "x.jsonl");
    }

    proptest! {
        #[test]
        fn no_value_becomes_more_than_a_short_part_of_a_name(value: String) {
            let safe = sanitized(&value);
            prop_assert!(!safe.is_empty() && safe.len() <= LONGEST_VALUE && !safe.starts_with(['.', '-']));
            prop_assert!(safe.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
        }

        #[test]
        fn a_numbered_name_gives_its_number_back(route in "(/[a-z.]{0,3}[a-z0-9-]{1,6}){1,3}(\\.[a-z]{1,5}|\\.gz|\\.new)?", number in 0..10_000_000_u64) {
            let name = NumberedName::new(&route);
            let path = name.path(number);
            prop_assert_eq!(name.number(&path), Some(number));
            for ending in [".gz", ".zst", ".gz.new"] {
                prop_assert_eq!(name.number(Path::new(&format!("{}{ending}", path.display()))), Some(number));
            }
            prop_assert_eq!(path.parent(), Path::new(&route).parent());
        }
    }
}
