//! Who gets the next slice of a run's time.

use serde::{Deserialize, Serialize};

use super::Difficulty;

/// Settings of [`Allocation`]. Times are shares of the mean: the run's time divided by its tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// What every task gets in the first pass.
    pub floor: f64,
    /// What a task gets at a time after that.
    pub slice: f64,
    /// What a task gets in all at most.
    pub cap: f64,
    /// A fit whose loss has fallen below this, in nats a cell, has learnt what it can, and gets no more.
    pub settled_loss: f64,
    /// Steps before which no task is hopeless.
    pub abstain_after: usize,
    /// What steps are worth.
    pub gain: GainTable,
}

/// The chance that a task is solved after so many gradient steps, by how hard it looks: each visit says anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GainTable {
    /// Numbers of steps, rising.
    pub steps: Vec<usize>,
    /// Chances after each, not falling, for easy tasks.
    pub easy: Vec<f64>,
    /// For medium ones.
    pub medium: Vec<f64>,
    /// For hard ones.
    pub hard: Vec<f64>,
}

impl GainTable {
    /// The chance after so many steps: linear between the table's columns, and flat behind the last. Hopeless tasks
    /// have none.
    pub fn chance(&self, difficulty: Difficulty, steps: f64) -> f64 {
        let chances = match difficulty {
            Difficulty::Easy => &self.easy,
            Difficulty::Medium => &self.medium,
            Difficulty::Hard => &self.hard,
            Difficulty::Hopeless => return 0.0,
        };
        let mut before = (0.0, 0.0);
        for (&column, &chance) in self.steps.iter().zip(chances) {
            let column = column as f64;
            if steps < column {
                return before.1 + (chance - before.1) * (steps - before.0) / (column - before.0);
            }
            before = (column, chance);
        }
        before.1
    }
}

/// How a task stands after the time that it has had.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// How hard it looks; `None` if nothing tells.
    pub difficulty: Option<Difficulty>,
    /// Gradient steps done.
    pub steps: usize,
    /// Seconds spent on everything.
    pub seconds: f64,
    /// Mean loss at the end of the last part of the fit, in nats a cell.
    pub loss: f64,
    /// The same of the part before, if there was one.
    pub loss_before: Option<f64>,
    /// Whether its fit may go on: it did not fail, was not ended early on purpose, and has steps left.
    pub is_open: bool,
}

/// What is left of a gain where the last part of a fit has lowered the loss by nothing.
const LEAST_TREND: f64 = 0.25;

impl Standing {
    /// Whether no more time is to be spent on it, since nothing speaks for any answer.
    pub fn is_hopeless(&self, config: &ScheduleConfig) -> bool {
        self.difficulty == Some(Difficulty::Hopeless) && self.steps >= config.abstain_after
    }

    /// By how much its chance of being solved is expected to rise by so many more seconds.
    pub fn expected_gain(&self, config: &ScheduleConfig, seconds: f64) -> f64 {
        if !self.is_open || self.loss < config.settled_loss || self.seconds <= 0.0 {
            return 0.0;
        }
        // What nothing is known of may be worth little, but it is not hopeless.
        let difficulty = self.difficulty.unwrap_or(Difficulty::Hard);
        // After a few steps everything looks hopeless.
        let too_early = difficulty == Difficulty::Hopeless && !self.is_hopeless(config);
        let difficulty = if too_early { Difficulty::Hard } else { difficulty };
        let steps = self.steps as f64;
        let later = steps + steps / self.seconds * seconds;
        let chance = |steps| config.gain.chance(difficulty, steps);
        (chance(later) - chance(steps)) * self.trend()
    }

    /// From [`LEAST_TREND`] where the loss stands still to 1 where it halves from part to part.
    fn trend(&self) -> f64 {
        let Some(before) = self.loss_before.filter(|before| *before > 0.0) else { return 1.0 };
        let fallen = (1.0 - self.loss / before).max(0.0);
        (LEAST_TREND + (1.0 - LEAST_TREND) * 2.0 * fallen).min(1.0)
    }
}

/// What a worker that asks for a task is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turn {
    /// Work on this task for so many seconds.
    Work {
        /// Its index.
        task: usize,
        /// Wall seconds.
        seconds: f64,
    },
    /// Ask again when another worker has come back.
    Wait,
    /// There is nothing more to do.
    Over,
}

/// What is known of a task.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    standing: Option<Standing>,
    /// Seconds handed out to whoever works on it now.
    handed_out: Option<f64>,
}

/// The time of a run, given out slice by slice.
///
/// The first pass gives every task its floor, in order. Each further slice goes to the task with the largest expected
/// gain a second; where gains fall as time goes on, no other division of the time is expected to solve more. Tasks
/// without any expected gain get nothing, even if time is left over.
#[derive(Debug, Clone)]
pub struct Allocation {
    config: ScheduleConfig,
    mean: f64,
    left: f64,
    tasks: Vec<State>,
}

