//! The demonstration tasks that ship with the program.

use crate::arc::Task;

use super::{family, task_at};

/// How one demonstration task is made.
struct Demo {
    /// Name of the family; the id is made of it and the position.
    family: &'static str,
    /// Which of the family's tasks, as in `synth --family NAME --max-side N --examples N`.
    index: u64,
    max_side: usize,
    n_examples: usize,
}

const fn demo(family: &'static str, index: u64, max_side: usize, n_examples: usize) -> Demo {
    Demo { family, index, max_side, n_examples }
}

/// The tasks, the easiest first.
const DEMOS: &[Demo] = &[
    demo("color-map", 2, 6, 4),
    demo("flip", 3, 6, 4),
    demo("edge-border", 1, 6, 4),
    demo("gravity-cells", 0, 6, 4),
    demo("crop-corner", 2, 6, 4),
    demo("mirror-empty-half", 0, 8, 4),
    demo("rays", 0, 6, 4),
    demo("add-border", 2, 6, 4),
    demo("swap-colors", 3, 6, 4),
    demo("upscale", 2, 8, 4),
    demo("rotate", 2, 6, 4),
    demo("crop-half", 2, 8, 4),
    demo("tile", 3, 8, 4),
    demo("color-by-half", 2, 8, 4),
    demo("mirror-join", 1, 8, 4),
    demo("checkerboard", 2, 8, 4),
    demo("keep-color", 3, 8, 4),
    demo("cyclic-shift", 3, 6, 4),
    demo("fill-below", 3, 9, 4),
    demo("mark-corners", 1, 9, 4),
    demo("cross-lines", 2, 9, 4),
    demo("outline", 3, 9, 4),
    demo("mirror-quad", 2, 8, 4),
    demo("panel-first", 1, 8, 4),
    demo("fill-enclosed", 1, 9, 4),
    demo("join-to-line", 2, 9, 4),
    demo("color-by-header", 1, 9, 4),
    demo("denoise", 1, 9, 4),
    demo("panel-boolean", 7, 11, 5),
    demo("hollow-out", 1, 9, 4),
    demo("gravity-obstacles", 0, 9, 4),
    demo("fill-by-seed", 2, 9, 4),
    demo("repair-symmetry", 3, 9, 5),
    demo("self-tile", 2, 9, 5),
    demo("extract-by-color", 3, 9, 5),
    demo("color-by-rank", 0, 10, 5),
];

/// Makes the demonstration tasks.
///
/// # Panics
/// If a family has lost the task that is named here, which a test excludes.
pub fn demo_tasks() -> Vec<Task> {
    let task = |(index, demo): (usize, &Demo)| {
        let family = family(demo.family).expect("a family of that name");
        let task = task_at(family, 0, demo.index, demo.n_examples, demo.max_side)
            .expect("a task at that index");
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
        // Not `assert_eq`, which would print both files.
        assert!(demo_json(&demo_tasks()) == committed, "run `arc-ttt synth --demo`");
    }
}
