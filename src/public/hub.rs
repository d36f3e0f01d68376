//! Checkpoints of the Hugging Face hub by their identifier, through `curl`, in the hub's own cache.
//!
//! The cache has the layout of `huggingface_hub`, so that a checkpoint which another program has downloaded is taken from
//! there and needs no network: `models--OWNER--NAME/refs/REVISION` names a commit, `snapshots/COMMIT` holds its files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Files that every checkpoint has.
const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];

/// Files that are taken along where there are any.
const WELCOME: [&str; 1] = ["tokenizer_config.json"];

const ONE_FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What a download in progress is called behind its name.
const PARTIAL: &str = ".incomplete";

/// What a process holds that downloads a checkpoint.
const LOCK: &str = "arc-ttt.lock";

/// Why a checkpoint is not here.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The hub was not reached, or refused.
    #[error(
        "{identifier} is not in the cache {cache}, and cannot be downloaded: {reason}; without a network, give the folder \
         of a downloaded checkpoint (`huggingface-cli download {identifier}` where there is one); closed models need \
         HF_TOKEN",
        cache = .cache.display()
    )]
    Unreachable {
        /// The checkpoint.
        identifier: String,
        /// Where it was looked for.
        cache: PathBuf,
        /// What curl says.
        reason: String,
    },
    /// A repository without what a checkpoint needs.
    #[error(
        "{identifier} on the hub has no {file}; only checkpoints in safetensors with a tokenizer.json are read"
    )]
    NoCheckpoint {
        /// The checkpoint.
        identifier: String,
        /// What is missing.
        file: String,
    },
    /// An answer that makes no sense.
    #[error("the hub's answer about {identifier} cannot be read: {reason}")]
    Answer {
        /// The checkpoint.
        identifier: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot write {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No folder for the cache.
    #[error("there is no home folder for the hub's cache; set HF_HUB_CACHE")]
    NoCache,
}

/// Where checkpoints come from, and where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// Address of the hub.
    pub endpoint: String,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Access token, for closed models.
    pub token: Option<String>,
}

