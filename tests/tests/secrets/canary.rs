//! Secrets that can be recognised wherever they turn up.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use memchr::memmem;

/// Secrets, and what each of them looks like when it has got out.
#[derive(Default)]
pub(crate) struct Canaries(Vec<Canary>);

struct Canary {
    name: String,
    /// Bytes that are found where the secret is, in one form or another.
    traces: Vec<(&'static str, Vec<u8>)>,
}

impl Canaries {
    /// A new secret: a text with characters that are written in other ways in URLs, JSON and Rust, around a core of
    /// letters and digits that stays as it is in all of them.
    pub(crate) fn text(&mut self, name: &str) -> String {
        let core = uuid::Uuid::new_v4().simple().to_string();
        self.watch(name, core.as_bytes());
        format!("{name}~\"+%&=/{core}\\end")
    }

    /// Watches bytes that the test has not made itself, such as a token.
    pub(crate) fn watch(&mut self, name: &str, secret: &[u8]) {
        let mut traces = vec![
            ("itself", secret.to_vec()),
            ("hexadecimal digits", hex(secret).into_bytes()),
            ("hexadecimal digits", hex(secret).to_uppercase().into_bytes()),
        ];
        // In Base64 its letters depend on where it begins in a group of three, and those at the ends on what is beside.
        for before in 0..3 {
            let padded = [&[0; 2][..before], secret].concat();
            let whole = &padded[..padded.len() / 3 * 3];
            for engine in [STANDARD, URL_SAFE] {
                let encoded = engine.encode(whole).into_bytes();
                traces.push(("Base64", encoded[[0, 2, 3][before]..].to_vec()));
            }
        }
        self.0.push(Canary { name: name.to_owned(), traces });
    }

    /// Watches a private key: 32 bytes of the number that is secret, which begins at byte `at` of its DER form, and the
    /// whole lines of its PEM from there on. What is before is in the certificate too.
    pub(crate) fn private_key(&mut self, name: &str, pem: &str, at: usize) {
        let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(lines.concat()).unwrap();
        self.watch(name, &der[at..at + 32]);
        let secret = lines.iter().skip(at.div_ceil(48)).filter(|line| line.len() == 64);
        let traces = secret.map(|line| ("a line of its PEM", line.as_bytes().to_vec()));
        self.0.push(Canary { name: name.to_owned(), traces: traces.collect() });
    }

    /// The secrets that are in these bytes, a sentence each.
    pub(crate) fn found(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let traces = self.0.iter().flat_map(|canary| canary.traces.iter().map(move |trace| (&canary.name, trace)));
        let found = traces.filter(|(_, (_, trace))| memmem::find(bytes, trace).is_some());
        found.map(|(name, (form, _))| format!("{place}: the secret {name}, as {form}")).collect()
    }

    /// The same for every file of a folder, and below, but for the folder `except`; names of files count too.
    pub(crate) fn found_below(&self, folder: &Path, except: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let place = path.display().to_string();
            found.extend(self.found("the name of a file", place.as_bytes()));
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && path != except {
                found.extend(self.found_below(&path, except));
            } else if kind.is_file() {
                found.extend(self.found(&place, &std::fs::read(&path).unwrap()));
            }
        }
        found
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_secret_is_found_in_whatever_form_it_is_written() {
    let mut canaries = Canaries::default();
    let secret = canaries.text("planted");
    let key = std::fs::read_to_string(super::rsa_key()).unwrap();
    canaries.private_key("key", &key, super::RSA_SECRET_AT);
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    assert!(canaries.found("nothing", b"nothing secret").is_empty());
    // Letters that need no encoding stay as they are in URLs that programs write; all of them encoded is no form that
    // any does.
    assert!(canaries.found("all encoded", percent.as_bytes()).is_empty());
    let body = STANDARD.decode(key.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
    let mut forms = vec![
        secret.clone().into_bytes(),
        format!("{secret:?}").into_bytes(),
        serde_json::to_vec(&secret).unwrap(),
        percent_encoded(&secret).into_bytes(),
        hex(secret.as_bytes()).into_bytes(),
        key.clone().into_bytes(),
        format!("{key:?}").into_bytes(),
        body,
    ];
    for name in ["", "a", "ab", "abc", "user:"] {
        forms.push(STANDARD.encode(format!("{name}{secret}")).into_bytes());
        forms.push(URL_SAFE.encode(format!("{name}{secret}:")).into_bytes());
    }
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    for form in forms {
        let planted = [b"before ".as_slice(), &form, b" behind"].concat();
        assert!(!canaries.found("planted", &planted).is_empty(), "{}", String::from_utf8_lossy(&planted));
        std::fs::write(below.join("file"), &planted).unwrap();
        assert_eq!(
            canaries.found_below(folder.path(), &folder.path().join("x")),
            canaries.found(&below.join("file").display().to_string(), &planted)
        );
        assert!(canaries.found_below(folder.path(), &below).is_empty());
    }
}

/// As forms and query strings have it.
pub(crate) fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
