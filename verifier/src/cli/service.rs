//! The running service, as operators reach it: a Unix socket in its state folder.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use wire::proto::{OperatorAnswer, OperatorCommand, operator_client::OperatorClient, operator_command::Command};

use super::CommandError;
use crate::state::StateFolder;

/// Longest answer, in bytes: a proof bundle may be attached.
const ANSWER_CAP_BYTES: usize = 64 << 20;
/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// A connection to the service.
pub(super) struct Service(OperatorClient<Channel>);

/// What the service answered.
pub(super) struct Answer {
    /// The document to print.
    pub(super) document: Value,
    /// Bytes for a file.
    pub(super) attachment: Vec<u8>,
}

impl Service {
    /// Connects to the service whose state is in `state`.
    pub(super) async fn connect(state: &Path) -> Result<Self, CommandError> {
        let folder = StateFolder::open(state).map_err(|error| CommandError::fault("fault.state", error))?;
        let socket = folder.operator_socket();
        let endpoint = Endpoint::from_static("http://operator").timeout(DEADLINE).connect_timeout(DEADLINE);
        let path = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| {
            let what = format!("no verifier answers at {} (is `verifier serve` running?): {error}", socket.display());
            CommandError::fault("fault.service_unreachable", what)
        })?;
        Ok(Self(OperatorClient::new(channel).max_decoding_message_size(ANSWER_CAP_BYTES)))
    }

    /// Has the service do one thing.
    pub(super) async fn ask(&mut self, command: Command) -> Result<Answer, CommandError> {
        let command = OperatorCommand { command: Some(command) };
        let answer = self.0.run(command).await.map_err(|status| {
            CommandError::fault("fault.service", format!("{}: {}", status.code(), status.message()))
        })?;
        let OperatorAnswer { json, attachment, refusal } = answer.into_inner();
        let document = if json.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&json).map_err(|error| CommandError::fault("fault.service", error))?
        };
        match refusal {
            None => Ok(Answer { document, attachment }),
            Some(refusal) if refusal.class == "denied" => {
                Err(CommandError::Denied { code: refusal.code, detail: document })
            }
            Some(refusal) => {
                let what = document.as_str().map_or_else(|| document.to_string(), str::to_owned);
                Err(CommandError::Fault { code: refusal.code, what })
            }
        }
    }
}

/// A field of an answer that must be there.
pub(super) fn field<'a>(document: &'a Value, name: &str) -> Result<&'a Value, CommandError> {
    document
        .get(name)
        .ok_or_else(|| CommandError::fault("fault.service", format!("the service's answer has no field {name}")))
}

/// A text field of an answer that must be there.
pub(super) fn text<'a>(document: &'a Value, name: &str) -> Result<&'a str, CommandError> {
    let not_text = || CommandError::fault("fault.service", format!("the service's answer has no text {name}"));
    field(document, name)?.as_str().ok_or_else(not_text)
}

/// A number of an answer that must be there.
pub(super) fn number(document: &Value, name: &str) -> Result<u64, CommandError> {
    let not_number = || CommandError::fault("fault.service", format!("the service's answer has no number {name}"));
    field(document, name)?.as_u64().ok_or_else(not_number)
}
