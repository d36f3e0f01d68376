//! Fetching from folders, files and archives that the tests make themselves.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use super::*;
use crate::public::demo;

/// A corpus whose two sets are made of the embedded tasks.
fn corpus() -> (&'static Corpus, Vec<Task>, Vec<Task>) {
    let first = demo().tasks;
    let second: Vec<_> =
        first.iter().map(|t| Task { id: format!("{}-b", t.id), ..t.clone() }).collect();
    let set = |name, tasks: &[Task]| PublicSet {
        name,
        n_tasks: tasks.len(),
        n_tests: 0,
        sha256: Box::leak(content_sha256(tasks).into_boxed_str()),
    };
    let sets = vec![set("made-up/training", &first), set("made-up/evaluation", &second)];
    let corpus = Corpus {
        name: "made-up",
        repository: "someone/made-up",
        commit: "c0ffee",
        sets: Box::leak(sets.into_boxed_slice()),
    };
    (Box::leak(Box::new(corpus)), first, second)
}

/// Both sets as folders of task files below `root`.
fn write_folders(root: &Path, first: &[Task], second: &[Task]) {
    for (name, tasks) in [("training", first), ("evaluation", second)] {
        let folder = root.join("data").join(name);
        fs::create_dir_all(&folder).unwrap();
        for task in tasks {
            arc::save_task(&folder.join(format!("{}.json", task.id)), task).unwrap();
        }
    }
}

fn zip_of(folder: &Path, zip: &Path) {
    fn add(writer: &mut zip::ZipWriter<File>, root: &Path, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(writer, root, &path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
                writer.write_all(&fs::read(path).unwrap()).unwrap();
            }
        }
    }
    let mut writer = zip::ZipWriter::new(File::create(zip).unwrap());
    add(&mut writer, folder, folder);
    writer.finish().unwrap();
}

fn check_installed(corpus: &'static Corpus, source: &Source) {
    let data = tempfile::tempdir().unwrap();
    fetch(corpus, source, data.path()).unwrap();
    for set in corpus.sets {
        let dataset = crate::public::load_set(set, data.path()).unwrap();
        assert_eq!(dataset.tasks.len(), set.n_tasks);
    }
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "no scratch is left");
}

#[test]
fn sets_are_found_by_content_in_folders_files_and_archives() {
    let (corpus, first, second) = corpus();
    let dir = tempfile::tempdir().unwrap();
    let folders = dir.path().join("folders");
    write_folders(&folders, &first, &second);
    check_installed(corpus, &Source::Local(folders.clone()));

    let both = dir.path().join("both");
    fs::create_dir(&both).unwrap();
    let (train, eval) = (arc::set_to_json(&first), arc::set_to_json(&second));
    fs::write(both.join("x.json"), format!(r#"{{"train":{train},"eval":{eval}}}"#)).unwrap();
    check_installed(corpus, &Source::Local(both));

    let zip = dir.path().join("someone/made-up/archive/c0ffee.zip");
    fs::create_dir_all(zip.parent().unwrap()).unwrap();
    zip_of(&folders, &zip);
    check_installed(corpus, &Source::Local(zip));
    if Command::new("curl").arg("--version").output().is_ok() {
        let base = format!("file://{}/", dir.path().display());
        check_installed(corpus, &Source::GitHub { base });
    }
}

#[test]
fn other_content_is_refused_and_leaves_what_was_installed() {
    let (corpus, first, second) = corpus();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data-folder");
    let good = dir.path().join("good");
    write_folders(&good, &first, &second);
    fetch(corpus, &Source::Local(good), &data).unwrap();

    let mut changed = second.clone();
    changed[0].tests.reverse();
    changed[0].examples.pop();
    let bad = dir.path().join("bad");
    write_folders(&bad, &first, &changed);
    let error = fetch(corpus, &Source::Local(bad), &data).unwrap_err();
    assert!(matches!(error, FetchError::NotFound { set: "made-up/evaluation", .. }), "{error}");
    assert!(error.to_string().contains("but with another content, in"), "{error}");
    assert!(corpus.sets.iter().all(|set| crate::public::load_set(set, &data).is_ok()));
}

#[test]
fn a_second_fetch_replaces_a_damaged_one() {
    let (corpus, first, second) = corpus();
    let dir = tempfile::tempdir().unwrap();
    let (data, good) = (dir.path().join("d"), dir.path().join("good"));
    write_folders(&good, &first, &second);
    fetch(corpus, &Source::Local(good.clone()), &data).unwrap();
    fs::write(corpus.sets[0].path(&data), "{").unwrap();
    assert!(crate::public::load_set(&corpus.sets[0], &data).is_err());
    fetch(corpus, &Source::Local(good), &data).unwrap();
    assert!(crate::public::load_set(&corpus.sets[0], &data).is_ok());
}

#[test]
fn a_file_that_is_no_archive_is_named() {
    let (corpus, ..) = corpus();
    let dir = tempfile::tempdir().unwrap();
    let junk = dir.path().join("junk.bin");
    fs::write(&junk, "not an archive").unwrap();
    let error = fetch(corpus, &Source::Local(junk), dir.path()).unwrap_err().to_string();
    assert!(error.contains("junk.bin cannot be unpacked"), "{error}");
}
