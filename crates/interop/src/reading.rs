//! What a record says, in the terms that several formats share.

use std::net::{IpAddr, SocketAddr};

use actlog_core::{AuditRecord, WORKLOAD_CRM};

use crate::syslog::Severity;

/// Whether the operation succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure,
    /// Anything else that a product says: `PartiallySucceeded`, codes of its own.
    Other,
}

/// By ResultStatus, and by Operation for a sign-in that failed; none where neither says it.
pub(crate) fn outcome(record: &AuditRecord<'_>) -> Option<Outcome> {
    if Severity::of(record) == Severity::Warning {
        return Some(Outcome::Failure);
    }
    let status = present(&record.result_status)?;
    let is_success = ["Success", "Succeeded", "True"].iter().any(|success| status.eq_ignore_ascii_case(success));
    Some(if is_success { Outcome::Success } else { Outcome::Other })
}

/// What the operation does to what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Read,
    /// Reads many.
    Query,
    Update,
    Delete,
    /// Changes something in another way: shares it, links it, runs it through a process.
    Change,
    /// Unknown.
    Other,
}

/// By Category; where that says nothing of it, by the word that Operation begins with.
pub(crate) fn verb(record: &AuditRecord<'_>) -> Verb {
    match record.category.as_deref().unwrap_or_default() {
        "Create" => Verb::Create,
        "Read" => Verb::Read,
        "ReadMultiple" | "Export" => Verb::Query,
        "Update" => Verb::Update,
        "Delete" => Verb::Delete,
        "State" | "Sharing" | "Relationship" | "Bulk" | "Process" | "Business" => Verb::Change,
        _ => {
            let words = [
                ("RetrieveMultiple", Verb::Query),
                ("Create", Verb::Create),
                ("Retrieve", Verb::Read),
                ("Get", Verb::Read),
                ("Update", Verb::Update),
                ("Delete", Verb::Delete),
            ];
            let word = words.into_iter().find(|(word, _)| record.operation.starts_with(word));
            word.map_or(Verb::Other, |(_, verb)| verb)
        }
    }
}

/// What the operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    /// Signing in and out.
    SignIn,
    /// Changes of users, teams, roles, privileges.
    Accounts,
    /// Changes of customisations, solutions, settings, environments.
    Configuration,
    /// Rows of Dynamics 365.
    Rows,
    /// Anything else, most of all other products.
    Other,
}

/// By Category, EntityName and Activity.
pub(crate) fn area(record: &AuditRecord<'_>) -> Area {
    let changes = !matches!(verb(record), Verb::Read | Verb::Query);
    let is_crm = record.workload == WORKLOAD_CRM;
    match record.category.as_deref().unwrap_or_default() {
        "SignIn" => Area::SignIn,
        _ if sign(record).is_some() => Area::SignIn,
        "AdminSecurity" => Area::Accounts,
        "AdminMetadata" | "AdminCustomization" | "AdminSolution" | "AdminOrganization" => Area::Configuration,
        _ if is_crm && changes && matches!(entity(record), Some("systemuser" | "team" | "role")) => Area::Accounts,
        _ if is_crm && changes && record.activity.as_deref() == Some("Accessed admin entity") => Area::Configuration,
        _ if is_crm => Area::Rows,
        _ => Area::Other,
    }
}

/// Signing in or signing out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    In,
    Out,
}

/// By Operation; none for anything else, and for what clients do around signing in, such as `WhoAmI`.
pub(crate) fn sign(record: &AuditRecord<'_>) -> Option<Sign> {
    match &*record.operation {
        "UserSignIn" | "UserLoggedIn" | "UserLoginFailed" => Some(Sign::In),
        "UserSignOut" | "UserLoggedOut" | "UserLoggedOff" => Some(Sign::Out),
        _ => None,
    }
}

/// The client's address, where ClientIP is one, and its port.
pub(crate) fn client(record: &AuditRecord<'_>) -> Option<(IpAddr, Option<u16>)> {
    let text = record.client_ip.as_deref()?;
    let (address, port) = match text.parse::<SocketAddr>() {
        Ok(socket) => (socket.ip(), Some(socket.port())),
        Err(_) => (text.parse().ok()?, None),
    };
    Some((address, record.client_port.or(port)))
}

/// The user principal name: UserUpn, else UserId where it has the form of one.
pub(crate) fn upn<'r>(record: &'r AuditRecord<'_>) -> Option<&'r str> {
    let has_form =
        |text: &&str| text.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && !domain.is_empty());
    present(&record.user_upn).or(present(&record.user_id)).filter(has_form)
}

/// The name of the entity, where the platform knew it.
pub(crate) fn entity<'r>(record: &'r AuditRecord<'_>) -> Option<&'r str> {
    present(&record.entity_name).filter(|name| *name != "Unknown")
}

/// A text, unless it is absent or empty.
pub(crate) fn present<'r>(text: &'r Option<std::borrow::Cow<'_, str>>) -> Option<&'r str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// The host of InstanceUrl.
pub(crate) fn host<'r>(record: &'r AuditRecord<'_>) -> Option<&'r str> {
    let (_, rest) = record.instance_url.as_deref()?.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let host = match host.find(']') {
        Some(end) if host.starts_with('[') => &host[..=end],
        _ => host.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}
