//! Writes the JSON dialect of .NET's `DataContractJsonSerializer` as execution contexts use it: `__type` first, slashes
//! in texts escaped, dates as `\/Date(…)\/`.

use uuid::Uuid;

/// An id of zeros: none.
pub(super) const NONE: Uuid = Uuid::nil();

const XRM: &str = r":http:\/\/schemas.microsoft.com\/xrm\/2011\/Contracts";
const CRM: &str = r":http:\/\/schemas.microsoft.com\/crm\/2011\/Contracts";

/// Appends JSON to a buffer.
pub(super) trait Wire {
    /// The text as it is; names and JSON that need no escaping.
    fn put(&mut self, json: &str);
    /// A decimal number.
    fn number(&mut self, value: u64);
    /// An id in quotation marks.
    fn id(&mut self, id: Uuid);
    /// A text in quotation marks, escaped.
    fn text(&mut self, text: &str);
    /// A comma, unless an array, an object or a parameter list begins here.
    fn separate(&mut self);

    /// `{"key":NAME,"value":`, to be closed with `}`.
    fn key(&mut self, name: &str) {
        self.separate();
        self.put(r#"{"key":""#);
        self.put(name);
        self.put(r#"","value":"#);
    }

    /// A parameter or attribute whose value is given as JSON.
    fn pair(&mut self, name: &str, json: &str) {
        self.key(name);
        self.put(json);
        self.put("}");
    }

    /// A parameter or attribute with a text.
    fn text_pair(&mut self, name: &str, text: &str) {
        self.key(name);
        self.text(text);
        self.put("}");
    }

    /// A parameter or attribute with an id.
    fn id_pair(&mut self, name: &str, id: Uuid) {
        self.key(name);
        self.id(id);
        self.put("}");
    }

    /// `{"__type":"NAME:…",`, to be closed with `}`.
    fn typed(&mut self, name: &str) {
        self.put(r#"{"__type":""#);
        self.put(name);
        self.put(XRM);
        self.put(r#"","#);
    }

    /// The same for a type of the messages' assembly.
    fn typed_crm(&mut self, name: &str) {
        self.put(r#"{"__type":""#);
        self.put(name);
        self.put(CRM);
        self.put(r#"","#);
    }

    /// `"/Date(ms)/"`.
    fn date(&mut self, milliseconds: u64) {
        self.put(r#""\/Date("#);
        self.number(milliseconds);
        self.put(r#")\/""#);
    }

    /// `"/Date(ms+0000)/"`, in whole seconds, as asynchronous posts have it.
    fn zoned_date(&mut self, milliseconds: u64) {
        self.put(r#""\/Date("#);
        self.number(milliseconds / 1000 * 1000);
        self.put(r#"+0000)\/""#);
    }

    /// The members of an entity reference, without the braces.
    fn reference_members(&mut self, entity: &str, id: Uuid) {
        self.put(r#""Id":"#);
        self.id(id);
        self.put(r#","KeyAttributes":[],"LogicalName":""#);
        self.put(entity);
        self.put(r#"","Name":null,"RowVersion":null"#);
    }

    /// An entity reference with its type.
    fn reference(&mut self, entity: &str, id: Uuid) {
        self.typed("EntityReference");
        self.reference_members(entity, id);
        self.put("}");
    }

    /// A parameter or attribute with an entity reference.
    fn reference_pair(&mut self, name: &str, entity: &str, id: Uuid) {
        self.key(name);
        self.reference(entity, id);
        self.put("}");
    }

    /// A choice with its type.
    fn option(&mut self, value: u64) {
        self.typed("OptionSetValue");
        self.put(r#""Value":"#);
        self.number(value);
        self.put("}");
    }

    /// What follows the attributes of an entity, with the brace that closes it.
    fn entity_end(&mut self, entity: &str, id: Uuid) {
        self.put(r#"],"EntityState":null,"FormattedValues":[],"Id":"#);
        self.id(id);
        self.put(r#","KeyAttributes":[],"LogicalName":""#);
        self.put(entity);
        self.put(r#"","RelatedEntities":[],"RowVersion":null}"#);
    }
}

impl Wire for Vec<u8> {
    fn put(&mut self, json: &str) {
        self.extend_from_slice(json.as_bytes());
    }

    fn number(&mut self, value: u64) {
        let mut digits = [0; 20];
        let (mut rest, mut first) = (value, digits.len());
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.extend_from_slice(&digits[first..]);
    }

    fn id(&mut self, id: Uuid) {
        let mut buffer = [0; 38];
        buffer[0] = b'"';
        buffer[37] = b'"';
        id.hyphenated().encode_lower(&mut buffer[1..37]);
        self.extend_from_slice(&buffer);
    }

    fn text(&mut self, text: &str) {
        self.push(b'"');
        let bytes = text.as_bytes();
        let mut plain = 0;
        for (place, byte) in bytes.iter().enumerate() {
            let escaped: &[u8] = match byte {
                b'"' => br#"\""#,
                b'/' => br"\/",
                b'\\' => br"\\",
                b'\n' => br"\u000a",
                b'\r' => br"\u000d",
                b'\t' => br"\u0009",
                _ => continue,
            };
            self.extend_from_slice(&bytes[plain..place]);
            self.extend_from_slice(escaped);
            plain = place + 1;
        }
        self.extend_from_slice(&bytes[plain..]);
        self.push(b'"');
    }

    fn separate(&mut self) {
        if !matches!(self.last(), None | Some(b'[' | b'{' | b',')) {
            self.push(b',');
        }
    }
}
