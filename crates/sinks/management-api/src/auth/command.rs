//! `actlog clients …`: registers and removes clients. It works on the file alone, with or without a running actlog.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use actlog_core::terminal::{harmless, line};
use actlog_core::{Clock, CommandContext, SecretReference, Span, SystemClock, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Parser, Subcommand};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use uuid::Uuid;

use super::certificate::Certificate;
use super::clients::{Client, Clients, Role, StoredCertificate, StoredSecret, is_current};
use super::register;
use super::secret_hash::SecretHash;

actlog_core::register_command!("clients", "Registers clients of the sink management-api", run);

/// Registers clients of the sink management-api.
#[derive(Parser)]
#[command(name = "actlog clients", arg_required_else_help = true, disable_version_flag = true)]
struct Cli {
    /// The clients file; left out, the one of the configuration's only sink of the type management-api
    #[arg(long, global = true, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Registers a client, or gives a registered one another secret, certificate, role or name
    Add(Add),
    /// Lists the registered clients
    List,
    /// Removes a client; its tokens are refused from then on
    Revoke(Revoke),
}

#[derive(Args)]
struct Add {
    /// The tenant whose feed it may read
    #[arg(long, value_name = "GUID")]
    tenant: Uuid,
    /// The client's id
    #[arg(long, value_name = "GUID")]
    client: Uuid,
    /// A permission: ActivityFeed.Read, ActivityFeed.ReadDlp
    #[arg(long = "role", value_name = "ROLE", value_parser = role)]
    roles: Vec<Role>,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// The environment variable that holds its secret
    #[arg(long, value_name = "VARIABLE", group = "proof")]
    secret_env: Option<String>,
    /// The file that holds its secret
    #[arg(long, value_name = "FILE", group = "proof")]
    secret_file: Option<PathBuf>,
    /// The PEM file of its certificate. Without any of the three, a secret is made and shown once
    #[arg(long, value_name = "FILE", group = "proof")]
    certificate: Option<PathBuf>,
    /// For how long the secret or certificate is good, such as "180 days"
    #[arg(long, value_name = "SPAN")]
    expires: Option<Span>,
}

#[derive(Args)]
struct Revoke {
    /// The client's id
    #[arg(long, value_name = "GUID")]
    client: Uuid,
    /// Only for this tenant
    #[arg(long, value_name = "GUID")]
    tenant: Option<Uuid>,
}

fn role(name: &str) -> Result<Role, String> {
    let found = Role::ALL.into_iter().find(|role| role.as_str().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("there are {}", Role::ALL.map(Role::as_str).join(" and ")))
}

