//! FetchXML, streamed: its entity and the filter in the specification's form.
//!
//! FetchXML reaches us from whoever may query the environment; so nothing is expanded, and a document type, unknown
//! entities, deep nesting and great length are refused.

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use crate::query::{escape, open_condition, write_attribute};

/// The longest FetchXML that is rewritten, in bytes: as much as one whole post may hold.
const MAX_BYTES: usize = 256 * 1024;
/// How deep its elements may be nested. Dataverse itself allows fewer.
const MAX_DEPTH: usize = 32;
/// How many attributes an element may have. Looking for doubles among them takes the square of their number.
const MAX_ATTRIBUTES: usize = 64;

/// Why FetchXML was not rewritten.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the FetchXML is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("the FetchXML is nested deeper than {MAX_DEPTH} elements")]
    TooDeep,
    #[error("the FetchXML has a document type")]
    DocumentType,
    #[error("the FetchXML refers to the unknown entity {0:?}")]
    UnknownEntity(String),
    #[error("the FetchXML is not XML: {0}")]
    NotXml(String),
    #[error("it is not FetchXML: {0}")]
    NotFetch(&'static str),
}

/// What FetchXML asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    /// Logical name of the entity.
    pub(crate) entity: Option<String>,
    /// The entity's filter, if it has one.
    pub(crate) filter: Option<String>,
}

/// What an open element is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fetch,
    Entity,
    Filter,
    Condition,
    Value,
    Link,
    /// Of no concern, with all that is in it.
    Other,
}

/// An open element: where its text begins, and where what is in it begins.
#[derive(Clone, Copy)]
struct Open {
    kind: Kind,
    /// Written behind the filters: linked entities of the extended form.
    linked: bool,
    start: usize,
    inside: usize,
}

/// Reads FetchXML. `extended` appends the filters of linked entities.
pub(crate) fn read(xml: &str, extended: bool) -> Result<Fetch, FetchError> {
    if xml.len() > MAX_BYTES {
        return Err(FetchError::TooLong);
    }
    let mut reader = Reader::from_str(xml);
    let mut writer = Writer { extended, ..Writer::default() };
    loop {
        match reader.read_event().map_err(|error| FetchError::NotXml(error.to_string()))? {
            Event::Start(element) => writer.start(&element)?,
            Event::Empty(element) => {
                writer.start(&element)?;
                writer.end();
            }
            Event::End(_) => writer.end(),
            Event::Text(text) => writer.text(&text.xml10_content()),
            Event::CData(text) => writer.text(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content();
                match reference.resolve_char_ref().map_err(|error| FetchError::NotXml(error.to_string()))? {
                    Some(character) => writer.text(character.encode_utf8(&mut [0; 4])),
                    None => match resolve_predefined_entity(&name) {
                        Some(text) => writer.text(text),
                        None => return Err(FetchError::UnknownEntity(name.chars().take(40).collect())),
                    },
                }
            }
            Event::DocType(_) => return Err(FetchError::DocumentType),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => return writer.finish(),
        }
    }
}

#[derive(Default)]
struct Writer {
    extended: bool,
    open: Vec<Open>,
    /// Whether the one root element was there.
    seen_fetch: bool,
    entity: Option<String>,
    filters: String,
    /// How many filters the entity has directly; several apply together.
    top_filters: usize,
    links: String,
}

