//! `customizations.xml` and unpacked `Entity.xml`, streamed.

use std::io::{self, BufRead, Read};

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::{
    AuditFlags, CustomizationsError, EntityFlags, MAX_COLUMNS, MAX_DEPTH, MAX_ENTITIES, MAX_NAME_BYTES,
    MAX_PIECE_BYTES, ManagedFlag,
};

/// How many attributes of an element are looked at. Looking for doubles among them takes the square of their number.
const MAX_ATTRIBUTES: usize = 64;

/// Reads flags into `flags`; `limit` is how many bytes the XML may have at most.
pub(super) fn read(input: impl BufRead, limit: u64, flags: &mut AuditFlags) -> Result<(), CustomizationsError> {
    let mut reader = Reader::from_reader(Bounded { input, left: limit, piece: MAX_PIECE_BYTES });
    let mut document =
        Document { flags, open: Vec::new(), root: None, entity: None, column: None, text: None, columns: 0 };
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        reader.get_mut().piece = MAX_PIECE_BYTES;
        let event = reader.read_event_into(&mut buffer).map_err(|error| match error {
            quick_xml::Error::Io(error) => error.to_string(),
            error => error.to_string(),
        });
        let end = matches!(event, Ok(Event::Eof));
        let hostile = matches!(event, Ok(Event::DocType(_)));
        event.and_then(|event| document.event(&event)).map_err(|reason| match document.root {
            None if !hostile => CustomizationsError::Unknown(reason),
            _ => CustomizationsError::Xml { position: reader.buffer_position(), reason },
        })?;
        if end {
            return Ok(());
        }
    }
}

/// A reader that ends with an error after so many bytes, in all and for one piece.
struct Bounded<R> {
    input: R,
    left: u64,
    piece: u64,
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let (left, piece) = (self.left, self.piece);
        let available = self.input.fill_buf()?;
        if !available.is_empty() && left == 0 {
            return Err(io::Error::other("it is longer than allowed, or than the solution file says"));
        }
        if !available.is_empty() && piece == 0 {
            return Err(io::Error::other(format!("one text or tag is longer than {MAX_PIECE_BYTES} bytes")));
        }
        let length = available.len().min(usize::try_from(left.min(piece)).unwrap_or(usize::MAX));
        Ok(&available[..length])
    }

    fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
        self.left = self.left.saturating_sub(amount as u64);
        self.piece = self.piece.saturating_sub(amount as u64);
    }
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// What an open element is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ImportExportXml,
    Entities,
    Entity,
    EntityInfo,
    /// `entity`: where the flags are.
    Table,
    Columns,
    Column,
    /// An element of an entity or a column whose text counts.
    Value(Field),
    /// Of no concern, with all that is in it.
    Other,
}

/// Which text of an entity or a column counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    LogicalName,
    Name,
    Audit,
    Retrieve,
    RetrieveMultiple,
    CanModifyAudit,
}

/// A column while it is read: its names, the better ones first, and its flag.
#[derive(Default)]
struct Column {
    logical: Option<String>,
    name: Option<String>,
    physical: Option<String>,
    audit: ManagedFlag,
}

struct Document<'a> {
    flags: &'a mut AuditFlags,
    open: Vec<Kind>,
    /// The root element, once it was there.
    root: Option<Kind>,
    entity: Option<(String, EntityFlags)>,
    column: Option<Column>,
    /// The text of the open value.
    text: Option<String>,
    columns: usize,
}

