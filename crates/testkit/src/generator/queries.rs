//! The messages that read: one row, rows by the three forms of query, and exports.

use uuid::Uuid;

use crate::random::Random;

use super::messages::{Parts, Post, columns, name_number};
use super::wire::Wire;
use super::world::{self, Kind, Table};

pub(super) fn retrieve(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = world::any_table(random);
    let id = post.row_id(table.name, post.row);
    post.message = "Retrieve";
    post.set_target(table.name, id);
    parts.input.reference_pair("Target", table.name, id);
    parts.input.key("ColumnSet");
    parts.input.typed("ColumnSet");
    if random.per_mille(300) {
        parts.input.put(r#""AllColumns":true,"AttributeExpressions":[],"Columns":[]}}"#);
    } else {
        parts.input.put(r#""AllColumns":false,"AttributeExpressions":[],"Columns":["#);
        column_names(&mut parts.input, table);
        parts.input.put("]}}");
    }
    if random.per_mille(200) {
        post.set_parent();
        parts.parent_input.extend_from_slice(&parts.input);
    }
    let rest = post.size.saturating_sub(if post.has_parent { 3600 } else { 2000 });
    columns(post, parts, random, table, rest);
    parts.output.key("BusinessEntity");
    parts.output.typed("Entity");
    parts.output.put(r#""Attributes":["#);
    parts.output.extend_from_slice(&parts.columns);
    parts.output.id_pair(table.key, id);
    parts.output.entity_end(table.name, id);
    parts.output.put("}");
}

fn column_names(out: &mut Vec<u8>, table: &Table) {
    for (name, _) in std::iter::once(&table.primary).chain(table.columns.iter().take(5)) {
        out.separate();
        out.put("\"");
        out.put(name);
        out.put("\"");
    }
    out.separate();
    out.put("\"");
    out.put(table.key);
    out.put("\"");
}

/// The rows that a query answers with: in one of ten none, else one at least, and as many as the size of the body asks
/// for; some answers, and all of exports, are large.
fn answer(post: &Post, parts: &mut Parts, random: &mut Random, table: &'static Table, used: u64) {
    let is_large = post.enclosing.is_some() || random.per_mille(12);
    let is_empty = random.per_mille(100);
    let fixed = random.between(50, 251) as usize;
    let bytes = post.size.saturating_sub(used);
    parts.output.key("BusinessEntityCollection");
    parts.output.typed("EntityCollection");
    parts.output.put(r#""Entities":["#);
    let begin = parts.output.len() as u64;
    loop {
        let rows = parts.rows.len();
        let is_filled = rows > 0 && parts.output.len() as u64 - begin >= bytes;
        if if is_large { rows >= fixed } else { is_empty || is_filled } {
            break;
        }
        let id = post.row_id(table.name, (post.row + parts.rows.len() as u64 * 7) % super::ROWS as u64);
        let size = if is_large { 60 } else { random.between(100, 500) };
        columns(post, parts, random, table, size);
        if !parts.rows.is_empty() {
            parts.output.put(",");
        }
        parts.output.put(r#"{"Attributes":["#);
        parts.output.extend_from_slice(&parts.columns);
        parts.output.id_pair(table.key, id);
        parts.output.entity_end(table.name, id);
        parts.rows.push(id);
    }
    parts.output.put(r#"],"EntityName":""#);
    parts.output.put(table.name);
    parts.output.put(r#"","MinActiveRowVersion":null,"MoreRecords":"#);
    parts.output.put(if is_large { "true" } else { "false" });
    parts.output.put(r#","PagingCookie":null,"TotalRecordCount":"#);
    parts.output.number(parts.rows.len() as u64);
    parts.output.put(r#","TotalRecordCountLimitExceeded":false}}"#);
}

fn start_query(post: &mut Post, random: &mut Random) -> &'static Table {
    let table = world::any_table(random);
    post.message = "RetrieveMultiple";
    post.primary_entity = table.name;
    table
}

fn end_query(post: &mut Post, parts: &mut Parts, random: &mut Random, table: &'static Table) {
    let mut used = 1600 + parts.input.len() as u64;
    if random.per_mille(200) {
        post.set_parent();
        parts.parent_input.extend_from_slice(&parts.input);
        used += 1300 + parts.input.len() as u64;
    }
    answer(post, parts, random, table, used);
}

pub(super) fn query_expression(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = start_query(post, random);
    world::text(&mut parts.scratch, random, table.primary.1);
    let Parts { input: out, scratch, .. } = &mut *parts;
    out.key("Query");
    out.typed("QueryExpression");
    out.put(r#""ColumnSet":{"AllColumns":false,"AttributeExpressions":[],"Columns":["#);
    column_names(out, table);
    out.put(
        r#"]},"Criteria":{"Conditions":[{"AttributeName":"statecode","Operator":0,"Values":[0],"EntityName":null}"#,
    );
    match random.below(4) {
        0 => out.put(r#",{"AttributeName":"ownerid","Operator":41,"Values":[],"EntityName":null}"#),
        1 => {
            // "like" with a name: the conditions of quick find carry what people typed.
            out.put(r#",{"AttributeName":""#);
            out.put(table.primary.0);
            out.put(r#"","Operator":6,"Values":["#);
            scratch.push('%');
            out.text(scratch);
            out.put(r#"],"EntityName":null}"#);
        }
        2 => {
            out.put(r#",{"AttributeName":"modifiedon","Operator":33,"Values":["#);
            out.number(random.between(1, 90));
            out.put(r#"],"EntityName":null},{"AttributeName":"statuscode","Operator":8,"Values":[1,2,5],"EntityName":null}"#);
        }
        _ => {}
    }
    out.put(r#"],"FilterOperator":0,"Filters":["#);
    if random.per_mille(200) {
        out.put(r#"{"Conditions":[{"AttributeName":"createdon","Operator":2,"Values":["#);
        out.date(post.created / 86_400_000 * 86_400_000);
        out.put(r#"],"EntityName":null},{"AttributeName":"createdby","Operator":42,"Values":[],"EntityName":null}]"#);
        out.put(r#","FilterOperator":1,"Filters":[]}"#);
    }
    out.put(r#"]},"Distinct":false,"EntityName":""#);
    out.put(table.name);
    out.put(r#"","LinkEntities":[],"Orders":[{"Alias":null,"AttributeName":""#);
    out.put(table.primary.0);
    out.put(r#"","OrderType":0}],"PageInfo":{"Count":50,"PageNumber":1,"PagingCookie":null,"#);
    out.put(r#""ReturnTotalRecordCount":true},"NoLock":false}}"#);
    end_query(post, parts, random, table);
}

/// FetchXML as the grids of model-driven apps send it.
fn fetch(parts: &mut Parts, random: &mut Random, table: &Table, view: Uuid) {
    let Parts { fetch, scratch, .. } = parts;
    fetch.clear();
    fetch.push_str(r#"<fetch version="1.0" output-format="xml-platform" mapping="logical" savedqueryid=""#);
    let mut id = [0; 36];
    fetch.push_str(view.hyphenated().encode_lower(&mut id));
    fetch.push_str(r#"" no-lock="false" distinct="false" page="1" count="50"><entity name=""#);
    fetch.push_str(table.name);
    fetch.push_str(r#""><attribute name="statecode" />"#);
    for (name, _) in std::iter::once(&table.primary).chain(table.columns.iter().take(3)) {
        fetch.push_str(r#"<attribute name=""#);
        fetch.push_str(name);
        fetch.push_str(r#"" />"#);
    }
    fetch.push_str(r#"<order attribute=""#);
    fetch.push_str(table.primary.0);
    fetch.push_str(
        r#"" descending="false" /><filter type="and"><condition attribute="ownerid" operator="eq-userid" />"#,
    );
    fetch.push_str(r#"<condition attribute="statecode" operator="eq" value="0" />"#);
    if random.per_mille(300) {
        world::text(scratch, random, Kind::LastName);
        fetch.push_str(r#"<condition attribute=""#);
        fetch.push_str(table.primary.0);
        fetch.push_str(r#"" operator="like" value=""#);
        // No last name has a character that XML would need escaped here.
        fetch.push_str(scratch);
        fetch.push_str(r#"%" />"#);
    }
    fetch.push_str("</filter></entity></fetch>");
}

fn put_fetch_query(parts: &mut Parts) {
    parts.input.key("Query");
    parts.input.typed("FetchExpression");
    parts.input.put(r#""Query":"#);
    parts.input.text(&parts.fetch);
    parts.input.put("}}");
}

pub(super) fn fetch_expression(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = start_query(post, random);
    fetch(parts, random, table, post.row_id("savedquery", name_number(table.name)));
    put_fetch_query(parts);
    end_query(post, parts, random, table);
}

pub(super) fn query_by_attribute(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let table = start_query(post, random);
    world::text(&mut parts.scratch, random, table.primary.1);
    let Parts { input: out, scratch, .. } = &mut *parts;
    out.key("Query");
    out.typed("QueryByAttribute");
    out.put(r#""Attributes":[""#);
    out.put(table.primary.0);
    out.put(r#"","statecode"],"ColumnSet":{"AllColumns":false,"AttributeExpressions":[],"Columns":["#);
    column_names(out, table);
    out.put(r#"]},"EntityName":""#);
    out.put(table.name);
    out.put(r#"","Orders":[],"PageInfo":null,"Values":["#);
    out.text(scratch);
    out.put(r#",0],"TopCount":null}}"#);
    end_query(post, parts, random, table);
}

/// What the two halves of an export share; drawn alike for both, from the stream that they share.
fn export(post: &mut Post, parts: &mut Parts, random: &mut Random) -> (&'static Table, Uuid) {
    let table = world::any_table(random);
    let view = post.row_id("savedquery", name_number(table.name));
    fetch(parts, random, table, view);
    (table, view)
}

fn export_parameters(out: &mut Vec<u8>, fetch: &str, table: &Table, view: Uuid) {
    out.reference_pair("View", "savedquery", view);
    out.text_pair("FetchXml", fetch);
    out.key("LayoutXml");
    out.put(
        r#""<grid name=\"resultset\" object=\"1\" select=\"1\" preview=\"1\" icon=\"1\"><row name=\"result\" id=\""#,
    );
    out.put(table.key);
    out.put(r#"\"><cell name=\""#);
    out.put(table.primary.0);
    out.put(r#"\" width=\"300\" \/><\/row><\/grid>"}"#);
    out.text_pair("QueryApi", "");
}

pub(super) fn query_of_export(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let (table, view) = export(post, parts, random);
    post.message = "RetrieveMultiple";
    post.primary_entity = table.name;
    post.depth = 2;
    post.has_parent = true;
    post.parent_message = "ExportToExcel";
    post.enclosing = Some("ExportToExcel");
    put_fetch_query(parts);
    let Parts { parent_input, fetch, .. } = &mut *parts;
    export_parameters(parent_input, fetch, table, view);
    parts.parent_shared.pair("IsAutoTransact", "true");
    let used = 3600 + parts.fetch.len() as u64 * 2;
    answer(post, parts, random, table, used);
}

pub(super) fn export_to_excel(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    let (table, view) = export(post, parts, random);
    post.message = "ExportToExcel";
    let Parts { input, fetch, .. } = &mut *parts;
    export_parameters(input, fetch, table, view);
}

pub(super) fn export_to_word(post: &mut Post, parts: &mut Parts, random: &mut Random) {
    // Type code 1 is the account.
    let id = post.row_id("account", post.row);
    post.message = "ExportWordDocument";
    parts.rows.push(id);
    parts.input.pair("EntityTypeCode", "1");
    parts.input.reference_pair(
        "SelectedTemplate",
        "documenttemplate",
        post.row_id("documenttemplate", random.below(20)),
    );
    parts.input.key("SelectedRecords");
    parts.input.text(&format!("[\"{{{}}}\"]", id.hyphenated()));
    parts.input.put("}");
}
