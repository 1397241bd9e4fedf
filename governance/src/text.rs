//! Free text that peers choose: short and printable, so that it can stand in a log line or a terminal as it is.

use serde::{Deserialize, Serialize};

/// Longest text, in bytes.
pub const TEXT_CAP_BYTES: usize = 256;

/// One to [`TEXT_CAP_BYTES`] printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

/// Text was empty, too long, or not printable ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("text must be 1 to {TEXT_CAP_BYTES} printable ASCII characters; got {got_bytes} bytes")]
pub struct TextError {
    /// Length of what was given; it is not repeated because it is not trusted.
    pub got_bytes: usize,
}

impl Text {
    /// Admits `text` if it is short and printable.
    ///
    /// # Errors
    /// [`TextError`] otherwise.
    pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
        let text = text.into();
        let printable = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
        if text.is_empty() || text.len() > TEXT_CAP_BYTES || !printable {
            return Err(TextError { got_bytes: text.len() });
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = TextError;
    fn try_from(text: String) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl std::str::FromStr for Text {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_printable_text_is_admitted() {
        assert_eq!(Text::new("ops: rebuild 42").unwrap().as_str(), "ops: rebuild 42");
        for bad in ["", "a\nb", "\u{1b}[2J", "caf\u{e9}", "\u{7f}", &"a".repeat(257)] {
            assert!(Text::new(bad).is_err(), "{bad:?}");
        }
    }
}
