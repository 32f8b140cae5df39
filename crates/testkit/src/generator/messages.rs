//! The messages of the traffic: how often each comes, and what its parameters are.

use uuid::Uuid;

use crate::random::{Random, id_of};

use super::purpose;
use super::queries::{
    export_to_excel, export_to_word, fetch_expression, query_by_attribute, query_expression, query_of_export, retrieve,
};
use super::wire::{NONE, Wire};
use super::world::{self, Kind, Table};

/// One post while it is being made.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) seed: u64,
    pub(super) created: u64,
    pub(super) user_id: Uuid,
    pub(super) user_object_id: Uuid,
    pub(super) initiator: u64,
    pub(super) initiating_user_id: Uuid,
    pub(super) initiating_user_object_id: Uuid,
    pub(super) business_unit_id: Uuid,
    pub(super) correlation_id: Uuid,
    pub(super) operation_id: Uuid,
    pub(super) request_id: Uuid,
    pub(super) row: u64,
    /// Bytes that the body should have, about.
    pub(super) size: u64,
    pub(super) is_async: bool,
    pub(super) depth: u64,
    pub(super) message: &'static str,
    pub(super) primary_entity: &'static str,
    pub(super) primary_entity_id: Uuid,
    pub(super) target: Option<(&'static str, Uuid)>,
    pub(super) enclosing: Option<&'static str>,
    pub(super) parent_message: &'static str,
    pub(super) parent_entity: &'static str,
    pub(super) has_parent: bool,
}

/// The parts of a body that differ by message: members of arrays, without the brackets. The buffers are used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    pub(super) shared: Vec<u8>,
    pub(super) parent_input: Vec<u8>,
    pub(super) parent_shared: Vec<u8>,
    pub(super) pre_images: Vec<u8>,
    pub(super) post_images: Vec<u8>,
    pub(super) rows: Vec<Uuid>,
    pub(super) columns: Vec<u8>,
    pub(super) scratch: String,
    pub(super) primary: String,
    pub(super) fetch: String,
}

impl Parts {
    pub(super) fn clear(&mut self) {
        let Self { input, output, shared, parent_input, parent_shared, pre_images, post_images, columns, .. } = self;
        for part in [input, output, shared, parent_input, parent_shared, pre_images, post_images, columns] {
            part.clear();
        }
        self.rows.clear();
    }
}

/// How a message is filled, and how often it comes in 10,000.
type Message = (u64, fn(&mut Post, &mut Parts, &mut Random));

const MESSAGES: [Message; 22] = [
    (3000, retrieve),
    (1900, query_expression),
    (1100, fetch_expression),
    (400, query_by_attribute),
    (1900, update),
    (800, create),
    (150, delete),
    (120, associate),
    (120, assign),
    (140, set_state),
    (40, win),
    (30, lose),
    (40, qualify_lead),
    (50, grant_access),
    (30, revoke_access),
    (30, add_members),
    (30, add_member),
    (20, publish),
    (10, publish_all),
    (30, export_to_word),
    (20, send),
    (40, who_am_i),
];

/// A number for a name, for ids.
pub(super) fn name_number(name: &str) -> u64 {
    name.bytes().fold(7, |number, byte| number * 31 % (1 << 40) + u64::from(byte))
}

impl Post {
    /// Id of a row.
    pub(super) fn row_id(&self, table: &str, row: u64) -> Uuid {
        id_of(self.seed, purpose::TABLE + name_number(table), row)
    }

    pub(super) fn set_target(&mut self, table: &'static str, id: Uuid) {
        self.primary_entity = table;
        self.primary_entity_id = id;
        self.target = Some((table, id));
    }

    /// The enclosing context of stage 30 is of the same operation.
    pub(super) fn set_parent(&mut self) {
        self.has_parent = true;
        self.parent_message = self.message;
        self.parent_entity = self.primary_entity;
    }

    /// Makes it an asynchronous post, which has an operation of its own.
    pub(super) fn set_async(&mut self, random: &mut Random) {
        self.is_async = true;
        self.operation_id = random.uuid();
    }
}

