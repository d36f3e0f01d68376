//! Files that are whole at every moment, whatever interrupts the program.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What to do about an error of the system, or nothing.
pub(super) fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; free some space and give the same command again to go on"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; give an --out that can be written"
        }
        _ => "",
    }
}

/// Whether a file is called as [`crate::arc::write_atomically`] calls what it is writing: `.NAME.PROCESS.tmp`.
pub fn is_temporary(name: &str) -> bool {
    let process = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
    let process = process.and_then(|name| name.rsplit_once('.')).map(|(_, process)| process);
    process.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// Removes what an interrupted [`crate::arc::write_atomically`] has left behind.
///
/// # Errors
/// If the directory cannot be read or the file not be removed.
pub fn remove_temporaries(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(is_temporary) && path.is_file() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A file of lines that only grows, and whose whole lines survive any interruption.
#[derive(Debug)]
pub struct Log {
    file: File,
    length: u64,
}

impl Log {
    /// Opens or creates the file and returns its whole lines; an unfinished last line is cut off.
    ///
    /// # Errors
    /// If the file cannot be read, written or cut, or is not UTF-8 up to its last line break.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<String>)> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64)?;
            bytes.truncate(whole);
        }
        let text = String::from_utf8(bytes)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.utf8_error()))?;
        let lines = text.lines().map(str::to_owned).collect();
        file.seek(SeekFrom::End(0))?;
        Ok((Self { file, length: whole as u64 }, lines))
    }

    /// Adds a line and waits until it is on the disk.
    ///
    /// # Errors
    /// Whatever the system says; the file then ends where it ended before.
    ///
    /// # Panics
    /// If the text holds a line break.
    pub fn append(&mut self, line: &str) -> io::Result<()> {
        assert!(!line.contains('\n'), "a record is one line");
        let bytes = format!("{line}\n");
        let written = self.file.write_all(bytes.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Best effort: an unfinished line left here is cut off by the next `open`.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::End(0));
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Cuts off everything after the first `lines` lines.
    ///
    /// # Errors
    /// If the file cannot be read or cut.
    pub fn keep_lines(&mut self, lines: usize) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        let kept =
            bytes.split_inclusive(|&b| b == b'\n').take(lines).map(<[u8]>::len).sum::<usize>();
        self.file.set_len(kept as u64)?;
        self.file.seek(SeekFrom::End(0))?;
        self.length = kept as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_an_interrupted_write_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".a.json.7.tmp"), b"half").unwrap();
        for other in ["a.json", "notes.tmp", ".mine.tmp", ".a.json.7.tmp2"] {
            fs::write(directory.path().join(other), b"whole").unwrap();
        }
        remove_temporaries(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_next_line_starts_clean() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        let (mut log, lines) = Log::open(&path).unwrap();
        assert_eq!(lines, ["one", "two"]);
        log.append("three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn lines_after_the_kept_ones_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (mut log, _) = Log::open(&path).unwrap();
        for line in ["one", "two", "three"] {
            log.append(line).unwrap();
        }
        log.keep_lines(1).unwrap();
        log.append("four").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\nfour\n");
    }
}
