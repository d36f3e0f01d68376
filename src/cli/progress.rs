//! The progress of a run: bars on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::values::show_seconds;
use crate::arc::{Attempts, Dataset, Grid};
use crate::evaluate::TaskScore;
use crate::pipeline::{Event, TaskRecord};
use crate::run::Progress;

/// Shows how far a run is.
pub(super) struct Board {
    began: Instant,
    total: usize,
    /// Whether each finished task is solved, if its answer is known, and whether a stage failed. A task may be finished
    /// more than once.
    finished: BTreeMap<String, (Option<bool>, bool)>,
    /// Tasks that were done before this process began.
    resumed: usize,
    /// Columns of the longest id.
    id_width: usize,
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    tasks: BTreeMap<String, ProgressBar>,
}

impl Board {
    /// A board for a run over `dataset`, of which `records` are done.
    ///
    /// With a log on standard error there are no bars: the two would overwrite each other.
    pub(super) fn new<'a>(
        dataset: &Dataset,
        records: impl Iterator<Item = &'a TaskRecord>,
        plain: bool,
    ) -> Self {
        let bars = (!plain && std::io::stderr().is_terminal()).then(Bars::new);
        let total = dataset.tasks.len();
        let mut board = Self {
            began: Instant::now(),
            total,
            finished: BTreeMap::new(),
            resumed: 0,
            id_width: dataset.tasks.iter().map(|t| t.id.chars().count()).max().unwrap_or(0).min(32),
            bars,
        };
        for record in records {
            board.count(dataset, record);
        }
        board.resumed = board.finished.len();
        if board.resumed > 0 {
            board.say(&format!("going on after {} of {total} tasks", board.resumed));
        }
        board.update();
        board
    }

    /// Shows what happens.
    pub(super) fn show(&mut self, dataset: &Dataset, progress: Progress<'_>) {
        match progress {
            Progress::Started { task, .. } => {
                if let Some(bars) = &mut self.bars {
                    bars.start(task);
                }
            }
            Progress::Stage { task, event } => {
                if let Some(bar) = self.bars.as_ref().and_then(|bars| bars.tasks.get(task)) {
                    bar.set_message(describe(event));
                }
            }
            Progress::Finished(record) => {
                if let Some(bar) = self.bars.as_mut().and_then(|b| b.tasks.remove(&record.task)) {
                    bar.finish_and_clear();
                }
                let solved = self.count(dataset, record);
                self.say(&self.task_line(record, solved));
                self.update();
            }
        }
    }

    /// Takes the bars away.
    pub(super) fn end(&mut self) {
        if let Some(bars) = self.bars.take() {
            let _ = bars.all.clear();
        }
    }

    /// Counts a finished task, and says whether it is solved.
    fn count(&mut self, dataset: &Dataset, record: &TaskRecord) -> Option<bool> {
        let solved = dataset
            .get(&record.task)
            .and_then(|task| TaskScore::of(task, Some(&attempts(record)), None).solved());
        self.finished.insert(record.task.clone(), (solved, record.failed.is_some()));
        solved
    }

    /// The line that a finished task leaves.
    fn task_line(&self, record: &TaskRecord, solved: Option<bool>) -> String {
        let (done, total, id_width) = (self.finished.len(), self.total, self.id_width);
        let width = total.to_string().len();
        let verdict = match (solved, &record.failed) {
            (Some(true), _) => "solved",
            (Some(false), None) => "wrong",
            (None, None) => "done",
            (_, Some(_)) => "failed",
        };
        let mut line = format!("[{done:>width$}/{total}] {:<id_width$}  {verdict:<6}", record.task);
        line += &format!("  {:>8}", show_seconds(record.seconds.total));
        line += &format!("  {:>4} steps", record.steps);
        if let Some(check) = record.check {
            line += &format!("  held-out {}/{}", check.exact, check.of);
        }
        if let Some(step) = record.curve.0.last() {
            line += &format!("  loss {:.4}", step.loss);
        }
        if record.abstained {
            line += "  abstained";
        }
        for note in record.failed.iter().chain(&record.notes) {
            line += &format!("  ({note})");
        }
        line
    }

    /// Prints a line above the bars.
    fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => drop(bars.all.println(line)),
            None => say!("{line}"),
        }
    }

    fn update(&self) {
        let Some(bars) = &self.bars else { return };
        let done = self.finished.len();
        let remaining = self.total - done;
        let count = |is: fn(&(Option<bool>, bool)) -> bool| {
            self.finished.values().filter(|finished| is(finished)).count()
        };
        let mut message = String::new();
        if count(|(solved, _)| solved.is_some()) > 0 {
            let (solved, known) = (count(|f| f.0 == Some(true)), count(|f| f.0.is_some()));
            message += &format!("{solved} of {known} solved, ");
        }
        if count(|f| f.1) > 0 {
            message += &format!("{} failed, ", count(|f| f.1));
        }
        message += &format!("{remaining} remaining");
        let fresh = done - self.resumed;
        if fresh > 0 && remaining > 0 {
            let each = self.began.elapsed().as_secs_f64() / fresh as f64;
            message += &format!(", about {} left", show_seconds(each * remaining as f64));
        }
        bars.total.set_message(message);
        bars.total.set_length(self.total as u64);
        bars.total.set_position(done as u64);
    }
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} tasks  {msg}");
        let total = ProgressBar::new(0).with_style(style.expect("the template is legal"));
        let total = all.add(total);
        Self { all, total, tasks: BTreeMap::new() }
    }

    fn start(&mut self, task: &str) {
        let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed:>4}  {msg}");
        let bar = ProgressBar::new_spinner().with_style(style.expect("the template is legal"));
        let bar = self.all.insert_before(&self.total, bar).with_prefix(task.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.tasks.insert(task.to_owned(), bar);
    }
}

/// The attempts of a record as a submission has them.
pub(super) fn attempts(record: &TaskRecord) -> Vec<Attempts> {
    let both = |[first, second]: &[Grid; 2]| Attempts::new(first.clone(), second.clone());
    record.attempts.iter().map(both).collect()
}

/// What a task's bar says.
fn describe(event: &Event) -> String {
    match event {
        Event::Baseline { .. } => "fit".to_owned(),
        Event::Step(step) => {
            let check = step.check.map(|c| format!("  held-out {}/{}", c.exact, c.of));
            format!("fit  step {}  loss {:.4}{}", step.step, step.loss, check.unwrap_or_default())
        }
        Event::Views { done, of } => format!("predict  {done} of {of} views"),
    }
}
