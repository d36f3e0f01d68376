//! The demonstration tasks that ship with the program.

use crate::arc::Task;

use super::{family, sample_task};

/// How one demonstration task is made.
struct Demo {
    /// Name of the family; the id is made of it and the position.
    family: &'static str,
    /// Draws another task of the family.
    seed: u64,
    max_side: usize,
    n_examples: usize,
}

const fn demo(family: &'static str, seed: u64, max_side: usize, n_examples: usize) -> Demo {
    Demo { family, seed, max_side, n_examples }
}

/// The tasks in order of difficulty.
const DEMOS: &[Demo] = &[
    demo("color-map", 0, 5, 4),
    demo("flip", 0, 5, 4),
    demo("crop-corner", 0, 6, 4),
    demo("edge-border", 0, 7, 4),
    demo("upscale", 0, 8, 4),
    demo("swap-colors", 0, 7, 4),
];

/// Makes the demonstration tasks.
///
/// # Panics
/// If a family has lost the task that is named here, which a test excludes.
pub fn demo_tasks() -> Vec<Task> {
    let task = |(index, demo): (usize, &Demo)| {
        let family = family(demo.family).expect("a family of that name");
        let mut rng = crate::rng::stream(demo.seed, demo.family, "demo", 0);
        let task = sample_task(family, &mut rng, demo.n_examples, 1, demo.max_side)
            .expect("a task under that seed");
        Task { id: format!("demo-{:02}-{}", index + 1, demo.family), ..task }
    };
    DEMOS.iter().enumerate().map(task).collect()
}

/// The tasks as one file, `{id: {"train": [..], "test": [..]}}`, a task on each line.
pub fn demo_json(tasks: &[Task]) -> String {
    let line = |task: &Task| {
        let body = serde_json::to_string(task).expect("a task is plain data");
        format!("\"{}\":{body}", task.id)
    };
    let lines: Vec<String> = tasks.iter().map(line).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_what_the_generators_make() {
        let committed = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/tasks/demo.json"));
        assert_eq!(demo_json(&demo_tasks()), committed, "run `arc-ttt synth --demo`");
    }
}