impl Hub {
    /// As the hub's own programs find it: by HF_ENDPOINT, HF_HUB_CACHE or HF_HOME, and HF_TOKEN.
    ///
    /// # Errors
    /// [`HubError::NoCache`].
    pub fn from_environment() -> Result<Self, HubError> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = || Some(dirs::home_dir()?.join(".cache/huggingface"));
        let cache = match set("HF_HUB_CACHE") {
            Some(cache) => PathBuf::from(cache),
            None => set("HF_HOME")
                .map(PathBuf::from)
                .or_else(home)
                .ok_or(HubError::NoCache)?
                .join("hub"),
        };
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Ok(Self { endpoint, cache, token: set("HF_TOKEN") })
    }

    /// The folder of the checkpoint that `identifier` names, `OWNER/NAME`: out of the cache, or downloaded into it.
    /// A download that was interrupted is gone on with. `say` is told of each file.
    ///
    /// # Errors
    /// [`HubError`] if it is neither in the cache nor to be had.
    pub fn checkpoint(
        &self,
        identifier: &str,
        say: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, HubError> {
        if let Some(folder) = self.cached(identifier).filter(|folder| missing(folder).is_none()) {
            return Ok(folder);
        }
        let _lock = self.lock(identifier)?;
        if let Some(folder) = self.cached(identifier).filter(|folder| missing(folder).is_none()) {
            return Ok(folder);
        }
        let Revision { commit, names, folder } = self.revision(identifier)?;
        let has = |file: &str| names.iter().any(|name| name == file);
        let weights = if has(ONE_FILE) { ONE_FILE } else { INDEX };
        for file in NEEDED.into_iter().chain([weights]) {
            if !has(file) {
                let file = file.to_owned();
                return Err(HubError::NoCheckpoint { identifier: identifier.to_owned(), file });
            }
        }
        let mut files: Vec<String> =
            NEEDED.into_iter().chain([weights]).map(str::to_owned).collect();
        files.extend(WELCOME.into_iter().filter(|file| has(file)).map(str::to_owned));
        // Small files first: the index names the others.
        for file in &files {
            self.download(identifier, &commit, file, &folder, say)?;
        }
        while let Some(file) = missing(&folder) {
            self.download(identifier, &commit, &file, &folder, say)?;
        }
        let reference = self.repository(identifier).join("refs/main");
        write(&reference, &commit).map_err(|source| HubError::Io { path: reference, source })?;
        Ok(folder)
    }

    /// A folder with the configuration of the checkpoint that `identifier` names: the checkpoint's own in the cache, or one
    /// to which that file alone is downloaded.
    ///
    /// # Errors
    /// [`HubError`] if it is neither in the cache nor to be had.
    pub fn configuration(&self, identifier: &str) -> Result<PathBuf, HubError> {
        let [config, _] = NEEDED;
        if let Some(folder) = self.cached(identifier).filter(|f| f.join(config).exists()) {
            return Ok(folder);
        }
        let _lock = self.lock(identifier)?;
        let Revision { commit, folder, .. } = self.revision(identifier)?;
        self.download(identifier, &commit, config, &folder, &mut |_| ())?;
        Ok(folder)
    }

    /// The folder of a checkpoint's files and what is known of it.
    fn repository(&self, identifier: &str) -> PathBuf {
        self.cache.join(format!("models--{}", identifier.replace('/', "--")))
    }

    /// Waits until no other process of this program downloads the checkpoint: two that go on with the same file would spoil
    /// it. Released when the file is dropped, or the process ends.
    fn lock(&self, identifier: &str) -> Result<File, HubError> {
        // Where the hub's own programs have theirs.
        let repository = self.repository(identifier);
        let folder = self.cache.join(".locks").join(repository.file_name().unwrap_or_default());
        let path = folder.join(LOCK);
        let lock = fs::create_dir_all(&folder).and_then(|()| File::create(&path));
        let lock = lock.map_err(|source| HubError::Io { path: path.clone(), source })?;
        // Some file systems have no locks; there the user is trusted.
        if let Err(error) = lock.lock() {
            tracing::debug!("{}: {error}", path.display());
        }
        Ok(lock)
    }

    /// The folder of the files that the cache has of a checkpoint, as far as it was once whole.
    fn cached(&self, identifier: &str) -> Option<PathBuf> {
        let repository = self.repository(identifier);
        let commit = fs::read_to_string(repository.join("refs/main")).ok()?;
        Some(repository.join("snapshots").join(commit.trim()))
    }

    /// What a repository's main branch is at.
    fn revision(&self, identifier: &str) -> Result<Revision, HubError> {
        let bad = |reason: &str| HubError::Answer {
            identifier: identifier.to_owned(),
            reason: reason.to_owned(),
        };
        let address = format!("{}/api/models/{identifier}/revision/main", self.endpoint);
        let answer = self.curl(identifier, &address, &[])?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|e| bad(&e.to_string()))?;
        let commit = answer["sha"].as_str().ok_or_else(|| bad("no `sha`"))?;
        // It becomes the name of a folder.
        if commit.is_empty() || !commit.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(bad("its `sha` is no commit"));
        }
        let files = answer["siblings"].as_array().ok_or_else(|| bad("no `siblings`"))?;
        let names = files.iter().filter_map(|file| file["rfilename"].as_str().map(str::to_owned));
        let folder = self.repository(identifier).join("snapshots").join(commit);
        fs::create_dir_all(&folder)
            .map_err(|source| HubError::Io { path: folder.clone(), source })?;
        Ok(Revision { commit: commit.to_owned(), names: names.collect(), folder })
    }

    /// Downloads one file, from where an earlier attempt has left off.
    fn download(
        &self,
        identifier: &str,
        commit: &str,
        file: &str,
        folder: &Path,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), HubError> {
        let (whole, partial) = (folder.join(file), folder.join(format!("{file}{PARTIAL}")));
        if whole.exists() {
            return Ok(());
        }
        say(file);
        let address = format!("{}/{identifier}/resolve/{commit}/{file}", self.endpoint);
        let output = partial.to_string_lossy().into_owned();
        self.curl(identifier, &address, &["--continue-at", "-", "--output", &output])?;
        fs::rename(&partial, &whole).map_err(|source| HubError::Io { path: whole, source })
    }

    /// What an address answers.
    fn curl(&self, identifier: &str, address: &str, options: &[&str]) -> Result<Vec<u8>, HubError> {
        let failed = |reason: String| HubError::Unreachable {
            identifier: identifier.to_owned(),
            cache: self.cache.clone(),
            reason,
        };
        let mut command = Command::new("curl");
        command.args(["--fail", "--location", "--silent", "--show-error", "--retry", "2"]);
        command.args(["--connect-timeout", "20", "--config", "-"]).args(options).arg(address);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| failed(format!("curl cannot be run: {e}")))?;
        // Not among the arguments, where every user of the machine could read it.
        let header =
            self.token.as_ref().map(|t| format!("header = \"Authorization: Bearer {t}\"\n"));
        let stdin = child.stdin.take();
        if let (Some(mut stdin), Some(header)) = (stdin, header) {
            stdin.write_all(header.as_bytes()).map_err(|e| failed(e.to_string()))?;
        }
        let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint.lines().find(|line| !line.trim().is_empty());
        Err(failed(complaint.map_or_else(|| output.status.to_string(), str::to_owned)))
    }
}

