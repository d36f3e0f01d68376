//! Reads tasks from a folder, a single file, Kaggle's challenges and solutions, RE-ARC's lists of pairs, or
//! any reader. A bad task never hides the good ones: it is kept, with its complaint, in
//! [`Dataset::failed`].

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::parse::{self, Document, Outputs};
use super::{Dataset, Example, Task, TaskError, TaskProblem, Test};

/// Name under which standard input stands in messages.
pub const STDIN: &str = "<stdin>";

/// Demonstrations that a list of pairs gives to the task made of it; the next pair becomes its test.
pub const PAIRS_AS_EXAMPLES: usize = 4;

const CHALLENGES: &str = "_challenges.json";
const SOLUTIONS: &str = "_solutions.json";

/// Reads the tasks at `path`: a folder of JSON files or one file, each in any of the known formats.
///
/// A file's format is known from its content: one task (its id is the file name without `.json`), tasks by
/// id, or a list of pairs. Of a list of pairs, the first [`PAIRS_AS_EXAMPLES`] become demonstrations (all
/// but one if there are not as many) and the next one the test; [`load_pairs`] gives all of them.
/// Answers come from `solutions` or, without it, from a `*_solutions.json` beside a `*_challenges.json`.
/// A folder that holds one `*_challenges.json` stands for that file.
///
/// # Errors
/// [`TaskError`] if nothing at all can be used. One bad task among others is in [`Dataset::failed`].
pub fn load(path: &Path, solutions: Option<&Path>) -> Result<Dataset, TaskError> {
    load_up_to(path, solutions, PAIRS_AS_EXAMPLES)
}

/// As [`load`]; of a list of pairs, at most so many become demonstrations.
pub(crate) fn load_up_to(
    path: &Path,
    solutions: Option<&Path>,
    most_examples: usize,
) -> Result<Dataset, TaskError> {
    let mut parts = Vec::new();
    let mut answers = solutions.map(Path::to_path_buf);
    for file in files(path)? {
        if answers.is_none() {
            answers = solutions_beside(&file);
        }
        parts.extend(read_parts(&file, path, most_examples)?);
    }
    let answers = answers.map(|path| read_solutions(&path)).transpose()?;
    assemble(&path.display().to_string(), parts, answers)
}

/// Reads tasks in any of the known file formats from `reader`, such as standard input.
///
/// # Errors
/// As [`load`].
pub fn load_reader(
    reader: impl Read,
    name: &str,
    solutions: Option<&Path>,
) -> Result<Dataset, TaskError> {
    load_reader_up_to(reader, name, solutions, PAIRS_AS_EXAMPLES)
}

/// As [`load_reader`]; of a list of pairs, at most so many become demonstrations.
pub(crate) fn load_reader_up_to(
    mut reader: impl Read,
    name: &str,
    solutions: Option<&Path>,
    most_examples: usize,
) -> Result<Dataset, TaskError> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    let id = name.trim_matches(['<', '>']);
    let parts = parts_of(&bytes, name, id, most_examples)?;
    let answers = solutions.map(read_solutions).transpose()?;
    assemble(name, parts, answers)
}

/// All pairs in a file, for training: a whole list of pairs, or the demonstrations and the answered tests of
/// every task.
///
/// # Errors
/// [`TaskError`] if the file cannot be read or any pair of it is bad.
pub fn load_pairs(path: &Path) -> Result<Vec<Example>, TaskError> {
    let file = path.display().to_string();
    let fail = |task: Option<String>, problem| TaskError { file: file.clone(), task, problem };
    let tasks = match parse::document(&read(path)?).map_err(|problem| fail(None, problem))? {
        Document::Pairs(pairs) => return pairs.map_err(|p| fail(Some(stem(path)), p)),
        Document::Task(task) => vec![(stem(path), task)],
        Document::Set(tasks) => tasks,
        Document::Unknown(found) => return Err(fail(None, TaskProblem::UnknownFormat { found })),
    };
    let mut pairs = Vec::new();
    for (id, task) in tasks {
        let task = task.map_err(|problem| fail(Some(id), problem))?;
        pairs.extend(task.examples);
        let answered = |t: Test| t.output.map(|output| Example { input: t.input, output });
        pairs.extend(task.tests.into_iter().filter_map(answered));
    }
    Ok(pairs)
}