/// A remainder smaller than this share of a slice is not worth a visit.
const LEAST_SLICE: f64 = 0.25;

impl Allocation {
    /// Divides `seconds`, all workers' time together, among tasks that may have had some of it already.
    pub fn new(config: &ScheduleConfig, seconds: f64, tasks: &[Option<Standing>]) -> Self {
        let spent: f64 = tasks.iter().flatten().map(|standing| standing.seconds).sum();
        let state = |&standing: &Option<Standing>| State { standing, handed_out: None };
        Self {
            config: config.clone(),
            mean: seconds / tasks.len().max(1) as f64,
            left: seconds - spent,
            tasks: tasks.iter().map(state).collect(),
        }
    }

    /// What to do next.
    pub fn turn(&mut self) -> Turn {
        let (floor, slice) = (self.config.floor * self.mean, self.config.slice * self.mean);
        let is_new = |state: &State| state.standing.is_none() && state.handed_out.is_none();
        let turn = match self.tasks.iter().position(is_new) {
            Some(task) => Some((task, floor.min(self.left), floor)),
            None => self.best(slice).map(|(task, seconds)| (task, seconds, slice)),
        };
        if let Some((task, seconds, _)) =
            turn.filter(|(_, seconds, whole)| *seconds >= LEAST_SLICE * whole)
        {
            self.left -= seconds;
            self.tasks[task].handed_out = Some(seconds);
            return Turn::Work { task, seconds };
        }
        let others = self.tasks.iter().any(|state| state.handed_out.is_some());
        if others && self.left > 0.0 { Turn::Wait } else { Turn::Over }
    }

    /// The idle task that gains most by a slice a second, and how long the slice is; the first of equals.
    fn best(&self, slice: f64) -> Option<(usize, f64)> {
        let mut best: Option<(usize, f64, f64)> = None;
        for (task, state) in self.tasks.iter().enumerate() {
            let Some(standing) = state.standing.filter(|_| state.handed_out.is_none()) else {
                continue;
            };
            let room = self.config.cap * self.mean - standing.seconds;
            let seconds = slice.min(room).min(self.left);
            if seconds < LEAST_SLICE * slice {
                continue;
            }
            let rate = standing.expected_gain(&self.config, seconds) / seconds;
            if rate > best.map_or(0.0, |(_, _, rate)| rate) {
                best = Some((task, seconds, rate));
            }
        }
        best.map(|(task, seconds, _)| (task, seconds))
    }

