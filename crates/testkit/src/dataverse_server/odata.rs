//! The part of OData that the stand-in speaks: `$select`, `$filter`, `$orderby`, `$expand`, `$top`, `$count`.
//!
//! Filters know `eq ne gt ge lt le and or not`, parentheses, `startswith(column,'x')`, `contains(column,'x')`, and
//! `collection/any(v:…)`. Everything is checked against the table's columns and their types, as the platform does.

use std::cmp::Ordering;

use actlog_core::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::schema::{Kind, Table, table};

/// A row: every column of its table by name.
pub(super) type Row = Map<String, Value>;

/// What a request asks of a set.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) select: Option<Vec<String>>,
    pub(super) filter: Option<Filter>,
    pub(super) order: Vec<(String, bool)>,
    pub(super) expand: Vec<(String, Options)>,
    pub(super) top: Option<usize>,
    pub(super) count: bool,
    pub(super) skip_token: Option<String>,
}

#[derive(Debug)]
pub(super) enum Filter {
    All(Vec<Filter>),
    Either(Vec<Filter>),
    Not(Box<Filter>),
    Compare { column: String, operator: Operator, with: Literal },
    Text { column: String, start: bool, with: String },
    Any { collection: String, holds: Box<Filter> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Boolean(bool),
    Integer(i64),
    Text(String),
    Id(Uuid),
    Time(Timestamp),
}

/// Reads the options of a query string, whose parameters are decoded already.
///
/// # Errors
/// What the platform would say.
pub(super) fn options(parameters: &[(String, String)], of: &Table) -> Result<Options, String> {
    let mut options = Options::default();
    for (name, value) in parameters {
        match name.as_str() {
            "$select" => options.select = Some(select(value, of)?),
            "$filter" => options.filter = Some(Parser::new(value)?.whole(of)?),
            "$orderby" => options.order = order(value, of)?,
            "$expand" => options.expand = expand(value, of)?,
            "$top" => options.top = Some(value.parse().map_err(|_| format!("Invalid value '{value}' for $top."))?),
            "$count" => options.count = value == "true",
            "$skiptoken" => options.skip_token = Some(value.clone()),
            other => return Err(format!("The query parameter {other} is not supported.")),
        }
    }
    Ok(options)
}

fn known<'a>(name: &'a str, of: &Table) -> Result<(&'a str, Kind), String> {
    // Managed properties are compared by their value.
    let (column, wants_value) = name.strip_suffix("/Value").map_or((name, false), |column| (column, true));
    match of.column(column) {
        Some(kind) if (kind == Kind::Managed) == wants_value && kind != Kind::Secret => Ok((column, kind)),
        _ => Err(format!(
            "Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{}'.",
            of.logical_name
        )),
    }
}

fn select(text: &str, of: &Table) -> Result<Vec<String>, String> {
    let columns = text.split(',').map(str::trim);
    columns
        .map(|name| match of.column(name) {
            Some(kind) if kind != Kind::Secret => Ok(name.to_owned()),
            _ => Err(known(name, of).err().unwrap_or_else(|| format!("The column {name} can't be read."))),
        })
        .collect()
}

fn order(text: &str, of: &Table) -> Result<Vec<(String, bool)>, String> {
    let parts = text.split(',').map(str::trim);
    parts
        .map(|part| {
            let (name, direction) = part.split_once(' ').unwrap_or((part, "asc"));
            let descending = match direction.trim() {
                "asc" => false,
                "desc" => true,
                other => return Err(format!("Syntax error in $orderby: {other}")),
            };
            Ok((known(name, of)?.0.to_owned(), descending))
        })
        .collect()
}

/// `a($select=x;$filter=y),b`
fn expand(text: &str, of: &Table) -> Result<Vec<(String, Options)>, String> {
    let split = |text: &str, at: char| {
        let mut depth = 0_usize;
        let mut parts = vec![String::new()];
        for c in text.chars() {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if c == at && depth == 0 {
                parts.push(String::new());
            } else if let Some(last) = parts.last_mut() {
                last.push(c);
            }
        }
        parts
    };
    let mut expanded = Vec::new();
    for part in split(text, ',') {
        let (name, inner) = match part.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')').ok_or("Syntax error in $expand.")?),
            None => (part.as_str(), ""),
        };
        let target = target(name, of).ok_or_else(|| {
            format!("Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{}'.", of.logical_name)
        })?;
        let parameters: Vec<_> = split(inner, ';')
            .iter()
            .filter(|option| !option.is_empty())
            .map(|option| option.split_once('=').unwrap_or((option, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        expanded.push((name.to_owned(), options(&parameters, target)?));
    }
    Ok(expanded)
}

/// The table that a navigation property leads to.
pub(super) fn target(name: &str, of: &Table) -> Option<&'static Table> {
    let all = of.lookups.iter().chain(of.collections).chain(of.associations);
    all.into_iter().find(|(known, ..)| *known == name).and_then(|(_, set, _)| table(set))
}