impl Writer {
    fn start(&mut self, element: &BytesStart<'_>) -> Result<(), FetchError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(FetchError::TooDeep);
        }
        let parent = self.open.last().copied();
        let kind = match (parent.map(|open| open.kind), element.name().as_ref()) {
            (None, "fetch") if !self.seen_fetch => Kind::Fetch,
            (None, _) => return Err(FetchError::NotFetch("its root is not one fetch element")),
            (Some(Kind::Fetch), "entity") if self.entity.is_none() => Kind::Entity,
            (Some(Kind::Entity | Kind::Filter | Kind::Link), "filter") => Kind::Filter,
            (Some(Kind::Filter), "condition") => Kind::Condition,
            (Some(Kind::Condition), "value") => Kind::Value,
            (Some(Kind::Filter), "link-entity") => Kind::Link,
            (Some(Kind::Entity | Kind::Link), "link-entity") if self.extended => Kind::Link,
            _ => Kind::Other,
        };
        let linked = parent.is_some_and(|open| open.linked || (open.kind == Kind::Entity && kind == Kind::Link));
        let start = self.out(linked).len();
        let mut attributes = Attributes::default();
        if !matches!(kind, Kind::Fetch | Kind::Value | Kind::Other) {
            attributes.read(element)?;
        }
        let entity = &mut self.entity;
        let out = if linked { &mut self.links } else { &mut self.filters };
        match kind {
            Kind::Fetch => self.seen_fetch = true,
            Kind::Entity => *entity = Some(attributes.take("name").unwrap_or_default()),
            Kind::Filter => {
                out.push_str("<filter");
                write_attribute(out, "type", &attributes.take("type").unwrap_or_else(|| "and".to_owned()));
                attributes.copy(out, &["isquickfindfields"]);
                out.push('>');
            }
            Kind::Condition => {
                let entity = attributes.take("entityname");
                let column = attributes.take("attribute").unwrap_or_default();
                open_condition(out, entity.as_deref(), &column, &attributes.take("operator").unwrap_or_default());
                // What else there is names a looked-up row for people (uiname, uitype) and is left out.
                attributes.copy(out, &["value", "valueof"]);
                out.push('>');
            }
            Kind::Value => out.push_str("<value>"),
            Kind::Link => {
                out.push_str("<link-entity");
                attributes.copy(out, &["name", "from", "to", "link-type"]);
                out.push('>');
            }
            Kind::Other => {}
        }
        let inside = out.len();
        self.open.push(Open { kind, linked, start, inside });
        Ok(())
    }

    fn end(&mut self) {
        let Some(element) = self.open.pop() else { return };
        let in_entity = self.open.last().is_some_and(|parent| parent.kind == Kind::Entity);
        let out = self.out(element.linked);
        let empty = out.len() == element.inside;
        match element.kind {
            Kind::Filter if empty => out.truncate(element.start),
            Kind::Filter => {
                out.push_str("</filter>");
                self.top_filters += usize::from(in_entity);
            }
            Kind::Condition | Kind::Link if empty => {
                out.truncate(element.inside - 1);
                out.push_str(" />");
            }
            Kind::Condition => out.push_str("</condition>"),
            Kind::Link => out.push_str("</link-entity>"),
            Kind::Value => out.push_str("</value>"),
            Kind::Fetch | Kind::Entity | Kind::Other => {}
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(value) = self.open.last().copied().filter(|open| open.kind == Kind::Value) {
            escape(self.out(value.linked), text);
        }
    }

    fn out(&mut self, linked: bool) -> &mut String {
        if linked { &mut self.links } else { &mut self.filters }
    }

    fn finish(self) -> Result<Fetch, FetchError> {
        if !self.open.is_empty() {
            return Err(FetchError::NotXml("it ends inside of an element".to_owned()));
        }
        if self.entity.is_none() {
            return Err(FetchError::NotFetch("it has no entity"));
        }
        let mut filter = self.filters;
        if self.top_filters > 1 {
            filter = format!("<filter type=\"and\">{filter}</filter>");
        }
        filter.push_str(&self.links);
        let entity = self.entity.filter(|name| !name.is_empty());
        Ok(Fetch { entity, filter: (!filter.is_empty()).then_some(filter) })
    }
}

/// The attributes of one element, in their order.
#[derive(Default)]
struct Attributes(Vec<(String, String)>);

impl Attributes {
    fn read(&mut self, element: &BytesStart<'_>) -> Result<(), FetchError> {
        for attribute in element.attributes() {
            if self.0.len() == MAX_ATTRIBUTES {
                return Err(FetchError::NotFetch("an element has too many attributes"));
            }
            let attribute = attribute.map_err(|error| FetchError::NotXml(error.to_string()))?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value = value.map_err(|error| FetchError::NotXml(error.to_string()))?;
            self.0.push((attribute.key.as_ref().to_owned(), value.into_owned()));
        }
        Ok(())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.0.iter_mut().find(|(key, _)| key == name).map(|(_, value)| std::mem::take(value))
    }

