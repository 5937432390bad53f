//! XML on its way out: elements in order, text escaped.

use std::fmt::Display;

/// A document that is being written.
#[derive(Debug)]
pub(super) struct Xml {
    text: String,
    open: Vec<&'static str>,
}

impl Xml {
    /// A `Document` in this message's namespace.
    pub(super) fn document(message: &str) -> Self {
        let namespace = super::message::namespace(message);
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Document xmlns=\"{namespace}\">");
        Self { text, open: vec!["Document"] }
    }

    /// Closes what is open.
    pub(super) fn finish(mut self) -> String {
        while let Some(name) = self.open.pop() {
            self.end(name);
        }
        self.text.push('\n');
        self.text
    }

    /// An element with what `inside` writes.
    pub(super) fn within(&mut self, name: &'static str, inside: impl FnOnce(&mut Self)) {
        self.begin(name);
        inside(self);
        self.open.pop();
        self.end(name);
    }

    /// Opens an element that [`finish`](Self::finish) closes.
    pub(super) fn begin(&mut self, name: &'static str) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push('>');
        self.open.push(name);
    }

    /// An element with text.
    pub(super) fn put(&mut self, name: &'static str, text: impl Display) {
        self.within(name, |xml| xml.escape(&text.to_string()));
    }

    /// The same for text of free length: cut to `most` characters.
    pub(super) fn put_short(&mut self, name: &'static str, text: &str, most: usize) {
        self.put(name, text.chars().take(most).collect::<String>());
    }

    /// An amount with its currency.
    pub(super) fn amount(&mut self, name: &'static str, amount: &str, currency: &str) {
        self.text.push_str(&format!("<{name} Ccy=\"{currency}\">"));
        self.escape(amount);
        self.end(name);
    }

    fn end(&mut self, name: &str) {
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }

    /// XML 1.0 has no way to write control characters: each becomes U+FFFD.
    fn escape(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '\r' => self.text.push_str("&#13;"),
                '\t' | '\n' | '\u{20}'..='\u{fffd}' | '\u{10000}'.. => self.text.push(character),
                _ => self.text.push('\u{fffd}'),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Xml;

    #[test]
    fn text_cannot_leave_its_element() {
        let mut xml = Xml::document("m");
        xml.begin("A");
        xml.put("B", "</B>&<x y=\"z\">\u{0}\u{7}\u{ffff}");
        xml.put_short("C", "日本語", 2);
        xml.amount("D", "1.00", "CNY");
        let text = xml.finish();
        let (read, namespace) = super::super::tree::parse(&text).unwrap();
        assert_eq!(
            (read.name.as_str(), namespace.as_str()),
            ("Document", "urn:iso:std:iso:20022:tech:xsd:m")
        );
        let texts: Vec<&str> = read.children[0].children.iter().map(|child| child.text.as_str()).collect();
        assert_eq!(texts, ["</B>&<x y=\"z\">\u{fffd}\u{fffd}\u{fffd}", "日本", "1.00"]);
    }
}
