//! What exactly was wrong, said in the languages that titles exist in.
//!
//! [`said!`] takes both texts side by side, so that neither is there without the other. What comes from below (the reader of JSON, the
//! ledger's rules, a server) has its own words, which are English.

use std::borrow::Cow;
use std::fmt::Arguments;

use crate::problem::Language;

/// See the module.
#[derive(Debug, Clone)]
pub struct Detail {
    english: Cow<'static, str>,
    /// None where only English is known.
    chinese: Option<Cow<'static, str>>,
}

impl Detail {
    /// The same in both languages; a text without figures is not copied.
    #[cold]
    pub(crate) fn both(english: Arguments<'_>, chinese: Arguments<'_>) -> Self {
        let text = |text: Arguments<'_>| text.as_str().map_or_else(|| text.to_string().into(), Cow::Borrowed);
        Self { english: text(english), chinese: Some(text(chinese)) }
    }

    /// Words from below, and what says the same in Chinese.
    pub(crate) fn beside(words: String, chinese: &'static str) -> Self {
        Self { english: words.into(), chinese: Some(chinese.into()) }
    }

    /// In `language`, as far as it is known.
    #[must_use]
    pub fn text(&self, language: Language) -> &str {
        match (language, &self.chinese) {
            (Language::Chinese, Some(chinese)) => chinese,
            _ => &self.english,
        }
    }
}

/// The words of whatever is below, in English alone.
impl From<String> for Detail {
    fn from(words: String) -> Self {
        Self { english: words.into(), chinese: None }
    }
}

/// A detail in English and Chinese, both with the same figures.
macro_rules! said {
    ($english:literal, $chinese:literal) => {{
        const { assert!($english.is_ascii() && !$chinese.is_ascii(), "first English, then Chinese") };
        $crate::detail::Detail::both(format_args!($english), format_args!($chinese))
    }};
}

pub(crate) use said;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_language_has_its_text_and_the_same_figures() {
        let most = 7;
        let said = said!("at most {most} transfers", "最多 {most} 笔交易");
        assert_eq!(said.text(Language::English), "at most 7 transfers");
        assert_eq!(said.text(Language::Chinese), "最多 7 笔交易");
        let words = Detail::from("expected `,`".to_owned());
        assert_eq!(words.text(Language::Chinese), words.text(Language::English));
    }

    #[test]
    fn what_has_no_figures_is_not_copied() {
        let said = said!("negative", "为负数");
        assert!(matches!((said.english, said.chinese), (Cow::Borrowed(_), Some(Cow::Borrowed(_)))));
    }

    /// Only words from below may be in English alone: what is written here is written in both.
    #[test]
    fn no_detail_is_written_in_one_language() {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs")
                    && !path.ends_with("src/detail.rs")
                {
                    let text: String = std::fs::read_to_string(&path).unwrap().split_whitespace().collect();
                    for alone in [".detail(format!", ".detail(\"", "wrong(format!", "Detail::from(\""] {
                        assert!(!text.contains(alone), "{alone} in {}", path.display());
                    }
                    seen += text.matches("said!(").count();
                }
            }
        }
        assert!(seen > 50, "{seen} details");
    }
}
