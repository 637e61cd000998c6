//! XML as a small tree with its namespaces resolved, within limits: no DTD, no entities but the five.
//!
//! What the elements mean is left to `pidf`.

use std::collections::BTreeMap;

use quick_xml::NsReader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesDecl, BytesStart, Event};
use quick_xml::name::ResolveResult;

/// Longest document that is read, in bytes.
pub const XML_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of elements.
pub const DEPTH_MAX: usize = 32;
/// Most elements in a document.
pub const ELEMENTS_MAX: usize = 2048;
/// Most attributes of an element, declarations of namespaces among them.
pub const ATTRIBUTES_MAX: usize = 32;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Its namespace; empty if it is in none.
    pub namespace: String,
    /// Its name without a prefix.
    pub name: String,
    /// Attributes by namespace and name; declarations of namespaces are none.
    pub attributes: BTreeMap<(String, String), String>,
    /// The elements in it.
    pub children: Vec<Element>,
    /// The text in it, that of its children left out.
    pub text: String,
    /// The line where it ends, from 1.
    pub line: usize,
}

/// What is wrong with a text that should be XML, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct XmlError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there, in words.
    pub fault: String,
}

impl Element {
    /// Whether it is this one.
    pub(crate) fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// An attribute that is in no namespace.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(&(String::new(), name.to_owned())).map(String::as_str)
    }
}

/// Reads a document.
///
/// # Errors
/// [`XmlError`] names the line.
pub fn parse(bytes: &[u8]) -> Result<Element, XmlError> {
    let at = |line, fault: &str| XmlError { line, fault: fault.to_owned() };
    if bytes.len() > XML_BYTES_MAX {
        let fault = format!("{} bytes, at most {XML_BYTES_MAX} are taken", bytes.len());
        return Err(XmlError { line: 1, fault });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        at(line_of(bytes, error.valid_up_to()), "no UTF-8, which is the only encoding read")
    })?;
    if let Some((place, _)) = text.char_indices().find(|(_, c)| !is_xml_char(*c)) {
        return Err(at(line_of(bytes, place), "a character that XML does not have"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = NsReader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut tree = Tree::default();
    loop {
        let event = reader.read_event();
        let place = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let line = line_of(text.as_bytes(), place);
        let event = event.map_err(|error| at(line, &error.to_string()))?;
        if let Event::Eof = event {
            return tree.end().map_err(|fault| at(line, &fault));
        }
        tree.take(event, &reader, line).map_err(|fault| at(line, &fault))?;
    }
}

fn line_of(bytes: &[u8], place: usize) -> usize {
    let before = bytes.get(..place).unwrap_or(bytes);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// XML 1.0's characters.
pub(crate) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

/// What is read so far.
#[derive(Default)]
struct Tree {
    /// From the root to the element that is open.
    open: Vec<Element>,
    root: Option<Element>,
    count: usize,
}

impl Tree {
    fn take(
        &mut self,
        event: Event<'_>,
        reader: &NsReader<&[u8]>,
        line: usize,
    ) -> Result<(), String> {
        match event {
            Event::Start(start) => self.start(&start, reader),
            Event::End(_) => {
                let mut done = self.open.pop().ok_or("an end without a beginning")?;
                done.line = line;
                match self.open.last_mut() {
                    Some(parent) => parent.children.push(done),
                    None => self.root = Some(done),
                }
                Ok(())
            }
            Event::Text(text) => self.text(&text.xml10_content()),
            Event::CData(text) => self.text(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content();
                let found = match reference.resolve_char_ref().map_err(|error| error.to_string())? {
                    Some(c) if is_xml_char(c) => return self.text(c.encode_utf8(&mut [0; 4])),
                    Some(_) => return Err("a character that XML does not have".to_owned()),
                    None => quick_xml::escape::resolve_predefined_entity(&name),
                };
                self.text(found.ok_or_else(|| format!("no entity &{name};: there are only five"))?)
            }
            Event::Decl(decl) => encoding(&decl),
            Event::DocType(_) => Err("a DTD, and none is read".to_owned()),
            Event::Comment(_) | Event::PI(_) => Ok(()),
            Event::Empty(_) | Event::Eof => Ok(()),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>, reader: &NsReader<&[u8]>) -> Result<(), String> {
        self.count += 1;
        if self.count > ELEMENTS_MAX {
            return Err(format!("more than {ELEMENTS_MAX} elements"));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(format!("elements nested deeper than {DEPTH_MAX}"));
        }
        if self.root.is_some() {
            return Err("a second element at the top".to_owned());
        }
        let (namespace, name) = reader.resolver().resolve_element(start.name());
        let mut element = Element {
            namespace: bound(namespace)?,
            name: name.into_inner().to_owned(),
            ..Element::default()
        };
        for (count, attribute) in start.attributes().enumerate() {
            if count == ATTRIBUTES_MAX {
                return Err(format!("more than {ATTRIBUTES_MAX} attributes"));
            }
            let attribute = attribute.map_err(|error| error.to_string())?;
            if attribute.key.as_namespace_binding().is_some() {
                continue;
            }
            let value = attribute.normalized_value(XmlVersion::Explicit1_0);
            let value = value.map_err(|error| error.to_string())?;
            if !value.chars().all(is_xml_char) {
                return Err("a character that XML does not have".to_owned());
            }
            let (namespace, name) = reader.resolver().resolve_attribute(attribute.key);
            let key = (bound(namespace)?, name.into_inner().to_owned());
            if element.attributes.insert(key, value.into_owned()).is_some() {
                return Err("an attribute twice".to_owned());
            }
        }
        self.open.push(element);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        match self.open.last_mut() {
            Some(open) => open.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err("text outside of the element".to_owned()),
        }
        Ok(())
    }

    fn end(self) -> Result<Element, String> {
        match (self.root, self.open.last()) {
            (Some(root), None) => Ok(root),
            (_, Some(open)) => Err(format!("<{}> has no end", open.name)),
            (None, None) => Err("no element".to_owned()),
        }
    }
}

fn bound(resolved: ResolveResult<'_>) -> Result<String, String> {
    match resolved {
        ResolveResult::Bound(namespace) => Ok(namespace.into_inner().to_owned()),
        ResolveResult::Unbound => Ok(String::new()),
        ResolveResult::Unknown(prefix) => Err(format!("the prefix {prefix:?} is not declared")),
    }
}

fn encoding(decl: &BytesDecl<'_>) -> Result<(), String> {
    match decl.encoding() {
        Some(Ok(name)) if !name.eq_ignore_ascii_case("utf-8") => {
            Err(format!("encoding {name}: only UTF-8 is read"))
        }
        Some(Err(error)) => Err(error.to_string()),
        _ => Ok(()),
    }
}
