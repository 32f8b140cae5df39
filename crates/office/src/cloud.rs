//! Microsoft's clouds, each with its own addresses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The cloud that a tenant is in.
///
/// Addresses of the interface are from Microsoft's reference of the Management Activity API; China's (operated by
/// 21Vianet), which that page leaves out, is from the client library that two of its engineers published. Addresses for
/// signing in are those of Entra's documentation on national clouds. Where one is wrong, a source's configuration
/// can name another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cloud {
    /// Microsoft 365 worldwide.
    #[default]
    Commercial,
    /// Government Community Cloud (USA).
    Gcc,
    /// Government Community Cloud High (USA).
    GccHigh,
    /// Department of Defense (USA).
    Dod,
    /// China, operated by 21Vianet.
    China,
}

impl Cloud {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Commercial, Self::Gcc, Self::GccHigh, Self::Dod, Self::China];

    /// Base URL of the interface, which is also the resource that a token is asked for.
    pub fn base_url(self) -> &'static str {
        match self {
            Self::Commercial => "https://manage.office.com",
            Self::Gcc => "https://manage-gcc.office.com",
            Self::GccHigh => "https://manage.office365.us",
            Self::Dod => "https://manage.protection.apps.mil",
            Self::China => "https://manage.office365.cn",
        }
    }

    /// Where applications of this cloud sign in.
    pub fn authority(self) -> &'static str {
        match self {
            Self::Commercial | Self::Gcc => "https://login.microsoftonline.com",
            Self::GccHigh | Self::Dod => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_has_an_interface_of_its_own_and_a_name_for_configurations() {
        let mut bases: Vec<_> = Cloud::ALL.iter().map(|cloud| cloud.base_url()).collect();
        bases.sort_unstable();
        bases.dedup();
        assert_eq!(bases.len(), Cloud::ALL.len());
        let names = serde_json::to_string(&Cloud::ALL).unwrap();
        assert_eq!(names, r#"["commercial","gcc","gcc-high","dod","china"]"#);
        assert_eq!(serde_json::from_str::<Cloud>("\"gcc-high\"").unwrap(), Cloud::GccHigh);
    }
}
