//! XML on its way in: a small tree, bounded in depth and size.
//!
//! The reader goes through the text once, without recursion, so that no nesting can exhaust the stack. Comments and
//! processing instructions are passed over; a document type declaration is refused, so there are no entities but XML's own
//! five. Elements of other namespaces than the root's are passed over with all they hold.

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

/// How deep elements may lie in each other: a message goes down nine levels.
pub const DEPTH_MAX: usize = 32;

/// Elements of a message: a transfer has about 25, and a body has no room for more than some thousand transfers.
pub const ELEMENTS_MAX: usize = 250_000;

/// An element.
#[derive(Debug, Default)]
pub struct Element {
    /// Its local name.
    pub name: String,
    /// What stands directly in it.
    pub text: String,
    /// The currency, of an amount.
    pub currency: Option<String>,
    /// The elements in it, in order.
    pub children: Vec<Element>,
}

/// The root element and its namespace.
///
/// # Errors
///
/// What is wrong, in English.
pub fn parse(text: &str) -> Result<(Element, String), String> {
    let mut reader = NsReader::from_str(text);
    let mut tree = Tree::default();
    loop {
        let at = reader.buffer_position();
        let told = |error: String| format!("at byte {at}: {error}");
        let (resolved, event) = reader.read_resolved_event().map_err(|error| told(error.to_string()))?;
        let namespace = match resolved {
            ResolveResult::Bound(namespace) => String::from_utf8_lossy(namespace.0).into_owned(),
            ResolveResult::Unbound => String::new(),
            ResolveResult::Unknown(_) => return Err(told("the prefix stands for no namespace".to_owned())),
        };
        match event {
            Event::Start(start) => tree.begin(&start, namespace).map_err(told)?,
            Event::Empty(start) => {
                tree.begin(&start, namespace).map_err(told)?;
                tree.end();
            }
            Event::End(_) => tree.end(),
            Event::Text(text) => {
                let text = text.unescape().map_err(|error| told(error.to_string()))?;
                tree.text(&text).map_err(told)?;
            }
            Event::CData(text) => {
                let text = text.decode().map_err(|error| told(error.to_string()))?;
                tree.text(&text).map_err(told)?;
            }
            Event::DocType(_) => return Err(told("document type declarations are not read".to_owned())),
            Event::Comment(_) | Event::PI(_) | Event::Decl(_) => (),
            Event::Eof => break,
        }
    }
    tree.finish()
}

/// What was read so far.
#[derive(Default)]
struct Tree {
    /// From the root to where the reader stands.
    open: Vec<Element>,
    root: Option<Element>,
    namespace: String,
    /// Depth in an element that is passed over.
    foreign: usize,
    count: usize,
}

impl Tree {
    fn begin(&mut self, start: &BytesStart<'_>, namespace: String) -> Result<(), String> {
        self.count += 1;
        if self.count > ELEMENTS_MAX {
            return Err(format!("more than {ELEMENTS_MAX} elements"));
        }
        if self.open.len() + self.foreign >= DEPTH_MAX {
            return Err(format!("elements lie more than {DEPTH_MAX} deep"));
        }
        if self.open.is_empty() {
            if self.root.is_some() {
                return Err("a second root element".to_owned());
            }
            self.namespace = namespace;
        } else if self.foreign > 0 || namespace != self.namespace {
            self.foreign += 1;
            return Ok(());
        }
        let mut element = Element {
            name: String::from_utf8_lossy(start.local_name().as_ref()).into_owned(),
            ..Element::default()
        };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            if attribute.key.as_ref() == b"Ccy" {
                let value = attribute.unescape_value().map_err(|error| error.to_string())?;
                element.currency = Some(value.into_owned());
            }
        }
        self.open.push(element);
        Ok(())
    }

    fn end(&mut self) {
        if self.foreign > 0 {
            self.foreign -= 1;
            return;
        }
        let Some(element) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        match self.open.last_mut() {
            Some(element) if self.foreign == 0 => element.text.push_str(text),
            None if !text.trim().is_empty() => return Err("text outside of the root element".to_owned()),
            _ => (),
        }
        Ok(())
    }

    fn finish(self) -> Result<(Element, String), String> {
        if !self.open.is_empty() {
            return Err("the text ends before its elements do".to_owned());
        }
        let root = self.root.ok_or_else(|| "no root element".to_owned())?;
        Ok((root, self.namespace))
    }
}
