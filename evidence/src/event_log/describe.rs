//! What an event says of itself, for people. Never an input to a decision; always escaped and short.

use super::{
    event::{Event, EventType},
    uefi::Variable,
};

/// Longest description, in characters.
const CAP_CHARACTERS: usize = 200;

impl Event<'_> {
    /// The event in one line of printable ASCII: variable name, path, command or hexadecimal.
    #[must_use]
    pub fn description(&self) -> String {
        let kind = self.kind();
        let text = if let Some(variable) = self.variable() {
            Some(describe_variable(&variable))
        } else if kind == EventType::EfiPlatformFirmwareBlob {
            firmware_blob(self.data())
        } else if matches!(
            kind,
            EventType::EfiBootServicesApplication
                | EventType::EfiBootServicesDriver
                | EventType::EfiRuntimeServicesDriver
        ) {
            image_path(self.data())
        } else if kind == EventType::EventTag {
            tagged(self.data())
        } else if kind == EventType::NoAction {
            // A signature of 16 bytes says what it is.
            self.data().split_first_chunk::<16>().and_then(|(signature, _)| text(signature))
        } else if matches!(kind, EventType::Separator | EventType::EfiGptEvent | EventType::EfiGptEvent2) {
            None
        } else {
            text(self.data())
        };
        text.unwrap_or_else(|| hexadecimal(self.data()))
    }
}

fn describe_variable(variable: &Variable<'_>) -> String {
    let name = utf16(variable.name).unwrap_or_else(|| hexadecimal(variable.name));
    match variable.data {
        [value] => format!("{name} = {value} ({})", variable.guid),
        data => format!("{name}, {} bytes ({})", data.len(), variable.guid),
    }
}

/// UEFI_PLATFORM_FIRMWARE_BLOB: base address and length.
fn firmware_blob(data: &[u8]) -> Option<String> {
    let (base, rest) = data.split_first_chunk::<8>()?;
    let length = rest.first_chunk::<8>()?;
    Some(format!("{:#x}, {} bytes", u64::from_le_bytes(*base), u64::from_le_bytes(*length)))
}

/// TCG_PCClientTaggedEvent (PFP §10.4.2): an id, a length and data, which of Linux's EFI stub is text.
fn tagged(data: &[u8]) -> Option<String> {
    let (_, rest) = data.split_first_chunk::<4>()?;
    let (length, tagged) = rest.split_first_chunk::<4>()?;
    (usize::try_from(u32::from_le_bytes(*length)) == Ok(tagged.len())).then(|| text(tagged))?
}

/// The file path at the end of a UEFI_IMAGE_LOAD_EVENT's device path (PFP §10.2.3; UEFI §10.3.5.4).
fn image_path(data: &[u8]) -> Option<String> {
    let mut nodes = data.get(32..)?;
    let mut path = String::new();
    while let Some(([kind, subtype, low, high], _)) = nodes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let (node, rest) = nodes.split_at_checked(length).filter(|_| length >= 4)?;
        if (*kind, *subtype) == (4, 4) {
            path.push_str(&utf16(node.get(4..)?)?);
        }
        nodes = rest;
    }
    Some(path).filter(|path| !path.is_empty())
}

/// Text in UTF-8 or UTF-16, whichever it is, with any number of NULs at its end.
fn text(data: &[u8]) -> Option<String> {
    let end = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    match std::str::from_utf8(data.get(..end)?) {
        Ok(text) if !text.is_empty() && !text.contains('\0') => Some(escaped(text.chars())),
        _ => utf16(data),
    }
}

/// UTF-16LE text, if it is text and has nothing after its end.
fn utf16(data: &[u8]) -> Option<String> {
    if data.is_empty() || !data.len().is_multiple_of(2) {
        return None;
    }
    let units = data.chunks_exact(2).filter_map(|unit| <[u8; 2]>::try_from(unit).ok()).map(u16::from_le_bytes);
    let text = String::from_utf16(&units.collect::<Vec<_>>()).ok()?;
    let text = text.trim_end_matches('\0');
    let is_text = !text.is_empty() && !text.contains('\0');
    is_text.then(|| escaped(text.chars()))
}

/// Printable ASCII as it is, everything else as an escape: safe in terminals, logs and file names.
fn escaped(text: impl Iterator<Item = char>) -> String {
    let mut out = String::new();
    for c in text {
        if out.len() >= CAP_CHARACTERS {
            out.push_str("...");
            break;
        }
        match c {
            ' '..='[' | ']'..='~' => out.push(c),
            other => out.extend(other.escape_default()),
        }
    }
    out
}

fn hexadecimal(data: &[u8]) -> String {
    let shown = data.get(..32).unwrap_or(data);
    let more = if shown.len() < data.len() { "..." } else { "" };
    format!("{}{more}", hex::encode(shown))
}