    /// Takes note of how a task stands when its worker has come back.
    pub fn returned(&mut self, task: usize, standing: Standing) {
        let state = &mut self.tasks[task];
        let before = state.standing.map_or(0.0, |standing| standing.seconds);
        self.left += state.handed_out.take().unwrap_or(0.0) - (standing.seconds - before);
        state.standing = Some(standing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ScheduleConfig {
        let gain = GainTable {
            steps: vec![100, 200, 400],
            easy: vec![0.6, 0.8, 0.9],
            medium: vec![0.1, 0.3, 0.5],
            hard: vec![0.0, 0.05, 0.1],
        };
        ScheduleConfig {
            floor: 0.4,
            slice: 0.2,
            cap: 3.0,
            settled_loss: 1e-3,
            abstain_after: 50,
            gain,
        }
    }

    /// A task that does ten steps a second.
    fn standing(difficulty: Difficulty, seconds: f64) -> Standing {
        Standing {
            difficulty: Some(difficulty),
            steps: (10.0 * seconds).round() as usize,
            seconds,
            loss: 0.1,
            loss_before: None,
            is_open: true,
        }
    }

    /// Seconds that each task gets when they look as hard as `difficulties`, for several workers in turn.
    fn play(
        config: &ScheduleConfig,
        total: f64,
        difficulties: &[Difficulty],
        workers: usize,
    ) -> Vec<f64> {
        let mut allocation = Allocation::new(config, total, &vec![None; difficulties.len()]);
        let mut got = vec![0.0; difficulties.len()];
        let mut busy = std::collections::VecDeque::new();
        loop {
            let turn = if busy.len() < workers { allocation.turn() } else { Turn::Wait };
            if let Turn::Work { task, seconds } = turn {
                busy.push_back((task, seconds));
                continue;
            }
            let Some((task, seconds)) = busy.pop_front() else {
                assert_eq!(allocation.turn(), Turn::Over);
                return got;
            };
            got[task] += seconds;
            allocation.returned(task, standing(difficulties[task], got[task]));
        }
    }

    #[test]
    fn every_task_gets_its_floor_and_the_rest_goes_where_it_is_worth_most() {
        use Difficulty::{Easy, Hard, Hopeless, Medium};
        let mut config = config();
        config.gain.easy = vec![0.7, 0.75, 0.8];
        for workers in [1, 2] {
            let got = play(&config, 100.0, &[Easy, Medium, Hard, Hopeless, Medium], workers);
            assert!(got.iter().all(|&seconds| seconds >= 8.0), "{got:?}");
            assert_eq!(got[3], 8.0, "the hopeless are abstained from");
            assert!(got[1] > got[0] && got[4] > got[0], "{got:?}");
            assert!(got.iter().all(|&seconds| seconds <= 60.0));
            assert!(got.iter().sum::<f64>() <= 100.0 + 1e-9);
        }
        // Nothing but hopeless tasks: time is left over.
        assert_eq!(play(&config, 100.0, &[Hopeless; 4], 2), [10.0; 4]);
        // More steps than the table has bring nothing.
        assert_eq!(play(&config, 100.0, &[Medium], 1), [40.0]);
    }

    /// All ways to give out equal slices.
    fn divisions(slices: usize, tasks: usize) -> Vec<Vec<usize>> {
        if tasks == 1 {
            return vec![vec![slices]];
        }
        let with_first = |n: usize| {
            divisions(slices - n, tasks - 1).into_iter().map(move |rest| [vec![n], rest].concat())
        };
        (0..=slices).flat_map(with_first).collect()
    }

    #[test]
    fn where_gains_fall_no_division_of_the_slices_is_expected_to_solve_more() {
        use Difficulty::{Easy, Hard, Medium};
        let mut config = config();
        (config.gain.easy, config.gain.medium) = (vec![0.5, 0.7, 0.8], vec![0.2, 0.35, 0.5]);
        (config.gain.hard, config.cap) = (vec![0.1, 0.18, 0.3], 100.0);
        let difficulties = [Hard, Easy, Medium];
        let got = play(&config, 45.0, &difficulties, 1);
        let score = |seconds: &[f64]| -> f64 {
            let chance = |(d, s): (&Difficulty, &f64)| config.gain.chance(*d, 10.0 * s);
            difficulties.iter().zip(seconds).map(chance).sum()
        };
        let (floor, slice) = (0.4 * 15.0, 0.2 * 15.0);
        let best = divisions(9, 3).into_iter().map(|slices| {
            score(&slices.iter().map(|&n| floor + n as f64 * slice).collect::<Vec<_>>())
        });
        let best = best.fold(0.0, f64::max);
        assert!((score(&got) - best).abs() < 1e-9, "{got:?}: {} of {best}", score(&got));
    }

    #[test]
    fn chances_are_interpolated_and_gains_follow_speed_loss_and_trend() {
        let (config, medium) = (config(), Difficulty::Medium);
        let chance = |steps| config.gain.chance(medium, steps);
        assert_eq!([0.0, 50.0, 100.0, 300.0, 900.0].map(chance), [0.0, 0.05, 0.1, 0.4, 0.5]);
        let here = standing(medium, 10.0);
        let gain = |standing: Standing| standing.expected_gain(&config, 10.0);
        assert!((gain(here) - 0.2).abs() < 1e-9);
        let slow = Standing { seconds: 20.0, ..here };
        assert!((gain(slow) - 0.1).abs() < 1e-9, "half as many steps in the same time");
        assert_eq!(gain(Standing { loss: 5e-4, ..here }), 0.0);
        assert_eq!(gain(Standing { is_open: false, ..here }), 0.0);
        let unknown = Standing { difficulty: None, ..here };
        assert!(gain(unknown) > 0.0 && gain(unknown) == gain(standing(Difficulty::Hard, 10.0)));
        let hopeless = |steps| {
            let standing = Standing { steps, ..standing(Difficulty::Hopeless, 10.0) };
            standing.expected_gain(&config, 30.0)
        };
        assert!(hopeless(49) > 0.0 && hopeless(50) == 0.0, "it is too early to say");
        let after = |before| gain(Standing { loss_before: Some(before), ..here });
        assert!((after(0.2) - 0.2).abs() < 1e-9 && (after(0.05) - 0.05).abs() < 1e-9);
        assert!(after(0.12) > after(0.11) && after(0.11) > after(0.1));
    }

    #[test]
    fn a_run_that_is_gone_on_with_counts_what_was_spent() {
        let tasks = [Some(standing(Difficulty::Medium, 12.0)), None];
        let mut allocation = Allocation::new(&config(), 20.0, &tasks);
        assert_eq!(allocation.turn(), Turn::Work { task: 1, seconds: 4.0 });
        // It took longer than it should have.
        allocation.returned(1, standing(Difficulty::Hopeless, 6.0));
        assert_eq!(allocation.turn(), Turn::Work { task: 0, seconds: 2.0 });
        assert_eq!(allocation.turn(), Turn::Over);
    }
}