fn run(cx: CommandContext, arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(std::iter::once(OsString::from("actlog clients")).chain(arguments)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, errors to standard error; without them there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match carry_out(&cli, &cx, SystemClock.now()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", harmless(&failure));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(cli: &Cli, cx: &CommandContext, now: Timestamp) -> Result<(), String> {
    let file = match &cli.file {
        Some(file) => file.clone(),
        None => configured(cx)?,
    };
    match &cli.command {
        Command::Add(arguments) => add(arguments, &file, cx, now),
        Command::List => list(&file, now),
        Command::Revoke(arguments) => revoke(arguments, &file, cx),
    }
}

/// The clients file of the configuration's only sink that has one.
fn configured(cx: &CommandContext) -> Result<PathBuf, String> {
    let sinks = cx.config.get("sinks").and_then(|sinks| sinks.as_object());
    let files: Vec<&str> = sinks
        .into_iter()
        .flatten()
        .filter(|(_, sink)| sink.get("type").is_some_and(|kind| kind == "management-api"))
        .filter_map(|(_, sink)| sink.get("clients")?.as_str())
        .collect();
    match files[..] {
        [file] => Ok(cx.config_dir.join(file)),
        [] => {
            Err("the configuration has no sink of the type management-api; name the file: --file clients.toml".into())
        }
        _ => Err("the configuration has several sinks of the type management-api; say which file: --file FILE".into()),
    }
}

fn add(arguments: &Add, file: &Path, cx: &CommandContext, now: Timestamp) -> Result<(), String> {
    let Add { tenant, client: id, .. } = arguments;
    let expires =
        arguments.expires.map(|Span(span)| now.plus_milliseconds(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)));
    let proof = Proof::of(arguments)?;
    let action = format!("clients: client {id} of tenant {tenant} is given {}", proof.name());
    change(file, cx, &action, |clients| {
        let client = clients.entry(*tenant, *id, now);
        client.roles.extend(&arguments.roles);
        client.roles.sort_unstable();
        client.roles.dedup();
        if client.roles.is_empty() {
            return Err("a new client needs a permission: --role ActivityFeed.Read".into());
        }
        client.name = arguments.name.clone().or(client.name.take());
        // What has expired makes room for what is new.
        client.secrets.retain(|stored| is_current(stored.expires, now));
        client.certificates.retain(|stored| is_current(stored.expires, now));
        match &proof {
            Proof::Secret(secret) | Proof::Made(secret) => {
                let hash = SecretHash::of(secret).map_err(|error| format!("no random numbers: {error}"))?;
                client.secrets.push(StoredSecret { hash, created: now, expires });
            }
            Proof::Certificate(der) => {
                client.certificates.retain(|stored| stored.der != *der);
                client.certificates.push(StoredCertificate { der: der.clone(), created: now, expires });
            }
        }
        Ok(())
    })?;
    line(format!("client {id} of tenant {tenant} is registered in {}", file.display()));
    if let Proof::Made(secret) = proof {
        line("its secret, which is shown this once and kept nowhere:");
        line(String::from_utf8_lossy(&secret));
    }
    Ok(())
}

/// What a client is to prove its identity with.
enum Proof {
    Secret(Vec<u8>),
    /// A secret of our own.
    Made(Vec<u8>),
    Certificate(Certificate),
}

impl Proof {
    fn of(arguments: &Add) -> Result<Self, String> {
        let here = Path::new("");
        let secret = |reference: SecretReference| {
            reference.load(here).map(|secret| Self::Secret(secret.expose().to_vec())).map_err(|error| error.to_string())
        };
        match (&arguments.secret_env, &arguments.secret_file, &arguments.certificate) {
            (Some(variable), ..) => secret(SecretReference::Env(variable.clone())),
            (_, Some(file), _) => secret(SecretReference::File(file.clone())),
            (_, _, Some(file)) => {
                let der =
                    CertificateDer::from_pem_file(file).map_err(|error| format!("{}: {error}", file.display()))?;
                Certificate::new(der).map(Self::Certificate).map_err(|problem| format!("{}: {problem}", file.display()))
            }
            (None, None, None) => {
                let mut random = [0; 32];
                getrandom::fill(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
                // Of characters that mean nothing in a form: some clients don't encode it.
                Ok(Self::Made(URL_SAFE_NO_PAD.encode(random).into_bytes()))
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Secret(_) | Self::Made(_) => "a secret".to_owned(),
            Self::Certificate(certificate) => format!("the certificate {}", certificate.thumbprint()),
        }
    }
}

fn list(file: &Path, now: Timestamp) -> Result<(), String> {
    let clients = read(file)?;
    let count = clients.iter().count();
    line(format!("{}: {count} {}", file.display(), if count == 1 { "client" } else { "clients" }));
    for client in clients.iter() {
        line(describe(client, now));
    }
    Ok(())
}

/// A client, without anything that could be used to become it.
fn describe(client: &Client, now: Timestamp) -> String {
    let until = |expires: Option<Timestamp>| match expires {
        None => String::new(),
        Some(time) if is_current(expires, now) => format!(", until {time}"),
        Some(time) => format!(", expired {time}"),
    };
    let roles: Vec<&str> = client.roles.iter().map(|role| role.as_str()).collect();
    let name = client.name.as_deref().map(|name| format!(" ({})", harmless(name))).unwrap_or_default();
    let head = format!("client {}{name} of tenant {}: {}", client.client, client.tenant, roles.join(", "));
    let secrets =
        client.secrets.iter().map(|stored| format!("  secret of {}{}", stored.created, until(stored.expires)));
    let certificates = client.certificates.iter().map(|stored| {
        format!("  certificate {} of {}{}", stored.der.thumbprint(), stored.created, until(stored.expires))
    });
    std::iter::once(head).chain(secrets).chain(certificates).collect::<Vec<_>>().join("\n")
}

fn revoke(arguments: &Revoke, file: &Path, cx: &CommandContext) -> Result<(), String> {
    let id = arguments.client;
    let of = arguments.tenant.map(|tenant| format!(" of tenant {tenant}")).unwrap_or_default();
    let mut tenants = Vec::new();
    change(file, cx, &format!("clients: client {id}{of} is revoked"), |clients| {
        tenants = clients.remove(arguments.tenant, id);
        if tenants.is_empty() { Err(format!("there is no client {id}{of} in {}", file.display())) } else { Ok(()) }
    })?;
    for tenant in tenants {
        line(format!("client {id} of tenant {tenant} is revoked; its tokens are refused from now on"));
    }
    Ok(())
}

/// Changes the file, and states that in the journal first where a configuration says which journal. Nobody else's change
/// is lost: the file's folder is locked meanwhile.
fn change(
    file: &Path,
    cx: &CommandContext,
    action: &str,
    edit: impl FnOnce(&mut Clients) -> Result<(), String>,
) -> Result<(), String> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unusable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let lock = File::open(folder).map_err(unusable)?;
    lock.lock().map_err(unusable)?;
    let mut clients = if file.exists() { read(file)? } else { Clients::default() };
    edit(&mut clients)?;
    let text = clients.to_text()?;
    if cx.config_file.is_some() {
        cx.log.state(action, &[]).map_err(|problem| format!("nothing is changed: it can't be stated: {problem}"))?;
    }
    replace(file, &text).and_then(|()| lock.sync_all()).map_err(|error| format!("{}: {error}", file.display()))
}

/// Replaces the file whole; only its owner may read it, who stays the same: actlog may run as another user than who
/// changes the file. It is an operator's file, as the configuration is, and not in the storage of the data folder.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    if let Ok(before) = fs::metadata(file) {
        let new = written.metadata()?;
        if (new.uid(), new.gid()) != (before.uid(), before.gid()) {
            fchown(&written, Some(before.uid()), Some(before.gid())).map_err(|error| {
                let message = format!("it can't be left to its owner: {error}; run this as its owner, or as root");
                std::io::Error::new(error.kind(), message)
            })?;
        }
    }
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&temporary, file)
}

fn read(file: &Path) -> Result<Clients, String> {
    register::read(file).map_err(|problem| format!("{}: {problem}", file.display()))
}