impl Filter {
    /// Whether a row fits; `related` gives the rows of a collection.
    pub(super) fn holds(&self, row: &Row, related: &dyn Fn(&str, &Row) -> Vec<Row>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(row, related)),
            Self::Either(parts) => parts.iter().any(|part| part.holds(row, related)),
            Self::Not(part) => !part.holds(row, related),
            Self::Any { collection, holds } => related(collection, row).iter().any(|row| holds.holds(row, related)),
            Self::Text { column, start, with } => {
                let value = row.get(column).and_then(Value::as_str).unwrap_or_default().to_lowercase();
                let with = with.to_lowercase();
                if *start { value.starts_with(&with) } else { value.contains(&with) }
            }
            Self::Compare { column, operator, with } => {
                let value = Literal::of(row.get(column).unwrap_or(&Value::Null), with);
                let order = value.compare(with);
                match operator {
                    Operator::Equal => order == Some(Ordering::Equal),
                    Operator::NotEqual => order != Some(Ordering::Equal),
                    Operator::Greater => order == Some(Ordering::Greater),
                    Operator::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
                    Operator::Less => order == Some(Ordering::Less),
                    Operator::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                }
            }
        }
    }
}

impl Literal {
    /// A stored value as what it is compared with.
    fn of(value: &Value, like: &Self) -> Self {
        let value = value.get("Value").unwrap_or(value);
        match (value, like) {
            (Value::Bool(value), _) => Self::Boolean(*value),
            (Value::Number(value), _) => value.as_i64().map_or(Self::Null, Self::Integer),
            (Value::String(text), Self::Time(_)) => Timestamp::parse(text).map_or(Self::Null, Self::Time),
            (Value::String(text), Self::Id(_)) => Uuid::try_parse(text).map_or(Self::Null, Self::Id),
            (Value::String(text), _) => Self::Text(text.clone()),
            _ => Self::Null,
        }
    }

    fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, Self::Null) => Some(Ordering::Equal),
            (Self::Boolean(a), Self::Boolean(b)) => Some(a.cmp(b)),
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            // The platform's collation does not regard case.
            (Self::Text(a), Self::Text(b)) => Some(a.to_lowercase().cmp(&b.to_lowercase())),
            (Self::Id(a), Self::Id(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    fn fits(&self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Self::Null, _)
                | (Self::Boolean(_), Kind::Boolean | Kind::Managed)
                | (Self::Integer(_), Kind::Integer)
                | (Self::Text(_), Kind::Text)
                | (Self::Id(_), Kind::Id)
                | (Self::Time(_), Kind::Time)
        )
    }
}

/// Compares two rows in the order that was asked for, and then by id, so that pages have a place to go on from.
pub(super) fn compare(a: &Row, b: &Row, order: &[(String, bool)], of: &Table) -> Ordering {
    let by = |column: &str| {
        let like = match of.column(column) {
            Some(Kind::Time) => Literal::Time(Timestamp::default()),
            Some(Kind::Id) => Literal::Id(Uuid::nil()),
            _ => Literal::Null,
        };
        let value = |row: &Row| Literal::of(row.get(column).unwrap_or(&Value::Null), &like);
        let (a, b) = (value(a), value(b));
        // Nulls come first.
        a.compare(&b).unwrap_or_else(|| (b == Literal::Null).cmp(&(a == Literal::Null)))
    };
    let asked = order.iter().map(|(column, descending)| if *descending { by(column).reverse() } else { by(column) });
    asked.chain([by(of.id)]).find(|order| *order != Ordering::Equal).unwrap_or(Ordering::Equal)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Literal(Literal),
    Open,
    Close,
    Comma,
    Colon,
}

struct Parser {
    tokens: std::vec::IntoIter<Token>,
    next: Option<Token>,
    text: String,
    /// The variable of the `any` around, and nesting so far.
    variable: Option<String>,
    depth: usize,
}

/// Nobody writes deeper filters.
const DEEPEST: usize = 32;

impl Parser {
    fn new(text: &str) -> Result<Self, String> {
        let mut tokens = tokens(text)?.into_iter();
        let next = tokens.next();
        Ok(Self { tokens, next, text: text.to_owned(), variable: None, depth: 0 })
    }

    fn whole(mut self, of: &Table) -> Result<Filter, String> {
        let filter = self.either(of)?;
        if self.next.is_some() { Err(self.error()) } else { Ok(filter) }
    }

    fn error(&self) -> String {
        format!("Syntax error in filter '{}' at {:?}.", self.text, self.next)
    }