/// All pairs of every file in a folder such as RE-ARC's, by task id in the order of the file names.
///
/// # Errors
/// As [`load_pairs`], and if the folder holds no JSON file.
pub fn load_pair_folder(path: &Path) -> Result<Vec<(String, Vec<Example>)>, TaskError> {
    files(path)?.iter().map(|file| Ok((stem(file), load_pairs(file)?))).collect()
}

/// The tasks of an object of tasks by id that was parsed before, such as a part of a larger file.
pub(crate) fn load_value(value: &serde_json::Value, name: &str) -> Result<Dataset, TaskError> {
    let file_error = |problem| TaskError { file: name.to_string(), task: None, problem };
    let entries = parse::expect_object(value, "the set", "tasks by id").map_err(file_error)?;
    let part = |(id, value): (&String, _)| Part {
        file: name.to_string(),
        id: id.clone(),
        task: parse::task(id, value),
    };
    assemble(name, entries.iter().map(part).collect(), None)
}

/// One task of a source, good or bad.
struct Part {
    file: String,
    id: String,
    task: Result<Task, TaskProblem>,
}

/// The outputs of a solutions file by task id.
struct Solutions {
    file: String,
    outputs: HashMap<String, Outputs>,
}

/// Joins the parts of a source: ids made unique, answers filled in, good and bad separated.
fn assemble(
    name: &str,
    parts: Vec<Part>,
    mut answers: Option<Solutions>,
) -> Result<Dataset, TaskError> {
    let mut dataset = Dataset { name: name.to_string(), ..Dataset::default() };
    let mut seen = HashSet::new();
    for part in parts {
        match usable(part, &mut seen) {
            Ok((mut task, file)) => {
                // Whether the answers are known makes no difference to who solves it.
                dataset.failed.extend(answer(&mut task, &file, &mut answers).err());
                dataset.tasks.push(task);
            }
            Err(error) => dataset.failed.push(error),
        }
    }
    if !dataset.tasks.is_empty() {
        return Ok(dataset);
    }
    let whole = |problem| TaskError { file: name.to_string(), task: None, problem };
    match dataset.failed.len() {
        0 => Err(whole(TaskProblem::NoTasks { hint: String::new() })),
        1 => Err(dataset.failed.remove(0)),
        count => {
            let first = Box::new(dataset.failed.remove(0));
            Err(whole(TaskProblem::NoneUsable { count, first }))
        }
    }
}

/// The task of a part with its file, if it is one and the first of its id.
fn usable(
    Part { file, id, task }: Part,
    seen: &mut HashSet<String>,
) -> Result<(Task, String), TaskError> {
    let problem = match task {
        _ if !seen.insert(id.clone()) => TaskProblem::DuplicateId,
        Ok(task) => return Ok((Task { id, ..task }, file)),
        Err(problem) => problem,
    };
    Err(TaskError { file, task: Some(id), problem })
}

/// Gives a task its answers; those of a solutions file win over any in the task itself.
fn answer(task: &mut Task, file: &str, answers: &mut Option<Solutions>) -> Result<(), TaskError> {
    let Some(Solutions { file: solutions, outputs }) = answers else { return Ok(()) };
    let fail = |file: &str, problem| {
        Err(TaskError { file: file.to_string(), task: Some(task.id.clone()), problem })
    };
    let outputs = match outputs.remove(&task.id) {
        Some(Ok(outputs)) => outputs,
        Some(Err(problem)) => return fail(solutions, problem),
        None => return fail(file, TaskProblem::NoSolution { solutions: solutions.clone() }),
    };
    let (expected, found) = (task.tests.len(), outputs.len());
    if expected != found {
        let solutions = solutions.clone();
        return fail(file, TaskProblem::SolutionCount { solutions, expected, found });
    }
    for (test, output) in task.tests.iter_mut().zip(outputs) {
        test.output = Some(output);
    }
    Ok(())
}

fn read_solutions(path: &Path) -> Result<Solutions, TaskError> {
    let file = path.display().to_string();
    let bytes = read(path)?;
    let whole = |problem| TaskError { file: file.clone(), task: None, problem };
    let mut outputs = HashMap::new();
    for (id, grids) in parse::solutions(&bytes).map_err(whole)? {
        if outputs.contains_key(&id) {
            let problem = TaskProblem::DuplicateId;
            return Err(TaskError { file, task: Some(id), problem });
        }
        outputs.insert(id, grids);
    }
    Ok(Solutions { file, outputs })
}

