//! Each level, what is no finding, and the order of findings.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::arc::strategies::view;
use crate::arc::{Example, Test};
use crate::public;

/// A task of random grids of 10×10 turned upside down: three demonstrations and an answered test.
fn noise(seed: u64) -> Task {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let cells: Vec<Vec<u8>> =
        (0..4).map(|_| (0..100).map(|_| rng.random_range(0..10)).collect()).collect();
    let pair = |cells: &Vec<u8>| Example {
        input: Grid::from_fn(10, 10, |r, c| cells[10 * r + c]),
        output: Grid::from_fn(10, 10, |r, c| cells[10 * (9 - r) + c]),
    };
    let test = pair(&cells[3]);
    Task {
        id: format!("noise-{seed}"),
        examples: cells[..3].iter().map(pair).collect(),
        tests: vec![Test { input: test.input, output: Some(test.output) }],
    }
}

/// The task with the first `n` cells of every demonstration's input changed.
fn changed(mut task: Task, n: usize) -> Task {
    for example in &mut task.examples {
        for column in 0..n {
            let color = example.input.get(0, column);
            example.input.set(0, column, (color + 1) % 10);
        }
    }
    task
}

fn one(a: &Task, b: &Task, config: &AuditConfig) -> Option<Finding> {
    let mut findings = audit(std::slice::from_ref(a), std::slice::from_ref(b), config);
    assert!(findings.len() <= 1);
    findings.pop()
}

proptest! {
    #[test]
    fn a_task_is_found_in_any_position_color_and_order(view in view(3)) {
        let task = noise(0);
        let found = one(&task, &view.apply_task(&task), &AuditConfig::default()).unwrap();
        prop_assert!(found.level <= Level::Equivalent);
        prop_assert_eq!(found.matches.len(), 4);
        prop_assert!(found.matches.iter().all(|pair| pair.level <= Level::Equivalent));
    }

    #[test]
    fn a_few_changed_cells_are_near_in_any_position_and_color(view in view(3), n in 1usize..=3) {
        let task = noise(0);
        let other = view.apply_task(&changed(task.clone(), n));
        let found = one(&task, &other, &AuditConfig::default()).unwrap();
        // The test's pair was not changed.
        let near = found.matches.iter().filter(|pair| pair.level == Level::Near).count();
        prop_assert_eq!((near, found.matches.len()), (3, 4));
    }
}

#[test]
fn many_changed_cells_are_not_near_nor_any_with_a_share_of_zero() {
    let config = AuditConfig::default();
    let without_test = |mut task: Task| {
        task.tests = vec![Test { input: Grid::filled(1, 1, 0), output: None }];
        task
    };
    let (task, close) = (without_test(noise(0)), without_test(changed(noise(0), 2)));
    assert_eq!(one(&task, &close, &config).unwrap().level, Level::Near);
    assert_eq!(one(&task, &without_test(changed(noise(0), 6)), &config), None);
    assert_eq!(one(&task, &close, &AuditConfig { near: 0.0, ..config }), None);
}

#[test]
fn identical_is_all_pairs_and_exact_is_some() {
    let task = noise(0);
    let mut shuffled = task.clone();
    shuffled.id = "shuffled".into();
    shuffled.examples.rotate_left(1);
    let found = one(&task, &shuffled, &AuditConfig::default()).unwrap();
    assert_eq!((found.level, found.matches.len()), (Level::Identical, 4));
    let place = Match { level: Level::Exact, a: "train[0]".into(), b: "train[2]".into() };
    assert_eq!(found.matches[0], place);

    let mut partly = noise(1);
    partly.tests[0] = task.tests[0].clone();
    let found = one(&task, &partly, &AuditConfig::default()).unwrap();
    let place = Match { level: Level::Exact, a: "test[0]".into(), b: "test[0]".into() };
    assert_eq!((found.level, found.matches), (Level::Exact, vec![place]));
}

#[test]
fn an_input_with_another_or_no_output_is_a_weaker_finding() {
    let task = noise(0);
    let mut open = noise(1);
    open.tests = vec![Test { input: task.examples[0].input.clone(), output: None }];
    let found = one(&task, &open, &AuditConfig::default()).unwrap();
    assert_eq!((found.level, found.matches.len()), (Level::Input, 1));
    open.tests[0].output = Some(Grid::filled(1, 1, 0));
    assert_eq!(one(&task, &open, &AuditConfig::default()).unwrap().level, Level::Input);
}

#[test]
fn what_small_grids_have_in_common_is_no_finding_unless_it_is_all_of_them() {
    let small = |a: [u8; 2], b: [u8; 2]| Example {
        input: Grid::from_rows(&[a, b]).unwrap(),
        output: Grid::from_rows(&[b, a]).unwrap(),
    };
    let with_small = |mut task: Task| {
        task.examples.push(small([1, 2], [3, 1]));
        task
    };
    let (a, b) = (with_small(noise(0)), with_small(noise(1)));
    assert_eq!(one(&a, &b, &AuditConfig::default()), None);
    let all = AuditConfig { evidence: 0.0, ..AuditConfig::default() };
    assert_eq!(one(&a, &b, &all).unwrap().level, Level::Exact);

    let test = small([4, 4], [5, 6]);
    let whole = |examples| Task {
        id: "small".into(),
        examples,
        tests: vec![Test { input: test.input.clone(), output: Some(test.output.clone()) }],
    };
    let task = whole(vec![small([1, 2], [3, 1])]);
    let recolored = whole(vec![small([7, 8], [9, 7])]);
    assert_eq!(one(&task, &recolored, &AuditConfig::default()).unwrap().level, Level::Exact);
    assert_eq!(one(&task, &task, &AuditConfig::default()).unwrap().level, Level::Identical);
}

#[test]
fn sets_without_anything_in_common_give_no_finding() {
    let tasks: Vec<Task> = (0..40).map(noise).collect();
    assert_eq!(audit(&tasks[..20], &tasks[20..], &AuditConfig::default()), vec![]);
    assert_eq!(duplicates(&tasks, &AuditConfig::default()), vec![]);
}

#[test]
fn a_set_is_searched_for_duplicates_once_and_no_task_is_its_own() {
    let twin = Task { id: "twin".into(), ..noise(0) };
    let tasks = [noise(0), noise(1), twin];
    let found = duplicates(&tasks, &AuditConfig::default());
    let pairs: Vec<_> = found.iter().map(|f| (f.a.as_str(), f.b.as_str(), f.level)).collect();
    assert_eq!(pairs, [("noise-0", "twin", Level::Identical)]);
}

#[test]
fn the_strongest_come_first_and_among_them_other_ids() {
    let twin = Task { id: "twin".into(), ..noise(1) };
    let tasks = [noise(0), noise(1)];
    let mut partly = noise(2);
    partly.tests[0] = tasks[0].tests[0].clone();
    let found = audit(&tasks, &[partly, noise(0), noise(1), twin], &AuditConfig::default());
    let pairs: Vec<_> = found.iter().map(|f| (f.a.as_str(), f.b.as_str())).collect();
    let expected = [
        ("noise-1", "twin"),
        ("noise-0", "noise-0"),
        ("noise-1", "noise-1"),
        ("noise-0", "noise-2"),
    ];
    assert_eq!(pairs, expected);
}

#[test]
fn every_embedded_task_is_found_in_the_embedded_tasks() {
    let tasks = public::demo().tasks;
    let found = audit(&tasks, &tasks, &AuditConfig::default());
    let own = found.iter().filter(|f| f.a == f.b && f.level == Level::Identical).count();
    assert_eq!(own, tasks.len());
}
