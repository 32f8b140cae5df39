//! Users from a CSV file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use actlog_dataverse::directory::{MAXIMUM_TEXT, MAXIMUM_USERS, User, user_type};
use uuid::Uuid;

/// Largest file that is read: more than the most users with names of usual length take.
const MAXIMUM_FILE: u64 = 256 << 20;

/// Reads the file, on a blocking thread.
///
/// # Errors
/// What is wrong with it, with the line.
pub(crate) async fn read(path: PathBuf) -> Result<BTreeMap<Uuid, User>, String> {
    let reading = tokio::task::spawn_blocking(move || {
        read_blocking(&path).map_err(|error| format!("{}: {error}", path.display()))
    });
    reading.await.map_err(|error| error.to_string())?
}

fn read_blocking(path: &Path) -> Result<BTreeMap<Uuid, User>, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length > MAXIMUM_FILE {
        return Err(format!("{length} bytes are more than the {MAXIMUM_FILE} that are read"));
    }
    parse(file)
}

/// The users of a CSV text.
fn parse(text: impl std::io::Read) -> Result<BTreeMap<Uuid, User>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let column =
        |name: &str| header.iter().position(|column| column.trim_start_matches('\u{feff}').eq_ignore_ascii_case(name));
    let Some(id_column) = column("SystemUserId") else {
        let found = header.iter().collect::<Vec<_>>().join(", ");
        return Err(format!("line 1: the column SystemUserId is missing; there are {found}"));
    };
    let columns = [column("UserUpn"), column("UserKey"), column("UserType")];
    let mut users = BTreeMap::new();
    for row in reader.records() {
        let row = row.map_err(|error| error.to_string())?;
        let line = row.position().map_or(0, csv::Position::line);
        let id = row.get(id_column).unwrap_or_default();
        let id: Uuid = id.parse().map_err(|_| format!("line {line}: the SystemUserId {id:?} is no GUID"))?;
        let [upn, key, kind] =
            columns.map(|column| column.and_then(|column| row.get(column)).filter(|text| !text.is_empty()));
        if let Some(text) = [upn, key].into_iter().flatten().find(|text| text.len() > MAXIMUM_TEXT) {
            return Err(format!("line {line}: {} bytes are too many for a name or key", text.len()));
        }
        let user = User {
            user_upn: upn.map(Into::into),
            user_key: key.map(Into::into),
            user_type: kind.map(parse_type).transpose().map_err(|error| format!("line {line}: {error}"))?,
        };
        if users.insert(id, user).is_some() {
            return Err(format!("line {line}: the user {id} is listed twice"));
        }
        if users.len() > MAXIMUM_USERS {
            return Err(format!("line {line}: more than {MAXIMUM_USERS} users"));
        }
    }
    Ok(users)
}

fn parse_type(text: &str) -> Result<i32, String> {
    const NAMES: [(&str, i32); 5] = [
        ("Regular", user_type::REGULAR),
        ("Admin", user_type::ADMINISTRATOR),
        ("Support", user_type::SUPPORT),
        ("System", user_type::SYSTEM),
        ("Application", user_type::APPLICATION),
    ];
    let named = NAMES.iter().find(|(name, number)| name.eq_ignore_ascii_case(text) || text.parse() == Ok(*number));
    named.map(|(_, number)| *number).ok_or_else(|| {
        format!("the UserType {text:?} is none of Regular (0), Admin (2), Support (3), System (4) and Application (5)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Uuid = Uuid::from_u128(0x6f0b1c7e_2d1c_4f9a_9a55_0f0c2f6f5d11);

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let text = "\u{feff}usertype, UserUpn ,FullName,SystemUserId\nadmin,ann@contoso.com,\"Ann, B\",{6F0B1C7E-2D1C-4F9A-9A55-0F0C2F6F5D11}\n";
        let users = parse(text.as_bytes()).unwrap();
        let ann = User { user_upn: Some("ann@contoso.com".into()), user_key: None, user_type: Some(2) };
        assert_eq!(users, BTreeMap::from([(ANN, ann)]));
    }

    #[test]
    fn an_error_names_the_line_and_what_would_be_right() {
        for (text, expected) in [
            ("Id,Name\n", "line 1: the column SystemUserId is missing; there are Id, Name"),
            ("SystemUserId\nx\n", "line 2: the SystemUserId \"x\" is no GUID"),
            ("SystemUserId,UserType\n6f0b1c7e-2d1c-4f9a-9a55-0f0c2f6f5d11,7\n", "Application (5)"),
            (
                "SystemUserId\n6f0b1c7e-2d1c-4f9a-9a55-0f0c2f6f5d11\n6f0b1c7e-2d1c-4f9a-9a55-0f0c2f6f5d11\n",
                "line 3: the user 6f0b1c7e-2d1c-4f9a-9a55-0f0c2f6f5d11 is listed twice",
            ),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
