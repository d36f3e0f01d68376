//! What makes a run the run it is: two runs of the same identity give the same submission.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Shard;
use crate::arc::{Dataset, Task, task_to_json};
use crate::engine::ModelInfo;
use crate::pipeline::Replay;
use crate::recipe::Recipe;

/// Everything that decides the content of a submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Version of this program.
    pub version: String,
    /// Name of the recipe; the settings themselves count, not the name.
    pub recipe: String,
    /// The resolved recipe as TOML (kept as `recipe.toml` beside the manifest).
    #[serde(skip)]
    pub settings: String,
    /// Root of all random streams.
    pub seed: u64,
    /// The base model and the device it runs on.
    pub model: ModelInfo,
    /// What the user called the dataset; its content counts, not the name.
    pub dataset: String,
    /// SHA-256 over the tasks without their answers, in order.
    pub dataset_sha256: String,
    /// What limits each task.
    pub limits: Limits,
    /// Fingerprint of the run whose steps and views are repeated.
    pub replay: Option<String>,
    /// Which part of `tasks` this run works on.
    pub shard: Option<Shard>,
    /// Ids of all tasks, those of other shards included, in order.
    pub tasks: Vec<String>,
}

/// What limits the work on the tasks of a run: each of them, or all together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall seconds.
    pub budget_seconds: Option<f64>,
    /// Wall seconds for all tasks together, given where they are worth most.
    #[serde(default)]
    pub total_seconds: Option<f64>,
    /// Whether these are given to all tasks alike instead: what is left of them, shared by the tasks that are left.
    #[serde(default)]
    pub evenly: bool,
    /// Gradient steps, where they are not the recipe's.
    pub steps: Option<usize>,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl Limits {
    /// Whether the clock decides how much is done, so that jobs, threads and the machine do as well.
    pub fn is_timed(&self) -> bool {
        self.budget_seconds.is_some() || self.total_seconds.is_some()
    }
}

/// A value that two identities do not share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What the value is for, such as `fit.learning_rate`.
    pub what: String,
    /// The value in the run directory.
    pub there: String,
    /// The value of this command.
    pub here: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} there, {} here)", self.what, self.there, self.here)
    }
}

/// SHA-256 in hex over tasks without their answers, in order.
pub fn hash_tasks(tasks: &[Task]) -> String {
    let mut hash = Sha256::new();
    for task in tasks {
        for part in [task.id.as_str(), &task_to_json(&task.without_answers())] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    hex(&hash.finalize())
}

/// SHA-256 in hex over what a run repeats, by task.
pub fn hash_replays(replays: &BTreeMap<String, Replay>) -> String {
    hash_text(&serde_json::to_string(replays).expect("numbers become JSON"))
}

/// SHA-256 of a text, in hex.
pub(super) fn hash_text(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Identity {
    /// A run over all of `dataset`, nothing repeated.
    pub fn new(recipe: &Recipe, dataset: &Dataset, model: ModelInfo, limits: Limits) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            recipe: recipe.name.clone(),
            settings: recipe.to_toml(),
            seed: recipe.seed,
            model,
            dataset: dataset.name.clone(),
            dataset_sha256: hash_tasks(&dataset.tasks),
            limits,
            replay: None,
            shard: None,
            tasks: dataset.tasks.iter().map(|task| task.id.clone()).collect(),
        }
    }

    /// The ids that this run works on: those of its shard.
    pub fn own_tasks(&self) -> Vec<String> {
        match self.shard {
            Some(shard) => shard.select(self.tasks.clone()),
            None => self.tasks.clone(),
        }
    }

    /// SHA-256 in hex over everything that counts.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (what, value) in self.values() {
            for part in [what, value] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        hex(&hash.finalize())
    }

    /// What differs from the identity found in a run directory.
    pub fn differences(&self, there: &Identity) -> Vec<Difference> {
        let (ours, theirs) = (self.values(), there.values());
        let value = |values: &BTreeMap<String, String>, what: &str| {
            values.get(what).map_or("nothing".to_owned(), |v| shorten(v))
        };
        let mut names: Vec<_> = ours.keys().chain(theirs.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let differing = names.into_iter().filter(|what| ours.get(*what) != theirs.get(*what));
        differing
            .map(|what| Difference {
                what: what.clone(),
                there: value(&theirs, what),
                here: value(&ours, what),
            })
            .collect()
    }

    /// Everything that counts, by name.
    fn values(&self) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        match self.settings.parse::<toml::Table>() {
            Ok(mut table) => {
                table.remove("name");
                flatten("", &toml::Value::Table(table), &mut values);
            }
            // Never written by this program; still to be told apart.
            Err(_) => drop(values.insert("recipe".to_owned(), self.settings.clone())),
        }
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        // To the microsecond: a manifest, or an option, need not give back the last bit of what was written.
        let seconds = |s: f64| format!("{} s", (s * 1e6).round() / 1e6);
        let budget = self.limits.budget_seconds.map(seconds);
        let evenly = if self.limits.evenly { ", evenly" } else { "" };
        let total = self.limits.total_seconds.map(|s| seconds(s) + evenly);
        let named = [
            ("version", self.version.clone()),
            ("seed", self.seed.to_string()),
            ("model", format!("{} {}", self.model.name, self.model.sha256)),
            // Two devices of a kind give the same numbers: shards may run on one each.
            ("device", self.model.device.split(':').next().unwrap_or_default().to_owned()),
            ("dataset", self.dataset_sha256.clone()),
            ("tasks", self.tasks.join(" ")),
            ("shard", or_none(self.shard.map(|s| s.to_string()))),
            ("budget", or_none(budget)),
            ("total time", or_none(total)),
            ("steps", or_none(self.limits.steps.map(|s| s.to_string()))),
            ("memory", self.limits.memory_bytes.to_string()),
            ("replay", or_none(self.replay.clone())),
        ];
        values.extend(named.map(|(what, value)| (what.to_owned(), value)));
        values
    }
}

