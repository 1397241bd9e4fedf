//! What an execution asks of domains, and what it makes of their answers.

use std::sync::Arc;

use evidence::names::DomainName;
use governance::lease::LeaseEvent;
use governance::text::Text;

use super::Execution;
use super::parent;
use crate::clock::boottime_ms;
use crate::node::link::{Ask, Reply, ReplyTo};
use crate::node::refused::Refused;

impl Execution {
    /// Asks a domain. The lease is counted from here, before the request leaves: shorter, never longer.
    pub(super) fn ask(&mut self, domain: DomainName) -> LeaseEvent {
        self.pause.asked(&domain);
        // Whose lease is over is asked for a first authorization again: there is nothing to renew.
        let held = self.accepted.get(&domain).filter(|_| self.lease.live().contains_key(&domain));
        let held = held.map(|accepted| accepted.artifact.clone());
        let reply = ReplyTo { domain: domain.clone(), replies: self.reply_sender.clone() };
        self.vouchers.send_modify(|vouchers| vouchers.asked(&domain));
        let (parents, vouchers) = (self.parent.newest(), self.vouchers.subscribe());
        let ask = Ask { intent: Arc::clone(&self.intent), held, parents, vouchers, reply: reply.clone() };
        match self.node.link(&domain) {
            Some(link) if link.ask(ask) => {}
            Some(_) | None => {
                reply.send(Reply::Refused(Refused::fault("fault.verifier_unreachable", "no stream to the verifier")));
            }
        }
        LeaseEvent::Sent(domain)
    }

    pub(super) async fn replied(&mut self, domain: DomainName, reply: Reply) {
        match reply {
            Reply::Governance(state, log_size) => {
                if !self.lease.runs() {
                    self.narration.governance_synchronized(&domain, &state, log_size);
                }
            }
            Reply::Accepted(accepted, node_key) => {
                let grant = (&accepted.artifact).into();
                self.told.remove(&domain);
                let renewal = self.accepted.contains_key(&domain);
                self.narration.authorized(&domain, &accepted, renewal);
                self.verdicts.permitted(&domain, accepted.artifact.terms(), boottime_ms());
                self.vouchers.send_modify(|vouchers| vouchers.granted(&domain, &accepted, &node_key));
                self.accepted.insert(domain.clone(), *accepted);
                self.node_keys.insert(domain.clone(), node_key);
                self.hear(&domain, LeaseEvent::Granted(domain.clone(), grant)).await;
                if self.lease.runs() {
                    // beside those by whose word it started
                    self.keep_heard();
                }
                self.proven(&domain).await;
            }
            Reply::Refused(refused) => {
                self.vouchers.send_modify(|vouchers| vouchers.refused(&domain));
                self.tell_refusal(&domain, &refused);
                self.verdicts.refused(&domain, &refused);
                let ran = self.lease.runs();
                let renewal = self.lease.live().contains_key(&domain);
                if ran && let Some(code) = parent::over(&refused) {
                    self.orphan(code).await;
                    return;
                }
                let code = Text::new(refused.code.as_str()).ok().filter(|_| refused.is_denial());
                let event = match code {
                    Some(_) if renewal && refused.withdraws() => LeaseEvent::Withdrawn(domain.clone()),
                    Some(code) => LeaseEvent::Refused(domain.clone(), code),
                    None => LeaseEvent::Unanswered(domain.clone()),
                };
                self.hear(&domain, event).await;
                if refused.halt && !ran {
                    self.node.quarantined_by(&domain, &refused.code);
                }
            }
        }
    }

    /// Tells the client, but not each time that a domain, beside those that suffice, is asked again in vain.
    fn tell_refusal(&mut self, domain: &DomainName, refused: &Refused) {
        let beside = self.lease.runs() && !self.lease.live().contains_key(domain);
        let told = self.told.insert(domain.clone(), refused.code.clone());
        if !beside || told.as_ref() != Some(&refused.code) {
            self.narration.refused(refused);
        }
    }

    /// Gives the machine what a domain said, unless that waits for what the others say.
    async fn hear(&mut self, domain: &DomainName, event: LeaseEvent) {
        let Some(event) = self.verdicts.hear(domain, event) else { return };
        match self.verdicts.conflict().filter(|_| self.lease.runs()) {
            None => self.step(event).await,
            Some(conflict) => {
                self.narration.refused(&conflict.refusal());
                self.step(LeaseEvent::Trip(conflict.halt())).await;
            }
        }
    }
}
