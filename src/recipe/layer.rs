//! Recipe files as layers: read, checked against the keys of the default recipe, laid over each other.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{PRESETS, Recipe, RecipeError};
use crate::text::{FormatError, TextFormat};

/// The one key that takes a text or a table: a format's name, its file, or the format.
const TEXT_FORMAT: &str = "language.text_format";

/// A recipe as it is written, with where it stands.
struct Layer {
    origin: String,
    file: Option<PathBuf>,
    settings: Table,
}

/// The settings of `source`, a preset or a file, over those of all that it extends.
pub(super) fn load(source: &str) -> Result<Table, RecipeError> {
    let mut layers: Vec<Layer> = Vec::new();
    let mut next = Some((source.to_owned(), None));
    while let Some((name, base)) = next.take() {
        let mut layer = read(&name, base.as_deref())?;
        let again = layer.file.is_some() && layers.iter().any(|other| other.file == layer.file);
        if again {
            let origins = layers.iter().map(|l| &*l.origin).chain([&*layer.origin]);
            return Err(RecipeError::Circle(origins.collect::<Vec<_>>().join(" → ")));
        }
        next = parent(&mut layer)?;
        layers.push(layer);
    }
    let mut settings = schema();
    for layer in layers.into_iter().rev() {
        let checked = checked(layer.settings, &schema(), "", &layer.origin)?;
        merge(&mut settings, checked);
    }
    Ok(settings)
}

/// Changes one key of complete settings; `text` is `KEY=VALUE`.
pub(super) fn set(settings: &mut Table, text: &str) -> Result<(), RecipeError> {
    let origin = format!("the override {text}");
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() || value.is_empty() {
        return Err(RecipeError::NotAnOverride(text.to_owned()));
    }
    let schema = schema();
    let like = lookup(&schema, key).ok_or_else(|| unknown_key(key, &schema, &origin))?;
    let nested = key.rsplit('.').fold(parse(value, like), |inner, part| {
        Value::Table(Table::from_iter([(part.to_owned(), inner)]))
    });
    let Value::Table(layer) = nested else { unreachable!("a key has at least one part") };
    merge(settings, checked(layer, &schema, "", &origin)?);
    Ok(())
}

/// Puts the text format of a file in the place of the file's name: a run must not change with a file that it has read.
pub(super) fn read_text_format(settings: &mut Table) -> Result<(), RecipeError> {
    let place = lookup_mut(settings, TEXT_FORMAT).expect("complete settings have every key");
    let Some(name) = place.as_str().filter(|name| name.ends_with(".toml")) else { return Ok(()) };
    let path = PathBuf::from(name);
    let text = std::fs::read_to_string(&path)
        .map_err(|source| RecipeError::UnreadableFormat { path, source })?;
    *place = whole_format(TextFormat::parse(&text), name)?;
    Ok(())
}

/// A text format with every key stated, so that it covers another one as a whole.
fn whole_format(
    format: Result<TextFormat, FormatError>,
    origin: &str,
) -> Result<Value, RecipeError> {
    let format =
        format.map_err(|problem| RecipeError::TextFormat { origin: origin.to_owned(), problem })?;
    Ok(Value::try_from(format).expect("texts and truth values are TOML"))
}

/// The default recipe: every key with a value of the kind it takes.
fn schema() -> Table {
    PRESETS[0].1.parse().expect("the embedded default recipe is tested")
}

fn read(name: &str, base: Option<&Path>) -> Result<Layer, RecipeError> {
    let (origin, file, text) = match PRESETS.iter().find(|(preset, _)| *preset == name) {
        Some((_, text)) => (format!("the preset {name}"), None, (*text).to_owned()),
        None => {
            let path = base.map_or_else(|| PathBuf::from(name), |base| base.join(name));
            let named_as_file = name.contains(['/', '\\']) || name.ends_with(".toml");
            if !named_as_file && !path.exists() {
                return Err(not_found(name));
            }
            let unreadable = |source| RecipeError::Unreadable { path: path.clone(), source };
            let text = std::fs::read_to_string(&path).map_err(unreadable)?;
            let file = path.canonicalize().map_err(unreadable)?;
            (path.display().to_string(), Some(file), text)
        }
    };
    let mut settings: Table = text.parse().map_err(|e: toml::de::Error| RecipeError::NotToml {
        origin: origin.clone(),
        problem: e.to_string().trim_end().to_owned(),
    })?;
    if let Some(stem) = file.as_deref().and_then(Path::file_stem) {
        let name = Value::from(stem.to_string_lossy().into_owned());
        settings.entry("name").or_insert(name);
    }
    Ok(Layer { origin, file, settings })
}