/// A commit of a repository.
struct Revision {
    commit: String,
    /// Its files.
    names: Vec<String>,
    /// Where they go; it is there.
    folder: PathBuf,
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(path, text)
}

/// The first file that a folder lacks to be a checkpoint.
fn missing(folder: &Path) -> Option<String> {
    let lacks = |file: &str| !folder.join(file).exists();
    if let Some(file) = NEEDED.into_iter().find(|file| lacks(file)) {
        return Some(file.to_owned());
    }
    if !lacks(ONE_FILE) {
        return None;
    }
    if lacks(INDEX) {
        return Some(INDEX.to_owned());
    }
    let index = fs::read(folder.join(INDEX)).ok()?;
    let index: Value = serde_json::from_slice(&index).ok()?;
    let files = index["weight_map"].as_object()?.values().filter_map(Value::as_str);
    // A name with a path in it could lead out of the folder; reading the checkpoint refuses it.
    let plain = |file: &&str| Path::new(file).file_name() == Some(file.as_ref());
    files.filter(plain).find(|file| lacks(file)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;

    type Files = BTreeMap<String, Vec<u8>>;

    /// What a request asks for: its path, where it begins, and its token.
    type Requests = Arc<Mutex<Vec<(String, usize, Option<String>)>>>;

    /// A hub on this machine with one repository.
    fn serve(files: Files) -> (String, Requests) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Requests::default();
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().unwrap().unwrap();
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let (mut from, mut token) = (0, None);
                for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
                    let (name, value) = line.split_once(": ").unwrap();
                    if name.eq_ignore_ascii_case("range") {
                        let start = value.trim_start_matches("bytes=").split('-').next().unwrap();
                        from = start.parse().unwrap();
                    } else if name.eq_ignore_ascii_case("authorization") {
                        token = Some(value.to_owned());
                    }
                }
                seen.lock().unwrap().push((path.clone(), from, token));
                let siblings: Vec<_> =
                    files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
                let about = serde_json::json!({"sha": "abc123", "siblings": siblings}).to_string();
                let body = match path.strip_prefix("/me/tiny/resolve/abc123/") {
                    Some(file) => files.get(file).cloned(),
                    None => {
                        (path == "/api/models/me/tiny/revision/main").then(|| about.into_bytes())
                    }
                };
                let (status, body) = match (body, from) {
                    (None, _) => ("404 Not Found", Vec::new()),
                    (Some(body), 0) => ("200 OK", body),
                    (Some(body), from) => ("206 Partial Content", body[from..].to_vec()),
                };
                let range = format!(
                    "Content-Range: bytes {from}-{}/{}",
                    from + body.len() - body.len().min(1),
                    from + body.len()
                );
                let head = format!(
                    "HTTP/1.1 {status}\r\n{range}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(&body).unwrap();
            }
        });
        (address, requests)
    }

    fn files() -> Files {
        let index = r#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#;
        let files = [
            ("README.md", "not wanted"),
            ("config.json", "{}"),
            ("tokenizer.json", "{ }"),
            (INDEX, index),
            ("one.safetensors", "first shard"),
            ("two.safetensors", "second shard"),
        ];
        files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into()
    }

    #[test]
    fn a_checkpoint_is_downloaded_once_and_an_interrupted_download_goes_on() {
        let cache = tempfile::tempdir().unwrap();
        let (endpoint, requests) = serve(files());
        let token = Some("secret".to_owned());
        let hub = Hub { endpoint, cache: cache.path().to_owned(), token };
        let folder = cache.path().join("models--me--tiny/snapshots/abc123");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("two.safetensors.incomplete"), "second").unwrap();
        let mut said = Vec::new();
        assert_eq!(
            hub.checkpoint("me/tiny", &mut |file| said.push(file.to_owned())).unwrap(),
            folder
        );
        assert_eq!(
            said,
            ["config.json", "tokenizer.json", INDEX, "one.safetensors", "two.safetensors"]
        );
        for (name, bytes) in files().iter().filter(|(name, _)| *name != "README.md") {
            assert_eq!(&fs::read(folder.join(name)).unwrap(), bytes, "{name}");
        }
        assert!(!folder.join("README.md").exists());
        let seen = requests.lock().unwrap().clone();
        assert_eq!((seen.len(), seen[5].1), (6, 6), "{seen:?}");
        assert!(seen.iter().all(|(.., token)| token.as_deref() == Some("Bearer secret")));
        // From now on nobody is asked.
        let offline = Hub { endpoint: "http://127.0.0.1:1".into(), ..hub };
        assert_eq!(offline.checkpoint("me/tiny", &mut |_| ()).unwrap(), folder);
        assert_eq!(requests.lock().unwrap().len(), 6);
    }

    #[test]
    fn a_configuration_is_downloaded_without_the_rest() {
        let cache = tempfile::tempdir().unwrap();
        let (endpoint, requests) = serve(files());
        let hub = Hub { endpoint, cache: cache.path().to_owned(), token: None };
        let folder = hub.configuration("me/tiny").unwrap();
        let n_files = || fs::read_dir(&folder).unwrap().count();
        assert_eq!(
            (fs::read_to_string(folder.join("config.json")).unwrap().as_str(), n_files()),
            ("{}", 1)
        );
        // The checkpoint is not taken to be here, and then its own configuration is.
        assert_eq!(hub.checkpoint("me/tiny", &mut |_| ()).unwrap(), folder);
        assert_eq!(n_files(), 5);
        let asked = requests.lock().unwrap().len();
        assert_eq!(hub.configuration("me/tiny").unwrap(), folder);
        assert_eq!(requests.lock().unwrap().len(), asked);
    }

    #[test]
    fn what_cannot_be_had_is_said_with_the_mend() {
        let cache = tempfile::tempdir().unwrap();
        let check = |endpoint: &str, identifier: &str, expected: &str| {
            let hub =
                Hub { endpoint: endpoint.into(), cache: cache.path().to_owned(), token: None };
            let error = hub.checkpoint(identifier, &mut |_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("http://127.0.0.1:1", "me/tiny", "give the folder of a downloaded checkpoint");
        let mut without = files();
        without.remove("tokenizer.json");
        let (endpoint, _) = serve(without);
        check(&endpoint, "me/other", "404");
        check(&endpoint, "me/tiny", "me/tiny on the hub has no tokenizer.json");
        assert!(!cache.path().join("models--me--tiny/refs/main").exists());
    }
}
