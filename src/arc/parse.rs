//! JSON to grids and tasks, by hand, so that a complaint can name the cell and what stands in it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Example, Grid, GridError, N_COLORS, Task, TaskProblem, Test};

/// A JSON file of one of the known formats, its parts already checked.
pub(super) enum Document {
    /// One task: an object with `train` or `test`.
    Task(Result<Task, TaskProblem>),
    /// Tasks by id, in the file's order; an id may stand more than once.
    Set(Vec<(String, Result<Task, TaskProblem>)>),
    /// A list of pairs.
    Pairs(Result<Vec<Example>, TaskProblem>),
    /// Anything else.
    Unknown(&'static str),
}

/// The outputs of one task's tests, as a solutions file has them.
pub(super) type Outputs = Result<Vec<Grid>, TaskProblem>;

/// Parses a whole file.
pub(super) fn document(bytes: &[u8]) -> Result<Document, TaskProblem> {
    // Long lists of pairs are what training reads by the hundred thousand. A good one needs no JSON tree,
    // which only a precise complaint does.
    if bytes.trim_ascii_start().starts_with(b"[")
        && let Ok(pairs) = serde_json::from_slice(bytes)
    {
        return Ok(Document::Pairs(Ok(pairs)));
    }
    from_json(bytes)
}

/// Parses a solutions file: the outputs of each task's tests by id.
pub(super) fn solutions(bytes: &[u8]) -> Result<Vec<(String, Outputs)>, TaskProblem> {
    let value: Entries = from_json(bytes)?;
    let outputs = |value: &Value| -> Outputs {
        let list = expect_list(value, "the solution", "a list of grids")?;
        list.iter().enumerate().map(|(i, v)| grid(v, &format!("solution[{i}]"))).collect()
    };
    Ok(value.0.iter().map(|(id, value)| (id.clone(), outputs(value))).collect())
}

/// Parses JSON of any type, and says line and column if that fails.
pub(super) fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, TaskProblem> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(TaskProblem::EmptyFile);
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        if error.is_data() {
            return TaskProblem::Mismatch(text);
        }
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = text.strip_suffix(&place).unwrap_or(&text).to_string();
        TaskProblem::NotJson { line: error.line(), column: error.column(), message }
    })
}

/// A grid from a list of lists of whole numbers.
pub(super) fn grid(value: &Value, place: &str) -> Result<Grid, TaskProblem> {
    let bad = |error| TaskProblem::BadGrid { place: place.to_string(), error };
    let rows = expect_list(value, place, "a list of rows")?;
    let mut cells = Vec::with_capacity(rows.len());
    for (r, row) in rows.iter().enumerate() {
        let row = expect_list(row, &format!("{place}[{r}]"), "a row of colors")?;
        let color = |(c, value): (usize, &Value)| match value.as_u64() {
            Some(color) if color < N_COLORS as u64 => Ok(color as u8),
            _ => Err(bad(GridError::BadColor { row: r, column: c, value: shown(value) })),
        };
        cells.push(row.iter().enumerate().map(color).collect::<Result<Vec<u8>, _>>()?);
    }
    Grid::from_rows(&cells).map_err(bad)
}

/// A pair whose output must be known.
pub(super) fn example(value: &Value, place: &str) -> Result<Example, TaskProblem> {
    let pair = expect_object(value, place, "a pair with `input` and `output`")?;
    Ok(Example {
        input: grid(key(pair, place, "input")?, &format!("{place}.input"))?,
        output: grid(key(pair, place, "output")?, &format!("{place}.output"))?,
    })
}

