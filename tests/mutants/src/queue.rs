// SPDX-License-Identifier: GPL-2.0
//! Which mutants are tried next: those whose next step is in one machine go together.

use crate::mutant::Mutant;
use crate::plan::Step;
use crate::results::{Record, Verdict};

/// So often may a step of a mutant come to no end, as the first in its machine or by itself.
const CHANCES: usize = 2;

/// What is to be done for one mutant, and what is known of it.
pub struct Job {
    pub mutant: Mutant,
    steps: Vec<Step>,
    pub record: Record,
    /// How often its next step came to no end.
    pub in_vain: usize,
}

impl Job {
    pub fn new(mutant: Mutant, steps: Vec<Step>, record: Record) -> Self {
        Self {
            mutant,
            steps,
            record,
            in_vain: 0,
        }
    }

    /// The first step that was not run; none if it is known what becomes of the mutant.
    pub fn next(&self) -> Option<&Step> {
        match self.record.verdict() {
            Verdict::Caught(_) | Verdict::Unbuildable => None,
            Verdict::Survived | Verdict::Unknown => self
                .steps
                .iter()
                .find(|step| !self.record.has(&step.name())),
        }
    }

    pub fn in_vain(&self) -> bool {
        self.in_vain >= CHANCES
    }

    /// The machine of its next step, if that is in one.
    fn machine(&self) -> Option<&str> {
        match self.next() {
            Some(Step::Machine { name, .. }) => Some(name),
            _ => None,
        }
    }
}

pub struct Queue {
    waiting: Vec<Job>,
    /// How many are with a worker.
    taken: usize,
    batch: usize,
}

impl Queue {
    pub fn new(jobs: Vec<Job>, batch: usize) -> Self {
        let waiting = jobs
            .into_iter()
            .filter(|job| job.next().is_some())
            .collect();
        Self {
            waiting,
            taken: 0,
            batch: batch.max(1),
        }
    }

    /// The first that waits, and others for its machine. Nobody, if the others must come back first;
    /// `None` if all is done.
    pub fn take(&mut self) -> Option<Vec<Job>> {
        if self.waiting.is_empty() {
            return (self.taken > 0).then(Vec::new);
        }
        let first = self.waiting.remove(0);
        let machine = first.machine().map(str::to_owned);
        // What came to no end is alone with its machine.
        let batch = if first.in_vain > 0 { 1 } else { self.batch };
        let mut jobs = vec![first];
        if machine.is_some() {
            let mut at = 0;
            while at < self.waiting.len() && jobs.len() < batch {
                let other = &self.waiting[at];
                if other.machine() == machine.as_deref() && other.in_vain == 0 {
                    jobs.push(self.waiting.remove(at));
                } else {
                    at += 1;
                }
            }
        }
        self.taken += jobs.len();
        Some(jobs)
    }

    /// These were tried; what is not done yet waits again, behind the others.
    pub fn give_back(&mut self, jobs: Vec<Job>) {
        self.taken -= jobs.len();
        self.waiting.extend(
            jobs.into_iter()
                .filter(|job| job.next().is_some() && !job.in_vain()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::Edit;
    use crate::mutant::Origin;

    fn job(name: &str, step: &Step) -> Job {
        let mutant = Mutant {
            origin: Origin::Hand,
            name: name.to_owned(),
            class: String::new(),
            file: String::new(),
            what: String::new(),
            place: String::new(),
            first: None,
            text: String::new(),
            edit: Edit {
                range: 0..0,
                with: String::new(),
            },
        };
        Job::new(mutant, vec![step.clone()], Record::default())
    }

    fn machine(name: &str) -> Step {
        Step::Machine {
            name: name.to_owned(),
            suites: Vec::new(),
            only: None,
        }
    }

    fn names(jobs: &Option<Vec<Job>>) -> Vec<&str> {
        jobs.iter()
            .flatten()
            .map(|job| job.mutant.name.as_str())
            .collect()
    }

    #[test]
    fn those_of_one_machine_go_together() {
        let (intel, amd) = (machine("intel"), machine("amd"));
        let all = [("a", &intel), ("b", &amd), ("c", &intel), ("d", &intel)];
        let jobs = all.iter().map(|(name, step)| job(name, step)).collect();
        let mut queue = Queue::new(jobs, 2);
        assert_eq!(names(&queue.take()), ["a", "c"]);
        assert_eq!(names(&queue.take()), ["b"]);
        assert_eq!(names(&queue.take()), ["d"]);
        assert!(queue.take().is_some_and(|none| none.is_empty()));
    }

    #[test]
    fn what_came_to_no_end_is_tried_again_alone_and_then_no_more() {
        let intel = machine("intel");
        let mut queue = Queue::new(vec![job("a", &intel), job("b", &intel)], 2);
        let mut both = queue.take().expect("two wait");
        both[0].in_vain = 1;
        queue.give_back(both);
        let mut alone = queue.take().expect("two wait");
        assert_eq!(alone.len(), 1);
        alone[0].in_vain = 2;
        queue.give_back(alone);
        assert_eq!(names(&queue.take()), ["b"]);
    }

    #[test]
    fn the_unit_tests_are_run_for_one_at_a_time() {
        let unit = Step::Unit("iova-model".to_owned());
        let mut queue = Queue::new(vec![job("a", &unit), job("b", &unit)], 9);
        assert_eq!(names(&queue.take()), ["a"]);
    }
}
