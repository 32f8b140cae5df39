//! What the numbers in the column `action` of the audit table mean.
//!
//! Numbers and labels are those of Microsoft's reference of the table `audit`. The message is the one that the event
//! pipeline has for it, so that a row of the audit table and a webhook post of the same change have the same Operation.

use crate::event::Event;

/// A value of the column `action`.
#[derive(Debug)]
pub(super) struct Action {
    pub(super) number: i32,
    /// The platform's label, in English.
    pub(super) label: &'static str,
    /// The name in the event pipeline; for what no message stands for, a name of the same kind.
    pub(super) message: &'static str,
}

const fn action(number: i32, label: &'static str, message: &'static str) -> Action {
    Action { number, label, message }
}

#[rustfmt::skip]
const ACTIONS: [Action; 74] = [
    action(1, "Create", "Create"),
    action(2, "Update", "Update"),
    action(3, "Delete", "Delete"),
    action(4, "Activate", "SetState"),
    action(5, "Deactivate", "SetState"),
    action(11, "Cascade", "Cascade"),
    action(12, "Merge", "Merge"),
    action(13, "Assign", "Assign"),
    action(14, "Share", "GrantAccess"),
    action(15, "Retrieve", "Retrieve"),
    action(16, "Close", "Close"),
    action(17, "Cancel", "Cancel"),
    action(18, "Complete", "SetState"),
    action(20, "Resolve", "Close"),
    action(21, "Reopen", "SetState"),
    action(22, "Fulfill", "Fulfill"),
    action(23, "Paid", "SetState"),
    action(24, "Qualify", "QualifyLead"),
    action(25, "Disqualify", "SetState"),
    action(26, "Submit", "SetState"),
    action(27, "Reject", "SetState"),
    action(28, "Approve", "SetState"),
    action(29, "Invoice", "SetState"),
    action(30, "Hold", "SetState"),
    action(31, "Add Member", "AddMember"),
    action(32, "Remove Member", "RemoveMember"),
    action(33, "Associate Entities", "Associate"),
    action(34, "Disassociate Entities", "Disassociate"),
    action(35, "Add Members", "AddMembers"),
    action(36, "Remove Members", "RemoveMembers"),
    action(37, "Add Item", "AddItem"),
    action(38, "Remove Item", "RemoveItem"),
    action(39, "Add Substitute", "AddSubstituteProduct"),
    action(40, "Remove Substitute", "RemoveSubstituteProduct"),
    action(41, "Set State", "SetState"),
    action(42, "Renew", "Renew"),
    action(43, "Revise", "Revise"),
    action(44, "Win", "Win"),
    action(45, "Lose", "Lose"),
    action(46, "Internal Processing", "InternalProcessing"),
    action(47, "Reschedule", "Reschedule"),
    action(48, "Modify Share", "ModifyAccess"),
    action(49, "Unshare", "RevokeAccess"),
    action(50, "Book", "Book"),
    action(51, "Generate Quote From Opportunity", "GenerateQuoteFromOpportunity"),
    action(52, "Add To Queue", "AddToQueue"),
    action(53, "Assign Role To Team", "Associate"),
    action(54, "Remove Role From Team", "Disassociate"),
    action(55, "Assign Role To User", "Associate"),
    action(56, "Remove Role From User", "Disassociate"),
    action(57, "Add Privileges to Role", "AddPrivileges"),
    action(58, "Remove Privileges From Role", "RemovePrivilege"),
    action(59, "Replace Privileges In Role", "ReplacePrivileges"),
    action(60, "Import Mappings", "ImportMappingsImportMap"),
    action(61, "Clone", "Clone"),
    action(62, "Send Direct Email", "Send"),
    action(63, "Enabled for organization", "EnabledForOrganization"),
    action(64, "User Access via Web", "UserSignIn"),
    action(65, "User Access via Web Services", "UserSignIn"),
    action(100, "Delete Entity", "DeleteEntity"),
    action(101, "Delete Attribute", "DeleteAttribute"),
    action(102, "Audit Change at Entity Level", "AuditChangeAtEntityLevel"),
    action(103, "Audit Change at Attribute Level", "AuditChangeAtAttributeLevel"),
    action(104, "Audit Change at Org Level", "AuditChangeAtOrgLevel"),
    action(105, "Entity Audit Started", "EntityAuditStarted"),
    action(106, "Attribute Audit Started", "AttributeAuditStarted"),
    action(107, "Audit Enabled", "AuditEnabled"),
    action(108, "Entity Audit Stopped", "EntityAuditStopped"),
    action(109, "Attribute Audit Stopped", "AttributeAuditStopped"),
    action(110, "Audit Disabled", "AuditDisabled"),
    action(111, "Audit Log Deletion", "DeleteAuditData"),
    action(112, "User Access Audit Started", "UserAccessAuditStarted"),
    action(113, "User Access Audit Stopped", "UserAccessAuditStopped"),
    // What Unknown is, the column `operation` says.
    action(0, "Unknown", "Unknown"),
];

/// The condition of the actions that are read, whatever table they are about.
pub(super) const READ: &str = "action eq 31 or action eq 32 or action eq 35 or action eq 36 or \
    (action ge 53 and action le 60) or (action ge 63 and action le 65) or (action ge 100 and action le 113)";

pub(super) fn of(number: i32) -> Option<&'static Action> {
    ACTIONS.iter().find(|action| action.number == number)
}

impl Action {
    /// The relationship by which rows were linked or unlinked, where the action says so.
    pub(super) fn relationship(&self) -> Option<&'static str> {
        match self.number {
            53 | 54 => Some("teamroles_association"),
            55 | 56 => Some("systemuserroles_association"),
            _ => None,
        }
    }

    pub(super) fn is_sign_in(&self) -> bool {
        matches!(self.number, 64 | 65)
    }

    /// The message in the words of Dynamics 365's own log, where that is another than the pipeline's: the platform's
    /// label for changes of what is audited, which detection rules look for.
    pub(super) fn is_about_auditing(&self) -> bool {
        matches!(self.number, 102..=113)
    }

    /// The specification's row, where the action alone tells.
    pub(super) fn event(&self) -> Option<Event> {
        match self.number {
            31 | 32 | 35 | 36 | 53..=59 => Some(Event::TeamUserManagement),
            64 | 65 => Some(Event::SignIn),
            100 | 101 => Some(Event::AttributeDeletes),
            60 | 63 | 102..=113 => Some(Event::ConfigureInstance),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_there_once() {
        for action in &ACTIONS {
            assert_eq!(of(action.number).unwrap().label, action.label, "{}", action.number);
            assert!(action.message.bytes().all(|byte| byte.is_ascii_alphabetic()), "{}", action.message);
        }
    }

    #[test]
    fn what_is_read_by_its_number_has_a_row_of_the_specification() {
        for action in ACTIONS.iter().filter(|action| matches!(action.number, 31 | 32 | 35 | 36 | 53..=60 | 63.. )) {
            assert!(action.event().is_some(), "{}", action.number);
        }
    }
}