/// What a layer extends, with the folder from which a file name counts; `None` for the default recipe itself.
fn parent(layer: &mut Layer) -> Result<Option<(String, Option<PathBuf>)>, RecipeError> {
    let folder = layer.file.as_deref().and_then(Path::parent).map(Path::to_owned);
    match layer.settings.remove("extends") {
        Some(Value::String(name)) => Ok(Some((name, folder))),
        Some(other) => Err(wrong_type("extends", &other, "the name of a recipe", &layer.origin)),
        // A file that names nothing still states only what differs from the default.
        None => Ok(layer.file.is_some().then(|| (PRESETS[0].0.to_owned(), None))),
    }
}

/// A layer with every key known, every value of the right kind and readable by its stage.
fn checked(layer: Table, schema: &Table, prefix: &str, origin: &str) -> Result<Table, RecipeError> {
    let mut known = Table::new();
    for (key, value) in layer {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let value = match (schema.get(&key), value) {
            (None, _) => return Err(unknown_key(&path, &self::schema(), origin)),
            (Some(Value::Table(keys)), Value::Table(inner)) => {
                Value::Table(checked(inner, keys, &path, origin)?)
            }
            (Some(Value::Table(_)), other) => {
                return Err(wrong_type(&path, &other, "keys of its own", origin));
            }
            (Some(_), Value::Table(inner)) if path == TEXT_FORMAT => {
                whole_format(TextFormat::parse(&inner.to_string()), origin)?
            }
            (Some(like), value) => {
                let value = coerced(value, like)
                    .map_err(|value| wrong_type(&path, &value, &kind(like), origin))?;
                readable(&path, &value)?;
                value
            }
        };
        known.insert(key, value);
    }
    Ok(known)
}

/// Tries a value in the default recipe, so that a complaint is about this key and no other.
fn readable(path: &str, value: &Value) -> Result<(), RecipeError> {
    let impossible = |allowed: String| RecipeError::Impossible {
        key: path.to_owned(),
        value: value.to_string(),
        allowed,
    };
    if value.as_integer().is_some_and(|i| i < 0) {
        return Err(impossible("it must be at least 0".into()));
    }
    let mut trial = schema();
    *lookup_mut(&mut trial, path).expect("the key was found in the schema") = value.clone();
    match trial.try_into::<Recipe>() {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = error.message();
            let expected = message.find("expected ").map(|at| &message[at + "expected ".len()..]);
            let allowed = expected.map(|expected| format!("it must be {expected}"));
            Err(impossible(allowed.unwrap_or_else(|| message.to_owned())))
        }
    }
}

/// `value` as the kind of `like`: whole numbers pass for numbers, and 2e3 for a whole number.
fn coerced(value: Value, like: &Value) -> Result<Value, Value> {
    match (like, value) {
        (Value::Float(_), Value::Integer(i)) => Ok(Value::Float(i as f64)),
        (Value::Integer(_), Value::Float(f)) if f.fract() == 0.0 && f.abs() < 9e15 => {
            Ok(Value::Integer(f as i64))
        }
        (Value::Array(likes), Value::Array(values)) => {
            let like = likes.first().expect("lists of the default recipe show what they hold");
            let items: Result<Vec<_>, _> =
                values.iter().map(|v| coerced(v.clone(), like)).collect();
            items.map(Value::Array).map_err(|_| Value::Array(values))
        }
        (like, value) if like.same_type(&value) => Ok(value),
        (_, value) => Err(value),
    }
}

/// An override's text as a value of the kind of `like`, or as whatever it looks like.
fn parse(text: &str, like: &Value) -> Value {
    let toml = || format!("value = {text}").parse::<Table>().ok()?.remove("value");
    let bare = || Value::String(text.to_owned());
    match like {
        Value::String(_) => toml().filter(Value::is_str).unwrap_or_else(bare),
        Value::Array(likes) if !text.starts_with('[') => {
            let items = text.split(',').map(str::trim);
            Value::Array(items.map(|item| parse(item, &likes[0])).collect())
        }
        _ => toml().unwrap_or_else(bare),
    }
}

