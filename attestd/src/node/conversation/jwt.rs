//! JWT-SVIDs asked for on a stream.

use std::sync::Arc;

use wire::bounded::verifier::VerifierAnswer as Answer;
use wire::proto::{self, node_message::Message};

use super::{Conversation, unexpected_instead};
use crate::clock::unix_now;
use crate::node::jwt_svid::{GivenJwt, JwtWanted};
use crate::node::link::JwtAsk;
use crate::node::refused::Refused;

impl Conversation<'_> {
    /// One JWT-SVID. An error ends the stream; whoever asked was told by then.
    pub(super) async fn identify(&mut self, ask: JwtAsk) -> Result<(), Refused> {
        let JwtAsk { intent, artifact, audiences, reply } = ask;
        let wanted = JwtWanted { intent: &intent, artifact, audiences: &audiences };
        let (told, ended) = match self.jwt_svid(wanted).await {
            Ok(told) => (told, Ok(())),
            Err(broken) => (Err(broken.clone()), Err(broken)),
        };
        if let Err(refused) = &told
            && refused.halt
        {
            self.node.quarantined_by(&self.domain.name, &refused.code);
        }
        let _ = reply.send(told.map(Arc::new)); // whoever asked may be gone
        ended
    }

    /// The outer error ends the stream, the inner one only this request.
    async fn jwt_svid(&mut self, wanted: JwtWanted<'_>) -> Result<Result<GivenJwt, Refused>, Refused> {
        let lineage_head = self.node.state.lineage_head(&self.domain.name)?.as_bytes().to_vec();
        let (artifact, audience) = (wanted.artifact.0.to_vec(), wanted.audiences.to_vec());
        self.send(Message::AskJwtSvid(proto::AskJwtSvid { artifact, audience, lineage_head })).await?;
        match self.next_answer().await?.answer {
            Answer::JwtSvid(answer) => {
                let given = {
                    let mut seen = self.seen.lock().await;
                    let given = self.domain.accept_jwt(&answer, wanted, &mut seen, unix_now());
                    let given = self.node.judged(self.domain, given).await?;
                    self.node.remember_seen(&self.domain.name, &seen)?;
                    given
                };
                self.node.advance_lineage(&self.domain.name, answer.lineage_head)?;
                Ok(Ok(given))
            }
            Answer::Refusal(refusal) => self.refused(refusal).map(Err),
            other @ (Answer::Welcome(_)
            | Answer::Challenge(_)
            | Answer::Authorization(_)
            | Answer::Recorded(_)
            | Answer::Push(_)
            | Answer::Readmission { .. }) => Err(unexpected_instead(&other, "a JWT-SVID")),
        }
    }
}
