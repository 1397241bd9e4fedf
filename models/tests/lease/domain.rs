//! A verifier: judge, commit, have the log witnessed, answer; and what its operator does.

use super::{
    Bug, LeaseModel,
    world::{Breach, Decision, Message, ReadmissionStatement, Row, Stage, Verdict, World},
};

impl LeaseModel {
    /// A request arrives: refused at once, or on its way to an answer.
    pub(crate) fn judge(&self, world: &mut World, ask: Message) {
        let Message::Ask { domain, copy, attempt, head, renews, good } = ask else { return };
        let now = world.now;
        let d = &mut world.domains[domain];
        if d.down || d.decision.is_some() {
            return; // as if it was lost
        }
        let database = &mut d.database;
        let continuous = head == database.head || head == database.acknowledged;
        let over = renews.is_some_and(|id| database.rows.get(usize::from(id)).is_none_or(|row| row.ended))
            && !self.has(Bug::RenewalAfterRevocation);
        if database.quarantined || !continuous || !good || over {
            if let Some(id) = renews {
                // A refused renewal ends what was authorized and quarantines the node.
                if let Some(row) = database.rows.get_mut(usize::from(id)) {
                    row.ended = true;
                    d.denied.entry(id).or_insert(now);
                }
                database.quarantined = true;
            }
            world.network.insert(Message::Refused { domain, copy, attempt });
            return;
        }
        let (id, seq) = match renews {
            Some(id) => (id, database.rows[usize::from(id)].seq + 1),
            None => (u8::try_from(database.rows.len()).expect("few"), 1),
        };
        let verdict = Verdict { domain, id, seq, epoch: database.epoch, issued: now };
        d.decision = Some(Decision { stage: Stage::Judged, copy, attempt, head, renews, verdict });
        if !self.config.stepwise {
            while world.domains[domain].decision.is_some() {
                self.proceed(world, domain);
            }
        }
    }

    /// The next step of a decision: commit → witness → answer.
    pub(crate) fn proceed(&self, world: &mut World, domain: usize) {
        let d = &mut world.domains[domain];
        let Some(decision) = &mut d.decision else { return };
        let early = self.has(Bug::AnswerBeforeCommit) && decision.stage == Stage::Judged;
        match decision.stage {
            Stage::Judged if !early => {
                let moved = d.database.epoch != decision.verdict.epoch;
                if moved && !self.has(Bug::EpochNotReadAgain) {
                    d.decision = None; // a fault: nobody is answered
                    return;
                }
                let Verdict { id, seq, .. } = decision.verdict;
                if moved {
                    world.breaches.insert(Breach::VerdictOfAnotherEpoch);
                }
                match decision.renews {
                    // Compare-and-swap: it is still in force, and nobody took this number.
                    Some(id) => {
                        let row = &mut d.database.rows[usize::from(id)];
                        if (row.ended && !self.has(Bug::RenewalAfterRevocation)) || row.seq + 1 != seq {
                            d.decision = None;
                            return;
                        }
                        row.seq = seq;
                    }
                    None => d.database.rows.push(Row { seq, ended: false }),
                }
                d.database.log += 1;
                d.database.acknowledged = decision.head;
                d.database.head = d.database.log;
                d.committed.insert((id, seq));
                decision.stage = Stage::Committed;
            }
            Stage::Committed if !self.has(Bug::AnswerBeforeWitness) => {
                d.witnessed = d.witnessed.max(d.database.log);
                decision.stage = Stage::Witnessed;
            }
            Stage::Judged | Stage::Committed | Stage::Witnessed => {
                let Decision { copy, attempt, verdict, .. } = *decision;
                let number = (verdict.id, verdict.seq);
                let recorded = d.committed.contains(&number);
                if !recorded || d.witnessed < d.database.log {
                    world.breaches.insert(Breach::AnswerBeforeRecord);
                }
                if !d.answered.insert(number) {
                    world.breaches.insert(Breach::SequenceWentBack);
                }
                let head = d.database.head;
                d.decision = None;
                world.network.insert(Message::Granted { copy, attempt, verdict, head });
            }
        }
    }

    /// An operator takes back the newest authorization; the push may be lost.
    pub(crate) fn revoke(&self, world: &mut World, domain: usize) {
        let (now, copies) = (world.now, world.copies.len());
        let d = &mut world.domains[domain];
        let Some(id) = d.database.rows.len().checked_sub(1) else { return };
        d.database.rows[id].ended = true;
        let id = u8::try_from(id).expect("few");
        d.denied.entry(id).or_insert(now);
        d.database.log += 1;
        world.network.extend((0..copies).map(|copy| Message::Revoked { domain, copy, id }));
    }

    pub(crate) fn halt_reported(&self, world: &mut World, domain: usize) {
        let now = world.now;
        let d = &mut world.domains[domain];
        d.database.quarantined = true;
        for (id, row) in (0_u8..).zip(&mut d.database.rows) {
            row.ended = true;
            d.denied.entry(id).or_insert(now);
        }
    }

    /// Some of the authority's keys sign a readmission; who gets it looks for itself.
    pub(crate) fn readmit(&self, world: &mut World, copy: usize, signers: u8) {
        let sequence = world.domains[0].database.sequence_min;
        let statement = ReadmissionStatement { answers: (copy, world.copies[copy].halts), sequence, signers };
        for d in &mut world.domains {
            if self.readmissions.admits(statement, d.database.sequence_min, self.bug) {
                d.database.sequence_min = statement.sequence + 1;
                d.database.quarantined = false;
                d.database.epoch += 1;
            }
        }
        world.network.insert(Message::Readmitted { copy, statement });
    }

    /// Killed and started again: what was not committed is gone.
    pub(crate) fn restart_verifier(&self, world: &mut World, domain: usize) {
        world.domains[domain].decision = None;
    }

    /// Started on a copy of its database from before: it compares that with what others cosigned of its log.
    pub(crate) fn restore(&self, world: &mut World, domain: usize) {
        let d = &mut world.domains[domain];
        let Some(backup) = d.backup.take() else { return };
        d.decision = None;
        d.database = *backup;
        d.down = d.database.log < d.witnessed && !self.has(Bug::OldDatabaseServes);
    }
}