/// The parts of one file. In a folder, a file that cannot be read at all counts as one bad task.
fn read_parts(file: &Path, source: &Path, most_examples: usize) -> Result<Vec<Part>, TaskError> {
    let id = stem(file);
    let name = file.display().to_string();
    let parts = read(file).and_then(|bytes| parts_of(&bytes, &name, &id, most_examples));
    match parts {
        Err(error) if file != source => {
            Ok(vec![Part { file: error.file, id, task: Err(error.problem) }])
        }
        parts => parts,
    }
}

fn parts_of(
    bytes: &[u8],
    file: &str,
    id: &str,
    most_examples: usize,
) -> Result<Vec<Part>, TaskError> {
    let whole = |problem| TaskError { file: file.to_string(), task: None, problem };
    let part = |id: String, task| Part { file: file.to_string(), id, task };
    Ok(match parse::document(bytes).map_err(whole)? {
        Document::Task(task) => {
            vec![part(id.to_string(), task)]
        }
        Document::Set(tasks) => tasks.into_iter().map(|(id, task)| part(id, task)).collect(),
        Document::Pairs(pairs) => {
            let task = pairs.and_then(|pairs| task_of(pairs, most_examples));
            vec![part(id.to_string(), task)]
        }
        Document::Unknown(found) => return Err(whole(TaskProblem::UnknownFormat { found })),
    })
}

/// A task made of the first pairs of a list.
fn task_of(pairs: Vec<Example>, most_examples: usize) -> Result<Task, TaskProblem> {
    if pairs.len() < 2 {
        return Err(TaskProblem::TooFewPairs(pairs.len()));
    }
    let n_examples = most_examples.min(pairs.len() - 1);
    let mut pairs = pairs.into_iter();
    let examples = pairs.by_ref().take(n_examples).collect();
    let tests = pairs.take(1).map(|p| Test { input: p.input, output: Some(p.output) });
    Ok(Task { id: String::new(), examples, tests: tests.collect() })
}

/// The JSON files that `path` stands for, ordered by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let file = path.display().to_string();
    let metadata = fs::metadata(path).map_err(|error| unreadable(&file, &error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path).map_err(|error| unreadable(&file, &error))? {
        let entry = entry.map_err(|error| unreadable(&file, &error))?.path();
        if entry.is_dir() {
            folders.push(entry);
        } else if entry.extension().is_some_and(|ext| ext == "json") {
            files.push(entry);
        }
    }
    files.sort();
    folders.sort();
    let challenges: Vec<_> = files.iter().filter(|f| has_suffix(f, CHALLENGES)).cloned().collect();
    let no_tasks = |hint| TaskError { file, task: None, problem: TaskProblem::NoTasks { hint } };
    match challenges.len() {
        0 if files.is_empty() => {
            folders.retain(|folder| files_in(folder));
            Err(no_tasks(hint("no .json file in this folder; did you mean", &folders)))
        }
        0 => Ok(files),
        1 => Ok(challenges),
        _ => Err(no_tasks(hint("several sets in this folder; name one of", &challenges))),
    }
}

fn files_in(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.any(|e| e.is_ok_and(|e| e.path().extension().is_some_and(|x| x == "json")))
    })
}

fn hint(words: &str, paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    match paths.len() {
        0 => " (no .json file in this folder)".to_string(),
        _ => format!(" ({words}: {}?)", paths.join(", ")),
    }
}

/// The `*_solutions.json` that belongs to a `*_challenges.json`, if it is there.
fn solutions_beside(file: &Path) -> Option<PathBuf> {
    let name = file.file_name()?.to_str()?;
    let solutions = file.with_file_name(format!("{}{SOLUTIONS}", name.strip_suffix(CHALLENGES)?));
    solutions.is_file().then_some(solutions)
}

fn has_suffix(path: &Path, suffix: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(suffix))
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Vec<u8>, TaskError> {
    fs::read(path).map_err(|error| unreadable(&path.display().to_string(), &error))
}

fn unreadable(file: &str, error: &std::io::Error) -> TaskError {
    let problem = TaskProblem::Unreadable(error.to_string());
    TaskError { file: file.to_string(), task: None, problem }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