fn kind(like: &Value) -> String {
    match like {
        Value::Integer(_) => "a whole number".into(),
        Value::Float(_) => "a number".into(),
        Value::Boolean(_) => "true or false".into(),
        Value::Array(items) => {
            let item = items.first().map(kind).unwrap_or_default();
            format!("a list, each entry {item}")
        }
        _ => "a text".into(),
    }
}

fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

fn lookup<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_table()?.get(part))
}

fn lookup_mut<'a>(table: &'a mut Table, path: &str) -> Option<&'a mut Value> {
    let mut parts = path.split('.');
    let first = table.get_mut(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_table_mut()?.get_mut(part))
}

fn wrong_type(key: &str, value: &Value, expected: &str, origin: &str) -> RecipeError {
    let (origin, key, value) = (origin.to_owned(), key.to_owned(), value.to_string());
    RecipeError::WrongType { origin, key, value, expected: expected.to_owned() }
}

fn not_found(name: &str) -> RecipeError {
    let presets = PRESETS.map(|(preset, _)| preset);
    let suggestion = match nearest(name, presets) {
        _ if presets.contains(&format!("llama-{name}").as_str()) => {
            "; that one is for language models (--model)".to_owned()
        }
        Some(preset) => format!("; did you mean `{preset}`?"),
        None => String::new(),
    };
    RecipeError::NotFound { name: name.to_owned(), presets: presets.join(", "), suggestion }
}

fn unknown_key(key: &str, schema: &Table, origin: &str) -> RecipeError {
    let keys: Vec<String> = leaves(schema, "").into_iter().chain(schema.keys().cloned()).collect();
    let first = key.split('.').next().unwrap_or_default();
    let suggestion = match nearest(key, keys.iter().map(String::as_str)) {
        // The three kinds of TOML files lie in one folder.
        _ if ["model", "data", "episode", "optimizer"].contains(&first) => {
            "; such keys are those of `arc-ttt pretrain`".to_owned()
        }
        _ if ["baseline", "variants"].contains(&first) => {
            "; such keys make a comparison: `arc-ttt compare FILE TASKS`".to_owned()
        }
        Some(key) => format!("; did you mean `{key}`?"),
        None => {
            let table =
                key.rsplit_once('.').and_then(|(table, _)| lookup(schema, table)?.as_table());
            let names = table.unwrap_or(schema).keys().map(String::as_str);
            format!("; the keys there are {}", names.collect::<Vec<_>>().join(", "))
        }
    };
    RecipeError::UnknownKey { origin: origin.to_owned(), key: key.to_owned(), suggestion }
}

/// The full names of all keys that hold a value.
pub(super) fn leaves(table: &Table, prefix: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => keys.extend(leaves(inner, &path)),
            _ => keys.push(path),
        }
    }
    keys
}

/// The candidate that `word` may have meant: as a whole, or in its last part.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let name = last(word);
    let score = |candidate: &str| {
        let whole = distance(word, candidate);
        (distance(&name, &last(candidate)).min(whole), whole)
    };
    let best = candidates.into_iter().min_by_key(|candidate| score(candidate))?;
    (score(best).0 <= 1.max(name.chars().count() / 3)).then_some(best)
}

/// Levenshtein's distance: insertions, deletions and replacements of characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_changes() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("rank", "rnk", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), expected);
            assert_eq!(distance(b, a), expected);
        }
    }

    #[test]
    fn the_nearest_key_is_found_with_or_without_its_table() {
        let keys = leaves(&schema(), "");
        let nearest = |word| nearest(word, keys.iter().map(String::as_str));
        assert_eq!(nearest("fit.learning_rte"), Some("fit.learning_rate"));
        assert_eq!(nearest("learning_rate"), Some("fit.learning_rate"));
        assert_eq!(nearest("lora.learning_rate"), Some("fit.learning_rate"));
        assert_eq!(nearest("Lora.rank"), Some("lora.rank"));
        assert_eq!(nearest("fit.lr"), None);
    }
}
