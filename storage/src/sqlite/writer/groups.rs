//! A group of units: one transaction over it, and the answers; or each by itself, where there is no room
//! for all of them.
//!
//! What follows from an error is left to `writer.rs`.

use super::super::fault::{Fault, Trouble};
use super::super::jobs::Waiting;
use super::super::room::{Sake, has_room};
use super::super::rows::Meta;
use super::super::sweep::{self, Slice};
use super::super::tables::Tables;
use super::Writer;
use crate::plan::{Verdict, decide};
use crate::reserve::Payer;
use crate::unit::Outcome;
use crate::{LogChange, StoreError};

type Answers = Vec<Result<Outcome, StoreError>>;

impl Writer {
    /// Decides, commits and answers one group.
    pub(super) fn settle(&mut self, group: Vec<Waiting>) {
        let answers = self.answers(&group);
        self.shared.count_group(group.len());
        for (waiting, answer) in group.into_iter().zip(answers) {
            waiting.promise.keep(answer);
        }
        self.logs.bound();
        // After the answers: they need not wait for it.
        if self.failed.is_none() {
            self.checkpoint_if_due();
        }
    }

    fn answers(&mut self, group: &[Waiting]) -> Answers {
        let sake = if group.len() > 1 { Sake::Nobody } else { Sake::Anybody };
        match self.attempts(group, sake) {
            Ok(answers) => answers,
            Err(StoreError::NoSpace(_)) => group.iter().map(|one| self.alone(one)).collect(),
            Err(error) => vec![Err(error); group.len()],
        }
    }

    /// One unit by itself, on a log that is begun anew: so what somebody takes back needs no more room at a
    /// time than one unit does, however many it is made of. What is the operator's has a part of the
    /// reserve in which the others have none, and nothing of that is given up before the log was begun anew
    /// in spite of who reads: beside a reader it only grows.
    fn alone(&mut self, waiting: &Waiting) -> Result<Outcome, StoreError> {
        let steps: &[(&str, Sake)] = match waiting.unit.payer {
            Payer::Operator => &[
                ("PASSIVE", Sake::Nobody),
                // Waits for readers, not for longer than for another process.
                ("RESTART", Sake::Nobody),
                ("PASSIVE", Sake::Operator),
            ],
            _ => &[("PASSIVE", Sake::Anybody)],
        };
        let mut done = Err(StoreError::NoSpace(self.room.lack()));
        for (mode, sake) in steps {
            // With less than is given up for its own sake the log may not be begun anew, and then it does
            // not fit.
            if self.failed.is_none() {
                self.checkpoint(mode, *sake);
            }
            done = self.attempts(std::slice::from_ref(waiting), *sake);
            if !matches!(done, Err(StoreError::NoSpace(_))) {
                break;
            }
        }
        done?.pop().unwrap_or(Err(StoreError::Stopped))
    }

    /// Tries until it is done, or there is nothing more to be given up for this sake.
    fn attempts(&mut self, group: &[Waiting], sake: Sake) -> Result<Answers, StoreError> {
        loop {
            if let Some(reason) = &self.failed {
                return Err(StoreError::Failed { reason: reason.clone() });
            }
            let error = match self.attempt(group, sake) {
                // Whoever is answered finds it there; and what comes next may fail, and forget it.
                Ok(answers) => {
                    self.shared.tell(self.logs.take_changes());
                    return Ok(answers);
                }
                Err(error) => error,
            };
            match self.handle(&error, sake) {
                (Trouble::Full(_), true) | (Trouble::Index, _) => {}
                (Trouble::Full(lack), false) => return Err(StoreError::NoSpace(lack)),
                (Trouble::Busy, _) => return Err(StoreError::Busy),
                (Trouble::FullLate | Trouble::Fatal, _) => {
                    // It may be there, and nobody is told what it has made of logs.
                    self.shared.tell(vec![LogChange::Unsure]);
                    return Err(StoreError::Failed { reason: error.to_string() });
                }
            }
        }
    }

    /// One transaction over the group, or what of it is done for this sake. On an error nothing of it
    /// is done.
    fn attempt(&mut self, group: &[Waiting], sake: Sake) -> rusqlite::Result<Answers> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut answers = Vec::with_capacity(group.len());
        let (mut counters, mut sweeping, mut wrote) = (self.meta.counters, self.sweeping, false);
        let mut ledger = self.room.ledger_if_tight();
        let rows = self.shared.rows(&self.connection);
        let mut tables = Tables::of(rows, &mut self.logs);
        for Waiting { unit, .. } in group {
            let verdict = match decide(unit, counters, &mut tables) {
                Ok(verdict) => verdict,
                Err(Fault::Sqlite(error)) => return Err(error),
                // Of what this unit asks about: nothing of it was written, the others go on.
                Err(Fault::Damaged(what)) => {
                    answers.push(Err(StoreError::Damaged { what }));
                    continue;
                }
            };
            answers.push(match verdict {
                Verdict::Answer(outcome) => Ok(outcome),
                Verdict::Commit(_) if !has_room(unit, sake, &mut ledger, &mut tables)? => {
                    Err(StoreError::NoSpace(self.room.lack()))
                }
                Verdict::Commit(plan) => {
                    counters = plan.counters;
                    wrote = true;
                    sweeping |= unit.ops.iter().any(sweep::follows);
                    Ok(tables.carry_out(unit, plan)?)
                }
            });
        }
        if wrote {
            tables.finish_group(&Meta { counters, ..self.meta.clone() })?;
            // It would need more room than the unit; it has time until nothing else waits.
            if sweeping && ledger.is_none() {
                sweeping = sweep::sweep(rows, counters.dedup_floor, Slice::LARGE)?;
                tables.logs.forget_senders();
            }
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        // What was swept, and how far, is true only now.
        (self.meta.counters, self.sweeping) = (counters, sweeping);
        if let Some(ledger) = ledger {
            self.room.ledger = ledger;
        }
        if wrote {
            self.shared.count_sync();
        }
        Ok(answers)
    }
}