    fn take(&mut self) -> Option<Token> {
        std::mem::replace(&mut self.next, self.tokens.next())
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.next, Some(Token::Word(next)) if next == word)
    }

    fn expect(&mut self, token: &Token) -> Result<(), String> {
        if self.next.as_ref() == Some(token) {
            self.take();
            return Ok(());
        }
        Err(self.error())
    }

    fn either(&mut self, of: &Table) -> Result<Filter, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("The filter is nested too deeply.".to_owned());
        }
        let mut parts = vec![self.all(of)?];
        while self.is_word("or") {
            self.take();
            parts.push(self.all(of)?);
        }
        self.depth -= 1;
        Ok(Filter::Either(parts))
    }

    fn all(&mut self, of: &Table) -> Result<Filter, String> {
        let mut parts = vec![self.one(of)?];
        while self.is_word("and") {
            self.take();
            parts.push(self.one(of)?);
        }
        Ok(Filter::All(parts))
    }

    fn one(&mut self, of: &Table) -> Result<Filter, String> {
        match self.take() {
            Some(Token::Open) => {
                let filter = self.either(of)?;
                self.expect(&Token::Close)?;
                Ok(filter)
            }
            Some(Token::Word(word)) if word == "not" => Ok(Filter::Not(Box::new(self.one(of)?))),
            Some(Token::Word(word)) if word == "startswith" || word == "contains" => {
                self.expect(&Token::Open)?;
                let Some(Token::Word(column)) = self.take() else { return Err(self.error()) };
                let (column, kind) = known(&column, of)?;
                self.expect(&Token::Comma)?;
                let Some(Token::Literal(Literal::Text(with))) = self.take() else { return Err(self.error()) };
                self.expect(&Token::Close)?;
                if kind != Kind::Text {
                    return Err(format!("{word} needs a text column; {column} is none."));
                }
                Ok(Filter::Text { column: column.to_owned(), start: word == "startswith", with })
            }
            Some(Token::Word(path)) => match path.strip_suffix("/any") {
                Some(collection) => self.any(collection, of),
                None => self.comparison(&path, of),
            },
            _ => Err(self.error()),
        }
    }

    fn any(&mut self, collection: &str, of: &Table) -> Result<Filter, String> {
        let target = target(collection, of).ok_or_else(|| format!("There is no collection '{collection}'."))?;
        self.expect(&Token::Open)?;
        let Some(Token::Word(variable)) = self.take() else { return Err(self.error()) };
        self.expect(&Token::Colon)?;
        let outer = self.variable.replace(variable);
        let holds = Box::new(self.either(target)?);
        self.variable = outer;
        self.expect(&Token::Close)?;
        Ok(Filter::Any { collection: collection.to_owned(), holds })
    }

    fn comparison(&mut self, path: &str, of: &Table) -> Result<Filter, String> {
        let column = match &self.variable {
            Some(variable) => path.strip_prefix(&format!("{variable}/")).ok_or_else(|| self.error())?,
            None => path,
        };
        let (column, kind) = known(column, of)?;
        let Some(Token::Word(operator)) = self.take() else { return Err(self.error()) };
        let operator = match operator.as_str() {
            "eq" => Operator::Equal,
            "ne" => Operator::NotEqual,
            "gt" => Operator::Greater,
            "ge" => Operator::GreaterOrEqual,
            "lt" => Operator::Less,
            "le" => Operator::LessOrEqual,
            _ => return Err(self.error()),
        };
        let Some(Token::Literal(with)) = self.take() else { return Err(self.error()) };
        if !with.fits(kind) {
            return Err(format!(
                "A binary operator with incompatible types was detected: {column} is {kind:?}, compared with {with:?}."
            ));
        }
        Ok(Filter::Compare { column: column.to_owned(), operator, with })
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let single = match first {
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            ',' => Some(Token::Comma),
            ':' => Some(Token::Colon),
            _ => None,
        };
        if let Some(token) = single {
            tokens.push(token);
            rest = &rest[1..];
        } else if first == '\'' {
            let mut value = String::new();
            rest = &rest[1..];
            loop {
                let end = rest.find('\'').ok_or("There is an unterminated string literal.")?;
                value.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix('\'') {
                    Some(more) => {
                        value.push('\'');
                        rest = more;
                    }
                    None => break,
                }
            }
            tokens.push(Token::Literal(Literal::Text(value)));
        } else {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "_/.-+@$".contains(c);
            // A time has colons in it.
            let is_time = first.is_ascii_digit() && rest.get(10..11) == Some("T");
            let end = rest.find(|c: char| !(is_part(c) || is_time && c == ':')).unwrap_or(rest.len());
            if end == 0 {
                return Err(format!("Syntax error: '{first}' is not expected in a filter."));
            }
            tokens.push(word(&rest[..end]));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

fn word(word: &str) -> Token {
    let literal = match word {
        "null" => Some(Literal::Null),
        "true" => Some(Literal::Boolean(true)),
        "false" => Some(Literal::Boolean(false)),
        _ => Uuid::try_parse(word)
            .ok()
            .filter(|_| word.len() == 36)
            .map(Literal::Id)
            .or_else(|| word.parse().ok().map(Literal::Integer))
            .or_else(|| Timestamp::parse(word).ok().map(Literal::Time)),
    };
    literal.map_or_else(|| Token::Word(word.to_owned()), Token::Literal)
}