/// Chooses a message and writes its parts. `half` is set for the halves of an export to Excel: true for the query.
pub(super) fn fill(post: &mut Post, parts: &mut Parts, half: Option<bool>, random: &mut Random) {
    parts.shared.pair("IsAutoTransact", "true");
    match half {
        Some(true) => return query_of_export(post, parts, random),
        Some(false) => return export_to_excel(post, parts, random),
        None => {}
    }
    let total = MESSAGES.iter().map(|(weight, _)| weight).sum();
    let mut drawn = random.below(total);
    for (weight, message) in MESSAGES {
        match drawn.checked_sub(weight) {
            Some(rest) => drawn = rest,
            None => return message(post, parts, random),
        }
    }
}

/// Adds columns of a table until there are so many bytes; at least two.
pub(super) fn columns(post: &Post, parts: &mut Parts, random: &mut Random, table: &Table, bytes: u64) {
    let Parts { columns, scratch, primary, .. } = parts;
    columns.clear();
    world::text(primary, random, table.primary.1);
    columns.text_pair(table.primary.0, primary);
    let first = random.place(table.columns.len());
    let mut count = 0;
    while count < 1 || (columns.len() as u64) < bytes {
        let notes = count / table.columns.len();
        let (name, kind) = table.columns[(first + count) % table.columns.len()];
        columns.separate();
        columns.put(r#"{"key":""#);
        if notes == 0 {
            columns.put(name);
        } else {
            // The table has no more columns; the organisation has added notes to it.
            columns.put("new_note");
            columns.number(count as u64);
        }
        columns.put(r#"","value":"#);
        let kind = if notes == 0 { kind } else { Kind::Memo };
        if notes == 0 && random.per_mille(30) {
            columns.put("null");
        } else {
            world::value(columns, scratch, random, kind, post.created, |table, row| post.row_id(table, row));
        }
        columns.put("}");
        count += 1;
    }
}

/// A parameter `Target` with an entity that has the columns that were made, and what `added` adds.
fn target_entity(out: &mut Vec<u8>, columns: &[u8], table: &Table, id: Uuid, added: impl FnOnce(&mut Vec<u8>)) {
    out.key("Target");
    out.typed("Entity");
    out.put(r#""Attributes":["#);
    out.extend_from_slice(columns);
    added(out);
    out.entity_end(table.name, id);
    out.put("}");
}

/// The image that asynchronous steps carry: key and primary name of the row.
fn primary_name_image(out: &mut Vec<u8>, name: &str, table: &Table, id: Uuid) {
    out.put(r#"{"key":"AsynchronousStepPrimaryName","value":{"Attributes":["#);
    out.text_pair(table.primary.0, name);
    out.id_pair(table.key, id);
    out.entity_end(table.name, id);
    out.put("}");
}

fn create(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = world::any_table(random);
    // New rows have ids of their own.
    let id = random.uuid();
    post.message = "Create";
    post.set_target(table.name, id);
    post.set_parent();
    if random.per_mille(600) {
        post.set_async(random);
        post.request_id = random.uuid();
    }
    columns(post, parts, random, table, post.size.saturating_sub(3900) / 2);
    let (created, user, unit) = (post.created, post.user_id, post.business_unit_id);
    target_entity(&mut parts.input, &parts.columns, table, id, |out| {
        out.id_pair(table.key, id);
        out.key("statecode");
        out.option(0);
        out.put("}");
        for name in ["ownerid", "createdby", "modifiedby", "owninguser"] {
            out.reference_pair(name, "systemuser", user);
        }
        out.reference_pair("owningbusinessunit", "businessunit", unit);
        for name in ["createdon", "modifiedon"] {
            out.key(name);
            out.date(created / 1000 * 1000);
            out.put("}");
        }
        out.pair("modifiedonbehalfby", "null");
        out.pair("timezoneruleversionnumber", "4");
    });
    target_entity(&mut parts.parent_input, &parts.columns, table, id, |out| out.id_pair(table.key, id));
    parts.input.pair("SuppressDuplicateDetection", "false");
    if !post.is_async {
        parts.output.id_pair("id", id);
        parts.shared.text_pair("x-ms-app-name", "msdynce_saleshub");
    } else {
        primary_name_image(&mut parts.post_images, &parts.primary, table, id);
    }
    parts.shared.pair("DefaultsAddedFlag", "true");
    changed_types(&mut parts.parent_shared, table.name);
}

fn update(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = world::any_table(random);
    let id = post.row_id(table.name, post.row);
    post.message = "Update";
    post.set_target(table.name, id);
    post.set_parent();
    if random.per_mille(600) {
        post.set_async(random);
        post.request_id = random.uuid();
    }
    columns(post, parts, random, table, post.size.saturating_sub(2900) / 2);
    let (created, user) = (post.created, post.user_id);
    target_entity(&mut parts.input, &parts.columns, table, id, |out| {
        out.id_pair(table.key, id);
        out.key("modifiedon");
        out.date(created / 1000 * 1000);
        out.put("}");
        out.reference_pair("modifiedby", "systemuser", user);
        out.pair("modifiedonbehalfby", "null");
    });
    target_entity(&mut parts.parent_input, &parts.columns, table, id, |out| out.id_pair(table.key, id));
    if post.is_async {
        primary_name_image(&mut parts.post_images, &parts.primary, table, id);
    } else {
        parts.input.text_pair("x-ms-app-name", "msdynce_saleshub");
    }
    changed_types(&mut parts.parent_shared, table.name);
}

fn changed_types(out: &mut Vec<u8>, table: &str) {
    out.key("ChangedEntityTypes");
    out.put(r##"[{"__type":"KeyValuePairOfstringstring:#System.Collections.Generic","key":""##);
    out.put(table);
    out.put(r#"","value":"Update"}]}"#);
}

fn delete(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = world::any_table(random);
    let id = post.row_id(table.name, post.row);
    post.message = "Delete";
    post.set_target(table.name, id);
    post.set_parent();
    post.set_async(random);
    post.request_id = random.uuid();
    parts.input.reference_pair("Target", table.name, id);
    parts.parent_input.extend_from_slice(&parts.input);
    world::text(&mut parts.primary, random, table.primary.1);
    primary_name_image(&mut parts.pre_images, &parts.primary, table, id);
    changed_types(&mut parts.parent_shared, "activitypointer");
}

fn associate(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    post.message = if random.per_mille(700) { "Associate" } else { "Disassociate" };
    let user = post.row_id("systemuser", random.below(5000));
    post.target = Some(("systemuser", user));
    parts.input.reference_pair("Target", "systemuser", user);
    parts.input.key("Relationship");
    parts.input.typed("Relationship");
    parts.input.put(r#""PrimaryEntityRole":null,"SchemaName":"systemuserroles_association"}}"#);
    parts.input.key("RelatedEntities");
    parts.input.put("[");
    parts.input.reference("role", post.row_id("role", random.below(40)));
    parts.input.put("]}");
}

fn assign(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = world::any_table(random);
    let id = post.row_id(table.name, post.row);
    post.message = "Assign";
    post.set_target(table.name, id);
    post.set_parent();
    post.set_async(random);
    post.request_id = random.uuid();
    parts.input.reference_pair("Target", table.name, id);
    parts.input.reference_pair("Assignee", "team", post.row_id("team", random.below(60)));
    parts.parent_input.extend_from_slice(&parts.input);
    world::text(&mut parts.primary, random, table.primary.1);
    primary_name_image(&mut parts.pre_images, &parts.primary, table, id);
}

fn set_state(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = world::any_table(random);
    let id = post.row_id(table.name, post.row);
    post.message = "SetState";
    post.set_target(table.name, id);
    parts.input.reference_pair("EntityMoniker", table.name, id);
    option_pair(&mut parts.input, "State", random.below(2));
    option_pair(&mut parts.input, "Status", random.between(1, 6));
}

fn option_pair(out: &mut Vec<u8>, name: &str, value: u64) {
    out.key(name);
    out.option(value);
    out.put("}");
}

fn win(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    close_opportunity(post, parts, random, "Win", "Won Opportunity", 3);
}

fn lose(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    close_opportunity(post, parts, random, "Lose", "Lost Opportunity", 4);
}

fn close_opportunity(
    post: &mut Post,
    parts: &mut Parts,
    random: &mut Random,
    message: &'static str,
    subject: &str,
    status: u64,
) {
    let id = post.row_id("opportunity", post.row);
    post.message = message;
    post.primary_entity = "opportunity";
    post.target = Some(("opportunity", id));
    let out = &mut parts.input;
    out.key("OpportunityClose");
    out.typed("Entity");
    out.put(r#""Attributes":["#);
    out.text_pair("subject", subject);
    out.reference_pair("opportunityid", "opportunity", id);
    out.key("actualrevenue");
    out.typed("Money");
    out.put(r#""Value":"#);
    out.number(random.below(1_000_000));
    out.put(".0000}}");
    out.key("actualend");
    out.date(post.created / 86_400_000 * 86_400_000);
    out.put("}");
    out.entity_end("opportunityclose", NONE);
    out.put("}");
    option_pair(out, "Status", status);
}

fn qualify_lead(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let id = post.row_id("lead", post.row);
    post.message = "QualifyLead";
    post.set_target("lead", id);
    parts.input.reference_pair("LeadId", "lead", id);
    parts.input.pair("CreateAccount", "false");
    parts.input.pair("CreateContact", "true");
    parts.input.pair("CreateOpportunity", "true");
    option_pair(&mut parts.input, "Status", 3);
    parts.output.key("CreatedEntities");
    parts.output.put("[");
    for (place, table) in ["contact", "opportunity"].into_iter().enumerate() {
        if place > 0 {
            parts.output.put(",");
        }
        parts.output.reference(table, random.uuid());
    }
    parts.output.put("]}");
}

fn grant_access(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = world::any_table(random);
    let id = post.row_id(table.name, post.row);
    post.message = if random.per_mille(700) { "GrantAccess" } else { "ModifyAccess" };
    post.set_target(table.name, id);
    parts.input.reference_pair("Target", table.name, id);
    parts.input.key("PrincipalAccess");
    parts.input.typed_crm("PrincipalAccess");
    parts.input.put(r#""AccessMask":"#);
    parts.input.number(random.pick(&[1, 3, 19, 524_311]));
    parts.input.put(r#","Principal":{"#);
    parts.input.reference_members("systemuser", post.row_id("systemuser", random.below(5000)));
    parts.input.put("}}}");
}

fn revoke_access(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = world::any_table(random);
    let id = post.row_id(table.name, post.row);
    post.message = "RevokeAccess";
    post.set_target(table.name, id);
    parts.input.reference_pair("Target", table.name, id);
    parts.input.reference_pair("Revokee", "team", post.row_id("team", random.below(60)));
}

fn add_members(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let id = post.row_id("team", random.below(60));
    post.message = "AddMembers";
    post.set_target("team", id);
    parts.input.id_pair("TeamId", id);
    parts.input.key("MemberIds");
    parts.input.put("[");
    for _ in 0..random.between(1, 6) {
        parts.input.separate();
        parts.input.id(post.row_id("systemuser", random.below(5000)));
    }
    parts.input.put("]}");
}

fn add_member(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let id = post.row_id("list", random.below(200));
    post.message = "AddMember";
    post.set_target("list", id);
    parts.input.id_pair("ListId", id);
    parts.input.id_pair("EntityId", post.row_id("contact", post.row));
}

fn publish(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = world::any_table(random);
    post.message = "Publish";
    parts.input.key("ParameterXml");
    parts.input.put("\"<importexportxml><entities><entity>");
    parts.input.put(table.name);
    parts.input.put(r#"<\/entity><\/entities><\/importexportxml>"}"#);
}

fn publish_all(post: &mut Post, _: &mut Parts, _: &mut Random) {
    post.message = "PublishAll";
}

fn send(post: &mut Post, parts: &mut Parts, _: &mut Random) {
    let id = post.row_id("email", post.row);
    post.message = "Send";
    post.set_target("email", id);
    parts.input.id_pair("EmailId", id);
    parts.input.pair("IssueSend", "true");
    parts.input.text_pair("TrackingToken", "");
}

/// One of the messages that the specification does not log.
fn who_am_i(post: &mut Post, parts: &mut Parts, _: &mut Random) {
    post.message = "WhoAmI";
    parts.output.id_pair("UserId", post.user_id);
    parts.output.id_pair("BusinessUnitId", post.business_unit_id);
}