impl Document<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Start(element) => self.start(element),
            Event::Empty(element) => {
                self.start(element)?;
                self.end()
            }
            Event::End(_) => self.end(),
            Event::Text(text) if self.open.is_empty() && !text.trim_ascii().is_empty() => {
                Err("there is text outside of its root element".to_owned())
            }
            Event::Text(text) => self.text(&text.xml10_content()),
            Event::CData(text) => self.text(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content();
                match reference.resolve_char_ref().map_err(|error| error.to_string())? {
                    Some(character) => self.text(character.encode_utf8(&mut [0; 4])),
                    None => match resolve_predefined_entity(&name) {
                        Some(text) => self.text(text),
                        None => Err(format!("it refers to the unknown entity {:?}", clipped(&name))),
                    },
                }
            }
            Event::DocType(_) => Err("it has a document type; no export has one".to_owned()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => Ok(()),
            Event::Eof if self.root.is_none() => Err("it has no root element".to_owned()),
            Event::Eof if !self.open.is_empty() => Err("it ends inside of an element".to_owned()),
            Event::Eof => Ok(()),
        }
    }

    fn start(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("its elements are nested deeper than {MAX_DEPTH}"));
        }
        let name = element.name();
        let name = name.as_ref();
        if name.len() > MAX_NAME_BYTES {
            return Err(format!("an element's name is longer than {MAX_NAME_BYTES} bytes"));
        }
        let kind = match (self.open.last(), name) {
            (None, _) if self.root.is_some() => return Err("it has a second root element".to_owned()),
            (None, "ImportExportXml") => Kind::ImportExportXml,
            (None, "Entity") | (Some(Kind::Entities), "Entity") => Kind::Entity,
            (None, _) => return Err(format!("its root element is {:?}", clipped(name))),
            (Some(Kind::ImportExportXml), "Entities") => Kind::Entities,
            (Some(Kind::Entity), "EntityInfo") => Kind::EntityInfo,
            (Some(Kind::EntityInfo), "entity") => Kind::Table,
            (Some(Kind::Table), "attributes") => Kind::Columns,
            (Some(Kind::Columns), "attribute") => Kind::Column,
            (Some(Kind::Table), "IsRetrieveAuditEnabled") => Kind::Value(Field::Retrieve),
            (Some(Kind::Table), "IsRetrieveMultipleAuditEnabled") => Kind::Value(Field::RetrieveMultiple),
            (Some(Kind::Table | Kind::Column), "IsAuditEnabled") => Kind::Value(Field::Audit),
            (Some(Kind::Table | Kind::Column), "CanModifyAuditSettings") => Kind::Value(Field::CanModifyAudit),
            (Some(Kind::Column), "LogicalName") => Kind::Value(Field::LogicalName),
            (Some(Kind::Column), "Name") => Kind::Value(Field::Name),
            _ => Kind::Other,
        };
        if self.open.is_empty() {
            self.root = Some(kind);
        }
        match kind {
            // Version 9 writes its number; what is older does not say.
            Kind::ImportExportXml if attribute(element, "OrganizationVersion")?.is_none() => {
                self.flags.warnings.push(
                    "the file names no OrganizationVersion, so it is of a version before 9: such files hold no flags of \
                     read auditing"
                        .to_owned(),
                );
            }
            Kind::Table => self.start_entity(element)?,
            Kind::Column => {
                self.column = Some(Column { physical: attribute(element, "PhysicalName")?, ..Column::default() });
            }
            Kind::Value(_) => self.text = Some(String::new()),
            _ => {}
        }
        self.open.push(kind);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        let Some(value) = self.text.as_mut().filter(|_| matches!(self.open.last(), Some(Kind::Value(_)))) else {
            return Ok(());
        };
        if value.len() + text.len() > 4 * MAX_NAME_BYTES {
            return Err("a flag or a name is too long".to_owned());
        }
        value.push_str(text);
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some(Kind::Value(field)) => self.value(field),
            Some(Kind::Column) => self.end_column(),
            Some(Kind::Table) => {
                let entity = self.entity.take();
                self.flags.entities.extend(entity);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start_entity(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        let name = attribute(element, "Name")?.ok_or("an entity has no Name")?;
        let name = logical_name(&name)?;
        if self.flags.entities.contains_key(&name) {
            return Err(format!("the entity {name} is there twice"));
        }
        if self.flags.entities.len() == MAX_ENTITIES {
            return Err(format!("it has more than {MAX_ENTITIES} entities"));
        }
        self.entity = Some((name, EntityFlags::default()));
        Ok(())
    }

    fn end_column(&mut self) -> Result<(), String> {
        let (Some((entity, flags)), Some(column)) = (&mut self.entity, self.column.take()) else { return Ok(()) };
        let name = column.logical.or(column.name).or(column.physical);
        let name = logical_name(&name.ok_or_else(|| format!("a column of {entity} has no name"))?)?;
        self.columns += 1;
        if self.columns > MAX_COLUMNS {
            return Err(format!("it has more than {MAX_COLUMNS} columns"));
        }
        match flags.attributes.insert(name.clone(), column.audit) {
            Some(_) => Err(format!("the column {name} of {entity} is there twice")),
            None => Ok(()),
        }
    }

    fn value(&mut self, field: Field) -> Result<(), String> {
        let text = self.text.take().unwrap_or_default();
        let text = text.trim();
        let Some((entity, flags)) = &mut self.entity else { return Ok(()) };
        if text.is_empty() {
            return Ok(());
        }
        let name = match (&mut self.column, field) {
            (Some(column), Field::LogicalName) => Some(&mut column.logical),
            (Some(column), Field::Name) => Some(&mut column.name),
            _ => None,
        };
        if let Some(name) = name {
            *name = Some(text.to_owned());
            return Ok(());
        }
        let audit = self.column.as_mut().map_or(&mut flags.audit, |column| &mut column.audit);
        let flag = match field {
            Field::Audit => &mut audit.value,
            Field::CanModifyAudit => &mut audit.can_be_changed,
            Field::Retrieve => &mut flags.retrieve,
            Field::RetrieveMultiple => &mut flags.retrieve_multiple,
            Field::LogicalName | Field::Name => return Ok(()),
        };
        let value = match text {
            "1" | "true" | "True" => true,
            "0" | "false" | "False" => false,
            _ => return Err(format!("an audit flag of {entity} is {:?}, not 0 or 1", clipped(text))),
        };
        match flag.replace(value) {
            Some(other) if other != value => Err(format!("an audit flag of {entity} is there twice, as 0 and as 1")),
            _ => Ok(()),
        }
    }
}

/// An attribute's value. Its name is without a prefix.
fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    for (place, attribute) in element.attributes().enumerate() {
        if place == MAX_ATTRIBUTES {
            return Err(format!("an element has more than {MAX_ATTRIBUTES} attributes"));
        }
        let attribute = attribute.map_err(|error| error.to_string())?;
        if attribute.key.as_ref() == name {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
            return Ok(Some(value.into_owned()));
        }
    }
    Ok(None)
}

/// The logical name: entities and columns of old files have their schema names only, which differ in case.
fn logical_name(name: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits) {
        return Err(format!("{:?} is no name of an entity or a column", clipped(name)));
    }
    Ok(name.to_ascii_lowercase())
}

fn clipped(text: &str) -> String {
    text.chars().take(40).collect()
}