/// A task; keys other than `train` and `test` are ignored.
pub(super) fn task(id: &str, value: &Value) -> Result<Task, TaskProblem> {
    if is_solution(value) {
        return Err(TaskProblem::Solutions);
    }
    let object = expect_object(value, "the task", "an object with `train` and `test`")?;
    let train = expect_list(key(object, "the task", "train")?, "`train`", "a list of pairs")?;
    let tests = expect_list(key(object, "the task", "test")?, "`test`", "a list of tests")?;
    if train.is_empty() {
        return Err(TaskProblem::NoExamples);
    }
    if tests.is_empty() {
        return Err(TaskProblem::NoTests);
    }
    let numbered = |(i, value)| example(value, &format!("train[{i}]"));
    let examples = train.iter().enumerate().map(numbered).collect::<Result<_, _>>()?;
    let numbered = |(i, value)| test(value, &format!("test[{i}]"));
    let tests = tests.iter().enumerate().map(numbered).collect::<Result<_, _>>()?;
    Ok(Task { id: id.to_string(), examples, tests })
}

/// Whether a value is what a solutions file has for a task: at least one grid.
fn is_solution(value: &Value) -> bool {
    let first = value.as_array().and_then(|grids| grids.first());
    first.is_some_and(|value| grid(value, "").is_ok())
}

fn test(value: &Value, place: &str) -> Result<Test, TaskProblem> {
    let object = expect_object(value, place, "a test with `input`")?;
    let input = grid(key(object, place, "input")?, &format!("{place}.input"))?;
    let output = match object.get("output") {
        None | Some(Value::Null) => None,
        Some(output) => Some(grid(output, &format!("{place}.output"))?),
    };
    Ok(Test { input, output })
}

fn key<'a>(
    object: &'a Map<String, Value>,
    place: &str,
    key: &'static str,
) -> Result<&'a Value, TaskProblem> {
    object.get(key).ok_or_else(|| TaskProblem::MissingKey { place: place.to_string(), key })
}

pub(super) fn expect_list<'a>(
    value: &'a Value,
    place: &str,
    expected: &'static str,
) -> Result<&'a Vec<Value>, TaskProblem> {
    value.as_array().ok_or_else(|| wrong_kind(value, place, expected))
}

pub(super) fn expect_object<'a>(
    value: &'a Value,
    place: &str,
    expected: &'static str,
) -> Result<&'a Map<String, Value>, TaskProblem> {
    value.as_object().ok_or_else(|| wrong_kind(value, place, expected))
}

fn wrong_kind(value: &Value, place: &str, expected: &'static str) -> TaskProblem {
    TaskProblem::WrongKind { place: place.to_string(), found: kind(value), expected }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A cell's value as written, cut short if it is long.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 24;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

/// Turns each part of a file into a task or a pair as soon as it is read, so that the JSON tree of a
/// large file never stands in memory as a whole.
struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task, tasks by id, or a list of pairs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut own = Map::new();
        let mut tasks = Vec::new();
        while let Some(id) = map.next_key::<String>()? {
            let value: Value = map.next_value()?;
            if id == "train" || id == "test" {
                own.insert(id, value);
            } else if own.is_empty() {
                let parsed = task(&id, &value);
                tasks.push((id, parsed));
            }
        }
        if own.is_empty() {
            return Ok(Document::Set(tasks));
        }
        Ok(Document::Task(task("", &Value::Object(own))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Document, A::Error> {
        let mut pairs = Ok(Vec::new());
        let mut index = 0;
        while let Some(value) = list.next_element::<Value>()? {
            // The list is read to its end even after a bad pair: a syntax error is the graver complaint.
            if let Ok(good) = &mut pairs {
                match example(&value, &format!("[{index}]")) {
                    Ok(pair) => good.push(pair),
                    Err(problem) => pairs = Err(problem),
                }
            }
            index += 1;
        }
        Ok(Document::Pairs(pairs))
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document::Unknown("null"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Document, E> {
        Ok(Document::Unknown("true or false"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Document, E> {
        Ok(Document::Unknown("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Document, E> {
        Ok(Document::Unknown("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Document, E> {
        Ok(Document::Unknown("a number"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Document, E> {
        Ok(Document::Unknown("a text"))
    }
}

/// The entries of a JSON object in order, repeated keys included.
pub(super) struct Entries(pub Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one entry a task")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}
