//! Event logs of trust domains in JSON, as dstack's guest agent writes them: an import, whose events are digests and
//! names without the structures of the firmware's own log.

use serde::Deserialize;

use super::cc::RTMRS;
use crate::{
    denial::EvidenceDenial,
    digest::{Digest, HashAlg},
};

/// Longest log in JSON.
pub const TDX_JSON_CAP_BYTES: usize = 1 << 20;
/// Most events.
const EVENTS_CAP: usize = 4096;
/// Type of events that software adds at run time, whose digest covers type, name and payload.
const RUNTIME: u32 = 0x0800_0001;

/// A log in JSON, with a digest for every event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxJsonLog {
    events: Vec<TdxJsonEvent>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxJsonEvent {
    /// RTMR that it was extended into, 0 to 3.
    pub rtmr: u8,
    /// Type: a firmware's, or 0x08000001 for software's own.
    pub event_type: u32,
    /// SHA-384 that was extended.
    pub digest: Digest,
    /// Name; covered by the digest of events of software alone.
    pub event: String,
    /// Payload; covered by the digest of events of software alone.
    pub payload: Vec<u8>,
}

impl TdxJsonLog {
    /// Reads a JSON array of events.
    ///
    /// # Errors
    /// [`EvidenceDenial::TooLarge`], [`EvidenceDenial::TooMany`], [`EvidenceDenial::Malformed`] for what is no such
    /// log, [`EvidenceDenial::EventDataMismatch`] when a run-time event states another digest than its contents have.
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceDenial> {
        if bytes.len() > TDX_JSON_CAP_BYTES {
            let (got_bytes, cap_bytes) = (bytes.len(), TDX_JSON_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "event log", got_bytes, cap_bytes });
        }
        let texts: Vec<EventText> = serde_json::from_slice(bytes).map_err(|error| EvidenceDenial::Malformed {
            structure: "event log",
            offset: error.column(),
            what: "JSON array of events",
        })?;
        if texts.len() > EVENTS_CAP {
            return Err(EvidenceDenial::TooMany { part: "event log events", cap: EVENTS_CAP });
        }
        let events = texts.into_iter().enumerate().map(|(index, text)| text.read(index)).collect::<Result<_, _>>()?;
        Ok(Self { events })
    }

    /// All events in order.
    #[must_use]
    pub fn events(&self) -> &[TdxJsonEvent] {
        &self.events
    }

    /// The values of RTMR0 to RTMR3 that the log leads to.
    #[must_use]
    pub fn replay(&self) -> [Digest; RTMRS] {
        let mut values = [Digest::zero(HashAlg::Sha384); RTMRS];
        for event in &self.events {
            if let Some(value) = values.get_mut(usize::from(event.rtmr)) {
                *value = value.extend(event.digest.as_bytes());
            }
        }
        values
    }

    /// E3: the log leads to every RTMR of a quote.
    ///
    /// # Errors
    /// [`EvidenceDenial::RtmrReplayMismatch`] for the first that it does not lead to.
    pub fn verify_replay(&self, quoted: &[&[u8; 48]; RTMRS]) -> Result<(), EvidenceDenial> {
        for ((rtmr, got), quoted) in (0u8..).zip(self.replay()).zip(quoted) {
            if got.as_bytes() != *quoted {
                let zero = Digest::zero(HashAlg::Sha384);
                let quoted = Box::new(Digest::from_bytes(HashAlg::Sha384, *quoted).unwrap_or(zero));
                return Err(EvidenceDenial::RtmrReplayMismatch { rtmr, got: Box::new(got), quoted });
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventText {
    imr: u8,
    event_type: u32,
    digest: String,
    event: String,
    event_payload: String,
}

impl EventText {
    fn read(self, index: usize) -> Result<TdxJsonEvent, EvidenceDenial> {
        let malformed = |what| EvidenceDenial::Malformed { structure: "event log", offset: index, what };
        let payload = hex::decode(&self.event_payload).map_err(|_| malformed("payload in hexadecimal"))?;
        if usize::from(self.imr) >= RTMRS {
            return Err(malformed("no such register"));
        }
        let type_bytes = self.event_type.to_le_bytes();
        let own = HashAlg::Sha384.hash(&[&type_bytes, b":", self.event.as_bytes(), b":", &payload]);
        let stated = hex::decode(&self.digest).map_err(|_| malformed("digest in hexadecimal"))?;
        let digest = match (stated.is_empty(), self.event_type) {
            (true, RUNTIME) => own,
            (true, _) => return Err(malformed("an event of firmware without a digest")),
            (false, _) => Digest::from_bytes(HashAlg::Sha384, &stated).ok_or_else(|| malformed("a SHA-384 digest"))?,
        };
        if self.event_type == RUNTIME && digest != own {
            return Err(EvidenceDenial::EventDataMismatch {
                event: index,
                pcr: u32::from(self.imr).saturating_add(1),
                kind: "run-time event",
                got: Box::new(own),
                recorded: Box::new(digest),
            });
        }
        Ok(TdxJsonEvent { rtmr: self.imr, event_type: self.event_type, digest, event: self.event, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denial::EvidenceDenialKind as Kind;

    fn event(imr: u8, event_type: u32, digest: &str, payload: &str) -> String {
        format!(
            r#"{{"imr":{imr},"event_type":{event_type},"digest":"{digest}","event":"app-id","event_payload":"{payload}"}}"#
        )
    }

    #[test]
    fn run_time_events_are_hashed_and_firmware_events_state_their_digest() {
        let firmware = "ab".repeat(48);
        let text = format!("[{},{}]", event(0, 4, &firmware, ""), event(3, RUNTIME, "", "0102"));
        let log = TdxJsonLog::parse(text.as_bytes()).unwrap();
        let own = HashAlg::Sha384.hash(&[&[1, 0, 0, 8], b":app-id:", &[1, 2]]);
        let zero = Digest::zero(HashAlg::Sha384);
        assert_eq!(log.replay(), [zero.extend(&[0xab; 48]), zero, zero, zero.extend(own.as_bytes())]);
        let values = log.replay().map(|value| <[u8; 48]>::try_from(value.as_bytes()).unwrap());
        let [a, b, c, d] = &values;
        assert_eq!(log.verify_replay(&[a, b, c, d]), Ok(()));
        for quoted in [[b, b, c, d], [a, a, c, d], [a, b, a, d], [a, b, c, a]] {
            assert_eq!(Kind::from(&log.verify_replay(&quoted).unwrap_err()), Kind::RtmrReplayMismatch);
        }
        // a stated digest of a run-time event is held against its contents
        let stated = format!("[{}]", event(3, RUNTIME, &own.hex(), "0102"));
        assert_eq!(TdxJsonLog::parse(stated.as_bytes()).unwrap().events().len(), 1);
        let kind = |text: String| Kind::from(&TdxJsonLog::parse(text.as_bytes()).unwrap_err());
        assert_eq!(kind(format!("[{}]", event(3, RUNTIME, &own.hex(), "0103"))), Kind::EventDataMismatch);
        for text in [
            String::new(),
            "{}".into(),
            format!("[{}]", event(4, RUNTIME, "", "")),
            format!("[{}]", event(0, 4, "", "")),
            format!("[{}]", event(0, 4, "abcd", "")),
            format!("[{}]", event(0, 4, &firmware, "0")),
            format!("[{}]", event(0, 4, &firmware, "").replace('}', r#","more":1}"#)),
        ] {
            assert_eq!(kind(text.clone()), Kind::Malformed, "{text}");
        }
        let many = vec![event(0, 4, &firmware, ""); EVENTS_CAP + 1].join(",");
        assert_eq!(kind(format!("[{many}]")), Kind::TooMany);
        assert_eq!(kind(" ".repeat(TDX_JSON_CAP_BYTES + 1)), Kind::TooLarge);
    }
}