    /// Writes those of these names, in the order of the element.
    fn copy(&self, out: &mut String, names: &[&str]) {
        for (name, value) in self.0.iter().filter(|(name, _)| names.contains(&name.as_str())) {
            write_attribute(out, name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(inside: &str) -> String {
        let fetch = read(&format!("<fetch><entity name=\"account\">{inside}</entity></fetch>"), false).unwrap();
        assert_eq!(fetch.entity.as_deref(), Some("account"));
        fetch.filter.unwrap_or_default()
    }

    #[test]
    fn the_outermost_filter_of_the_entity_is_written_with_columns() {
        let inside = r#"<attribute name="name" /><order attribute="name" />
            <filter type="and"><condition attribute="ownerid" operator="eq-userid" /><condition attribute='statecode' operator='eq' value='0'></condition></filter>
            <link-entity name="contact" from="parentcustomerid" to="accountid"><filter><condition attribute="x" operator="null"/></filter></link-entity>"#;
        assert_eq!(
            filter(inside),
            r#"<filter type="and"><condition column="ownerid" operator="eq-userid" /><condition column="statecode" operator="eq" value="0" /></filter>"#
        );
    }

    #[test]
    fn lists_nested_filters_and_markup_survive() {
        let inside = r#"<filter><condition attribute="industry" operator="in" uiname="Bank &amp; Co"><value uiname="A">1</value><value>a &lt; b<![CDATA[ & <c>]]>&#33;</value></condition>
            <filter type="or"><condition entityname="c" attribute="name" operator="like" value="%&quot;&#10;'%" /></filter><filter /></filter>"#;
        assert_eq!(
            filter(inside),
            "<filter type=\"and\"><condition column=\"industry\" operator=\"in\"><value>1</value><value>a &lt; b &amp; &lt;c&gt;!</value></condition>\
             <filter type=\"or\"><condition entityname=\"c\" column=\"name\" operator=\"like\" value=\"%&quot;&#10;'%\" /></filter></filter>"
        );
    }

    #[test]
    fn several_filters_of_one_entity_apply_together() {
        let one = r#"<filter type="or"><condition attribute="a" operator="null" /></filter>"#;
        let expected = one.replace("attribute=", "column=");
        assert_eq!(
            filter(&format!("{one}<filter/>{one}")),
            format!("<filter type=\"and\">{expected}{expected}</filter>")
        );
        assert_eq!(filter(one), expected);
        assert_eq!(filter("<filter type=\"and\"> </filter>"), "");
    }

    #[test]
    fn linked_filters_follow_in_the_extended_form() {
        let xml = r#"<fetch><entity name="a"><link-entity name="b" from="x" to="y" alias="z" link-type="outer"><attribute name="q"/><filter><condition attribute="c" operator="null"/></filter></link-entity><filter><condition attribute="d" operator="null"/></filter></entity></fetch>"#;
        assert_eq!(
            read(xml, true).unwrap().filter.unwrap(),
            r#"<filter type="and"><condition column="d" operator="null" /></filter><link-entity name="b" from="x" to="y" link-type="outer"><filter type="and"><condition column="c" operator="null" /></filter></link-entity>"#
        );
    }

    #[test]
    fn hostile_fetchxml_is_refused() {
        let many: String = (0..20_000).map(|number| format!(" a{number}=''")).collect();
        assert!(matches!(read(&format!("<fetch><entity{many}/></fetch>"), false), Err(FetchError::NotFetch(_))));
        let bomb = "<!DOCTYPE a [<!ENTITY x \"y\"><!ENTITY z \"&x;&x;\">]><fetch><entity name=\"&z;\"/></fetch>";
        assert!(matches!(read(bomb, false), Err(FetchError::DocumentType)));
        let deep = "<fetch>".to_owned() + &"<filter>".repeat(100_000);
        assert!(matches!(read(&deep, false), Err(FetchError::TooLong)));
        let deep = "<fetch><entity name=\"a\">".to_owned() + &"<filter>".repeat(1000);
        assert!(matches!(read(&deep, false), Err(FetchError::TooDeep)));
        let unknown = "<fetch><entity name=\"a\"><filter><condition attribute=\"b\" operator=\"in\"><value>&x;</value></condition></filter></entity></fetch>";
        assert!(matches!(read(unknown, false), Err(FetchError::UnknownEntity(name)) if name == "x"));
        for xml in [
            "",
            "text",
            "<fetch>",
            "<fetch/>",
            "<fetch></filter>",
            "<entity name=\"a\"/>",
            "<fetch><entity name=\"a\"/></fetch><fetch/>",
            "<fetch><entity name=\"&x;\"/></fetch>",
            "<fetch><entity name=\"a\" name=\"b\"/></fetch>",
            "<fetch><entity name=\"a\"></fetch>",
            "<fetch><entity name=\"a\"><filter><condition attribute=\"b\" operator=\"eq\" value=\"&#0;\"/></filter></entity></fetch>&x;",
            "<",
        ] {
            assert!(read(xml, false).is_err(), "{xml}");
        }
    }
}
