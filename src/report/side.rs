//! A run together with the tasks that it worked on.

use std::path::{Path, PathBuf};

use crate::arc::Dataset;
use crate::public::{self, ResolveError};
use crate::recipe::{Recipe, RecipeError};
use crate::run::{Run, RunError, hash_tasks, read_run};

/// One run to be reported on.
#[derive(Debug, Clone)]
pub struct Side {
    /// How the page calls it: the name of its directory.
    pub name: String,
    /// Its identity and records.
    pub run: Run,
    /// The recipe that it was made with.
    pub recipe: Recipe,
    /// The tasks that it worked on (of a shard, its own), with their answers where they are known.
    pub dataset: Dataset,
}

/// Why a run cannot be reported on.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The directory is no run or is damaged.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The run's recipe is not one of this program.
    #[error("the recipe of the run {run} cannot be used", run = .run.display())]
    Recipe {
        /// The run directory.
        run: PathBuf,
        /// What is wrong with it.
        source: Box<RecipeError>,
    },
    /// The tasks are not where they were.
    #[error("the tasks of the run {run} cannot be read; name them with --tasks", run = .run.display())]
    Tasks {
        /// The run directory.
        run: PathBuf,
        /// What is wrong with them.
        source: Box<ResolveError>,
    },
    /// Answers for tasks that have their own.
    #[error(transparent)]
    Answers(Box<ResolveError>),
    /// Tasks that the run did not work on.
    #[error("{tasks} are not the tasks that the run {run} worked on; name those with --tasks", run = .run.display())]
    OtherTasks {
        /// The run directory.
        run: PathBuf,
        /// What was read in their place.
        tasks: String,
    },
    /// Two runs that share no task.
    #[error("the runs {a} and {b} have no task in common; give two runs on the same tasks")]
    NothingInCommon {
        /// Name of the first run.
        a: String,
        /// Name of the second run.
        b: String,
    },
}

impl Side {
    /// Reads the run in `path`, and its tasks from where the run had them or from `tasks` (a name or a path).
    ///
    /// Answers come from there too, or from a Kaggle file of `solutions`; without any, the report judges nothing.
    ///
    /// # Errors
    /// [`ReportError`] if the run or its tasks cannot be read, or are not the same tasks any more.
    pub fn read(
        path: &Path,
        tasks: Option<&str>,
        solutions: Option<&Path>,
    ) -> Result<Self, ReportError> {
        let run = read_run(path)?;
        let settings = path.join("recipe.toml").display().to_string();
        let recipe = Recipe::resolve::<&str>(&settings, &[])
            .map_err(|e| ReportError::Recipe { run: path.to_owned(), source: Box::new(e) })?;
        let source = tasks.unwrap_or(&run.identity.dataset);
        let dataset = public::resolve_with_solutions(source, solutions).map_err(|e| match e {
            ResolveError::OwnAnswers { .. } => ReportError::Answers(Box::new(e)),
            e => ReportError::Tasks { run: path.to_owned(), source: Box::new(e) },
        })?;
        let other = || ReportError::OtherTasks { run: path.to_owned(), tasks: source.to_owned() };
        let mut dataset = dataset.select(&run.identity.tasks).map_err(|_| other())?;
        if hash_tasks(&dataset.tasks) != run.identity.dataset_sha256 {
            return Err(other());
        }
        let own = run.identity.own_tasks();
        dataset.tasks.retain(|task| own.contains(&task.id));
        Ok(Self { name: name(path), run, recipe, dataset })
    }
}

/// The last part of a run's path, or the path where that says nothing.
fn name(path: &Path) -> String {
    let last = path.file_name().or(Some(path.as_os_str()));
    last.unwrap_or_default().to_string_lossy().into_owned()
}
