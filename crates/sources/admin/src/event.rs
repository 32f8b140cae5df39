//! The events that the source knows, by the specification's rows.

use serde::Deserialize;

/// An event of administration, support, report servers, or signing in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Event {
    PublishingCustomizations,
    AttributeDeletes,
    TeamUserManagement,
    ConfigureInstance,
    BackupAndRestore,
    ManageApplications,
    SupportCrud,
    AdminActivities,
    BackendCommands,
    ReportViewed,
    ReportViewerExport,
    ReportViewerRenderImage,
    SignIn,
    SignOut,
}

impl Event {
    /// The text of the specification's row, for `Extra.AdminEvent`. Signing in and out have none: they are known by
    /// their entity.
    pub(crate) fn row(self) -> Option<&'static str> {
        Some(match self {
            Self::PublishingCustomizations => "Publishing customizations",
            Self::AttributeDeletes => "Attribute deletes",
            Self::TeamUserManagement => "Team, user management",
            Self::ConfigureInstance => "Configure instance",
            Self::BackupAndRestore => "Backup and restore",
            Self::ManageApplications => "Manage applications",
            Self::SupportCrud => "All support CRUD activities",
            Self::AdminActivities => "Admin activities",
            Self::BackendCommands => "Backend commands",
            Self::ReportViewed => "Report Viewed",
            Self::ReportViewerExport => "Report Viewer Export",
            Self::ReportViewerRenderImage => "Report Viewer Render Image",
            Self::SignIn | Self::SignOut => return None,
        })
    }

    /// What happened, where the event's name says all there is to say.
    pub(crate) fn operation(self) -> Option<&'static str> {
        Some(match self {
            Self::ReportViewed => "ReportViewed",
            Self::ReportViewerExport => "ReportViewerExport",
            Self::ReportViewerRenderImage => "ReportViewerRenderImage",
            Self::SignIn => SIGN_IN,
            Self::SignOut => "UserSignOut",
            _ => return None,
        })
    }

    /// The entity that the event is about, where it is always the same.
    pub(crate) fn entity(self) -> Option<&'static str> {
        match self {
            Self::ReportViewed | Self::ReportViewerExport | Self::ReportViewerRenderImage => Some("report"),
            Self::SignIn | Self::SignOut => Some(SIGN_IN_ENTITY),
            _ => None,
        }
    }

    /// Whether the event is one of the tenant, which happens in the admin centre and not in Dataverse.
    pub(crate) fn is_of_admin_center(self) -> bool {
        matches!(self, Self::BackupAndRestore | Self::ManageApplications | Self::AdminActivities)
    }

    /// Whether Microsoft's support engineers do it.
    pub(crate) fn is_of_support(self) -> bool {
        matches!(self, Self::SupportCrud | Self::BackendCommands)
    }
}

/// The member of Extra that holds [`Event::row`].
pub(crate) const ADMIN_EVENT: &str = "AdminEvent";
/// The operation of a sign-in, in the words of the detection rules for Dynamics 365.
pub(crate) const SIGN_IN: &str = "UserSignIn";
/// The entity under which Dynamics 365 logs sign-ins.
pub(crate) const SIGN_IN_ENTITY: &str = "authentication";
