//! Users from the `systemusers` table of Dataverse.
//!
//! The columns and access modes are those of the table's reference in Microsoft's documentation. Dataverse has no PUID, so
//! UserKey is the Entra object id.

use std::collections::{BTreeMap, BTreeSet};

use actlog_dataverse::directory::{MAXIMUM_TEXT, MAXIMUM_USERS, User, user_type};
use actlog_dataverse::webapi::{WebApi, WebApiError};
use serde::Deserialize;
use uuid::{Uuid, uuid};

const PAGE: u32 = 5000;
/// The template that every System Administrator role is made from, the same in every organisation.
const SYSTEM_ADMINISTRATOR: Uuid = uuid!("627090ff-40a3-4053-8790-584edc5be201");

/// Values of the column `accessmode`.
mod access_mode {
    pub(super) const ADMINISTRATIVE: i32 = 1;
    pub(super) const SUPPORT_USER: i32 = 3;
    pub(super) const DELEGATED_ADMIN: i32 = 5;
}

#[derive(Debug, Deserialize)]
struct SystemUser {
    systemuserid: Uuid,
    domainname: Option<String>,
    internalemailaddress: Option<String>,
    azureactivedirectoryobjectid: Option<Uuid>,
    applicationid: Option<Uuid>,
    accessmode: Option<i32>,
    fullname: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Role {
    roleid: Uuid,
}

#[derive(Debug, Deserialize)]
struct UserReference {
    systemuserid: Uuid,
}

/// Reads the whole table.
pub(crate) async fn read(api: &WebApi) -> Result<BTreeMap<Uuid, User>, WebApiError> {
    let administrators = administrators(api).await?;
    let mut users = BTreeMap::new();
    let query = "systemusers?$select=systemuserid,domainname,internalemailaddress,azureactivedirectoryobjectid,\
                 applicationid,accessmode,fullname";
    let mut pages = api.pages::<SystemUser>(query, PAGE);
    while let Some(page) = pages.next().await? {
        for user in page {
            let is_administrator = administrators.contains(&user.systemuserid);
            users.insert(user.systemuserid, describe(user, is_administrator));
        }
        if users.len() > MAXIMUM_USERS {
            tracing::warn!(users = users.len(), "more users than the directory holds; the rest stays unknown");
            break;
        }
    }
    Ok(users)
}

/// Who has the role System Administrator; there is one such role in each business unit.
async fn administrators(api: &WebApi) -> Result<BTreeSet<Uuid>, WebApiError> {
    let mut administrators = BTreeSet::new();
    let query = format!("roles?$select=roleid&$filter=_roletemplateid_value eq {SYSTEM_ADMINISTRATOR}");
    let mut roles = api.pages::<Role>(&query, PAGE);
    while let Some(page) = roles.next().await? {
        for Role { roleid } in page {
            let query = format!("roles({roleid})/systemuserroles_association?$select=systemuserid");
            let mut users = api.pages::<UserReference>(&query, PAGE);
            while let Some(page) = users.next().await? {
                administrators.extend(page.into_iter().map(|user| user.systemuserid));
                if administrators.len() > MAXIMUM_USERS {
                    tracing::warn!(users = administrators.len(), "more administrators than the directory holds");
                    return Ok(administrators);
                }
            }
        }
    }
    Ok(administrators)
}

fn describe(user: SystemUser, is_administrator: bool) -> User {
    let text = |text: Option<String>| text.filter(|text| !text.is_empty() && text.len() <= MAXIMUM_TEXT);
    let upn = text(user.domainname).or_else(|| text(user.internalemailaddress));
    let is_built_in = matches!(user.fullname.as_deref(), Some("SYSTEM" | "INTEGRATION"))
        && user.azureactivedirectoryobjectid.is_none();
    let user_type = match user.accessmode {
        _ if is_built_in => user_type::SYSTEM,
        Some(access_mode::SUPPORT_USER) => user_type::SUPPORT,
        _ if user.applicationid.is_some() => user_type::APPLICATION,
        Some(access_mode::ADMINISTRATIVE | access_mode::DELEGATED_ADMIN) => user_type::ADMINISTRATOR,
        _ if is_administrator => user_type::ADMINISTRATOR,
        _ => user_type::REGULAR,
    };
    User {
        user_upn: upn.map(Into::into),
        user_key: user.azureactivedirectoryobjectid.map(|id| id.to_string().into()),
        user_type: Some(user_type),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_user_follows_from_application_access_mode_and_role() {
        let user = |change: fn(&mut SystemUser), is_administrator| {
            let mut user = SystemUser {
                systemuserid: Uuid::from_u128(1),
                domainname: Some("ann@contoso.com".to_owned()),
                internalemailaddress: Some("ann@example.com".to_owned()),
                azureactivedirectoryobjectid: Some(Uuid::from_u128(2)),
                applicationid: None,
                accessmode: Some(0),
                fullname: Some("Ann".to_owned()),
            };
            change(&mut user);
            describe(user, is_administrator)
        };
        let ann = user(|_| {}, false);
        assert_eq!(ann.user_upn.as_deref(), Some("ann@contoso.com"));
        assert_eq!(ann.user_key.as_deref(), Some("00000000-0000-0000-0000-000000000002"));
        assert_eq!(ann.user_type, Some(user_type::REGULAR));
        assert_eq!(user(|_| {}, true).user_type, Some(user_type::ADMINISTRATOR));
        assert_eq!(user(|user| user.accessmode = Some(1), false).user_type, Some(user_type::ADMINISTRATOR));
        assert_eq!(user(|user| user.accessmode = Some(3), true).user_type, Some(user_type::SUPPORT));
        let application = user(|user| user.applicationid = Some(Uuid::from_u128(3)), true);
        assert_eq!(application.user_type, Some(user_type::APPLICATION));
        let system =
            user(|user| (user.fullname, user.azureactivedirectoryobjectid) = (Some("SYSTEM".to_owned()), None), true);
        assert_eq!(system.user_type, Some(user_type::SYSTEM));
        assert_eq!(
            user(|user| user.domainname = Some(String::new()), false).user_upn.as_deref(),
            Some("ann@example.com")
        );
    }
}