/// Adds the leaves of a TOML value under names such as `fit.learning_rate`.
fn flatten(name: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    let toml::Value::Table(table) = value else {
        into.insert(name.to_owned(), value.to_string());
        return;
    };
    for (key, value) in table {
        let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        flatten(&name, value, into);
    }
}

/// The beginning of a long value.
fn shorten(value: &str) -> String {
    const LENGTH: usize = 40;
    match value.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::run) fn identity(tasks: &[&str]) -> Identity {
        Identity {
            version: "1".into(),
            recipe: "default".into(),
            settings: "name = 'default'\nseed = 0\n[fit]\nsteps = 8\nlearning_rate = 0.001\n"
                .into(),
            seed: 0,
            model: ModelInfo {
                name: "mock".into(),
                sha256: "abc".into(),
                parameters: 1,
                device: "cpu".into(),
            },
            dataset: "demo".into(),
            dataset_sha256: "def".into(),
            limits: Limits {
                budget_seconds: None,
                total_seconds: None,
                evenly: false,
                steps: None,
                memory_bytes: 1,
            },
            replay: None,
            shard: None,
            tasks: tasks.iter().map(|&t| t.to_owned()).collect(),
        }
    }

    #[test]
    fn a_changed_setting_is_named_with_both_values() {
        let here = identity(&["a"]);
        let mut there = here.clone();
        there.settings = there.settings.replace("0.001", "0.002");
        there.model.sha256 = "xyz".into();
        let differences: Vec<_> =
            here.differences(&there).iter().map(ToString::to_string).collect();
        let expected = [
            "fit.learning_rate (0.002 there, 0.001 here)",
            "model (mock xyz there, mock abc here)",
        ];
        assert_eq!(differences, expected);
        assert_ne!(here.fingerprint(), there.fingerprint());
    }

    #[test]
    fn names_and_layout_do_not_count() {
        let here = identity(&["a"]);
        let mut there = here.clone();
        there.recipe = "mine".into();
        there.dataset = "elsewhere".into();
        there.settings =
            "# a remark\nseed=0\nname='mine'\nfit = { learning_rate = 0.001, steps = 8 }\n".into();
        assert_eq!(here.differences(&there), []);
        assert_eq!(here.fingerprint(), there.fingerprint());
    }

    #[test]
    fn everything_else_counts() {
        let here = identity(&["a", "b"]);
        let changes: [fn(&mut Identity); 10] = [
            |i| i.version = "2".into(),
            |i| i.seed = 1,
            |i| i.model.device = "cuda".into(),
            |i| i.dataset_sha256 = "0".into(),
            |i| i.tasks.swap(0, 1),
            |i| i.shard = "1/2".parse().ok(),
            |i| i.limits.steps = Some(1),
            |i| i.limits.budget_seconds = Some(1.5),
            |i| i.limits.total_seconds = Some(1.5),
            |i| i.replay = Some("f".into()),
        ];
        for change in changes {
            let mut there = here.clone();
            change(&mut there);
            assert_eq!(here.differences(&there).len(), 1);
            assert_ne!(here.fingerprint(), there.fingerprint());
        }
        let mut total = here;
        total.limits.total_seconds = Some(1.5);
        let mut evenly = total.clone();
        evenly.limits.evenly = true;
        assert_eq!(evenly.differences(&total).len(), 1);
    }

    #[test]
    fn seconds_that_were_written_and_read_again_are_the_same_seconds() {
        let mut here = identity(&["a"]);
        for seconds in [8.0 / 3.0, 2.6666666660000002, 257.142857143, 0.1] {
            here.limits.total_seconds = Some(seconds);
            let mut there = here.clone();
            there.limits =
                serde_json::from_str(&serde_json::to_string(&here.limits).unwrap()).unwrap();
            assert_eq!(here.differences(&there), []);
            // As an option takes them: to the nanosecond.
            let read = std::time::Duration::from_secs_f64(seconds).as_secs_f64();
            there.limits.total_seconds = Some(read);
            assert_eq!(here.differences(&there), []);
            there.limits.total_seconds = Some(seconds + 1e-3);
            assert_eq!(here.differences(&there).len(), 1);
        }
    }
}
