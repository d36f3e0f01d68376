//! The grid transformer behind the [`Engine`] interface.

mod fit;
mod parameters;
mod predict;
mod start;

use burn::tensor::Device;

use super::{
    Adapter, Engine, EngineError, Fit, FitLimits, FitPlan, FitStep, ModelInfo, PredictPlan,
};
use crate::arc::{Grid, Task, View};
use crate::candidate::{CellMap, MapMeta, Predictions, score_grids};
use crate::contamination::TrainingPairs;
use crate::model::{CheckpointError, GridModel, Weights};

/// A loaded grid transformer.
#[derive(Debug)]
pub struct GridEngine {
    model: GridModel,
    info: ModelInfo,
    /// The tasks whose tokens are the starts after the first.
    starts: Vec<String>,
    training_pairs: Option<TrainingPairs>,
    device: Device,
}

impl GridEngine {
    /// Puts weights on a device; `device_name` is how `--device` spells it.
    ///
    /// # Errors
    /// [`CheckpointError`] if a tensor is missing, unknown or of another shape.
    pub fn new(
        weights: &Weights,
        device: &Device,
        device_name: &str,
    ) -> Result<Self, CheckpointError> {
        let model = GridModel::from_weights(weights, device)?;
        let parameters = model.n_parameters();
        let info = ModelInfo {
            name: format!("grid-{:.1}M", parameters as f64 / 1e6),
            sha256: weights.sha256.clone(),
            parameters,
            device: device_name.to_owned(),
        };
        let training_pairs = weights.training_pairs.clone();
        let starts = weights.starts.clone();
        Ok(Self { model, info, starts, training_pairs, device: device.clone() })
    }

    /// What [`Engine::predict`] gives, as the maps that they are.
    ///
    /// # Errors
    /// As [`Engine::predict`].
    pub fn cell_maps(
        &self,
        task: &Task,
        test: usize,
        adapter: Option<&Adapter>,
        views: &[View],
    ) -> Result<Vec<CellMap>, EngineError> {
        predict::predict(self, task, test, adapter, views)
    }
}

impl Engine for GridEngine {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn training_pairs(&self) -> Option<&TrainingPairs> {
        self.training_pairs.as_ref()
    }

    fn fit(
        &self,
        task: &Task,
        plan: FitPlan<'_>,
        limits: FitLimits<'_>,
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fit, EngineError> {
        fit::fit(self, std::slice::from_ref(task), plan, limits, on_step)
    }

    fn fit_shared(
        &self,
        tasks: &[Task],
        plan: FitPlan<'_>,
        limits: FitLimits<'_>,
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fit, EngineError> {
        fit::fit(self, tasks, plan, limits, on_step)
    }

    fn predict(
        &self,
        task: &Task,
        test: usize,
        adapter: Option<&Adapter>,
        views: &[View],
        _: PredictPlan<'_>,
    ) -> Result<Predictions, EngineError> {
        self.cell_maps(task, test, adapter, views).map(Predictions::Cells)
    }

    fn score(
        &self,
        task: &Task,
        test: usize,
        adapter: Option<&Adapter>,
        under: &MapMeta,
        grids: &[&Grid],
        _: u64,
    ) -> Result<Vec<f32>, EngineError> {
        let maps = self.cell_maps(task, test, adapter, std::slice::from_ref(&under.view))?;
        let maps: Vec<_> = maps.into_iter().filter(|map| map.format == under.format).collect();
        Ok(score_grids(&maps, grids).into_iter().flatten().collect())
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::arc::{ColorPermutation, Dihedral, Example, Grid, Test};
    use crate::dataset::Format;
    use crate::engine::{Start, StopReason};
    use crate::model::{ContextTokens, GridModelConfig, normal};
    use crate::recipe::Recipe;
    use crate::rng::stream;

    static RUNNING: AtomicBool = AtomicBool::new(false);

    fn engine() -> GridEngine {
        with_starts(&[])
    }

    /// With random task tokens of so many training tasks.
    fn with_starts(ids: &[&str]) -> GridEngine {
        let config = GridModelConfig {
            d_model: 32,
            n_layers: 2,
            n_heads: 4,
            d_ff: 64,
            n_task_tokens: 4,
            context: ContextTokens::Cells,
        };
        let device = Device::flex();
        let mut weights = GridModel::random(&config, 1, &device).to_weights();
        weights.sha256 = "base".into();
        // A random head, so that the untrained model has opinions.
        let head = weights.tensors.get_mut("head").unwrap();
        let mut rng = stream(0, "test", "head", 0);
        head.values.fill_with(|| 0.2 * normal(&mut rng));
        let tokens = weights.tensors.get_mut("task_tokens").unwrap();
        tokens.shape[0] *= 1 + ids.len();
        tokens.values.resize_with(tokens.shape[0] * config.d_model, || normal(&mut rng));
        weights.starts = ids.iter().map(|&id| id.to_owned()).collect();
        GridEngine::new(&weights, &device, "cpu").unwrap()
    }

    /// Every cell keeps its place and changes color by a fixed map.
    fn recolor_task(n: usize) -> Task {
        let grid = |seed: usize| Grid::from_fn(3, 4, |r, c| ((r * 5 + c * 3 + seed * 7) % 4) as u8);
        let output = |g: &Grid| Grid::from_fn(3, 4, |r, c| [0, 5, 7, 2][usize::from(g.get(r, c))]);
        let examples =
            (0..n).map(|i| Example { input: grid(i), output: output(&grid(i)) }).collect();
        let input = Grid::from_fn(3, 4, |r, c| ((r * 2 + c * 3 + 1) % 4) as u8);
        let tests = vec![Test { output: Some(output(&input)), input }];
        Task { id: "recolor".into(), examples, tests }
    }

    fn limits(steps: usize) -> FitLimits<'static> {
        FitLimits {
            seconds: None,
            steps: Some(steps),
            progress: None,
            memory_bytes: 1 << 30,
            interrupted: &RUNNING,
        }
    }

    fn recipe(overrides: &[&str]) -> Recipe {
        let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
        Recipe::resolve("default", &overrides).unwrap()
    }

    fn fit(engine: &GridEngine, task: &Task, recipe: &Recipe, limits: FitLimits<'_>) -> Fit {
        let plan = recipe.fit_plan();
        engine.fit(task, plan, limits, &mut |_| ()).unwrap()
    }

    fn views() -> Vec<View> {
        let mut rng = stream(0, "test", "views", 0);
        let mut view =
            |dihedral| View { dihedral, colors: ColorPermutation::random(&mut rng), order: vec![] };
        vec![View::IDENTITY, view(Dihedral::Rotate90), view(Dihedral::FlipRows)]
    }

    #[test]
    fn a_fit_of_no_steps_predicts_as_the_base_model() {
        let (engine, task) = (engine(), recolor_task(3));
        let fit = fit(&engine, &task, &recipe(&["fit.format=icl"]), limits(0));
        let base = engine.cell_maps(&task, 0, None, &views()).unwrap();
        let adapted = engine.cell_maps(&task, 0, fit.adapter.as_ref(), &views()).unwrap();
        for (a, b) in base.iter().zip(&adapted) {
            for (a, b) in a.log_probs.iter().flatten().zip(b.log_probs.iter().flatten()) {
                assert!((a - b).abs() < 1e-4, "{a} and {b}");
            }
        }
    }

    #[test]
    fn the_fit_learns_a_recoloring_in_both_formats_and_predicts_it() {
        let (engine, task) = (engine(), recolor_task(4));
        let recipe = recipe(&[
            "fit.format=both",
            "fit.learning_rate=1e-2",
            "fit.task_learning_rate=1e-2",
            "dataset.colors=none",
            "dataset.dihedrals=false",
            "fit.check_every=0",
            "fit.patience=0",
        ]);
        let fit = fit(&engine, &task, &recipe, limits(240));
        let (first, last) = (fit.curve[0].loss, fit.curve[fit.curve.len() - 1].loss);
        assert!(last < first / 4.0, "loss {first} → {last}");
        let maps = engine.cell_maps(&task, 0, fit.adapter.as_ref(), &[View::IDENTITY]).unwrap();
        assert_eq!(maps.iter().map(|m| m.format).collect::<Vec<_>>(), [Format::Icl, Format::E2e]);
        let right = maps.iter().filter(|m| Some(m.proposal()) == task.tests[0].output).count();
        assert!(right >= 1, "neither format solves it");
    }

    #[test]
    fn a_fit_starts_from_the_training_task_that_explains_the_demonstrations_best_and_names_it() {
        const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];
        let (engine, task) = (with_starts(&IDS), recolor_task(3));
        let first_loss = |set: &[&str]| {
            let recipe = recipe(&[set, &["dataset.colors=none", "fit.precision=f32"]].concat());
            let fit = fit(&engine, &task, &recipe, limits(8));
            engine.cell_maps(&task, 0, fit.adapter.as_ref(), &views()).unwrap();
            (fit.start, fit.curve.iter().map(|step| step.loss).sum::<f32>())
        };
        let (mean, chosen) = (first_loss(&["fit.start_cells=0"]), first_loss(&[]));
        assert_eq!(mean.0, None);
        let best = start::nearest_start(&engine.model, &task, true, usize::MAX);
        assert!(best > 0, "a start that is not the mean, or the test says nothing");
        assert_eq!(chosen.0.as_deref(), Some(IDS[best - 1]));
        assert!(chosen.1 < mean.1, "{chosen:?} {mean:?}");
        // With one start there is nothing to choose, and nothing is learnt in-context that could start anywhere.
        assert_eq!(fit(&with_starts(&[]), &task, &recipe(&[]), limits(1)).start, None);
        assert_eq!(fit(&engine, &task, &recipe(&["fit.format=icl"]), limits(1)).start, None);
        assert_eq!(engine.info().parameters, with_starts(&[]).info().parameters);
    }

    #[test]
    fn a_fit_repeats_to_the_bit_whatever_the_number_of_threads() {
        let (engine, task) = (engine(), recolor_task(3));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fit(&engine, &task, &recipe(&[]), limits(6)).adapter.unwrap())
        };
        let one = run(1);
        assert_eq!(one, run(3));
        assert_eq!(one, run(1));
    }

    #[test]
    fn a_fit_whose_time_went_into_its_start_takes_one_step_and_stays_finite() {
        let limits = FitLimits { seconds: Some(0.0), ..limits(100) };
        let fit = fit(&with_starts(&["a", "b"]), &recolor_task(3), &recipe(&[]), limits);
        assert_eq!((fit.steps, fit.curve[0].progress), (1, 1.0));
        let tensors = fit.adapter.unwrap().tensors;
        assert!(tensors.values().flat_map(|tensor| &tensor.values).all(|value| value.is_finite()));
    }

    #[test]
    fn a_recorded_schedule_repeats_a_fit() {
        let (engine, task) = (engine(), recolor_task(3));
        let timed = FitLimits { seconds: Some(0.4), ..limits(1_000_000) };
        // Too fast to learn anything, so that some step in the middle is the best.
        let recipe = recipe(&["fit.patience=0", "fit.check_every=3", "fit.learning_rate=0.5"]);
        let first = fit(&engine, &task, &recipe, timed);
        assert_eq!(first.stop, StopReason::Budget);
        let recorded: Vec<f32> = first.curve.iter().map(|s| s.progress).collect();
        let again =
            fit(&engine, &task, &recipe, FitLimits { progress: Some(&recorded), ..limits(1) });
        assert_eq!((first.steps, first.best_step), (again.steps, again.best_step));
        assert_eq!(
            first.curve.iter().map(|s| s.loss).collect::<Vec<_>>(),
            again.curve.iter().map(|s| s.loss).collect::<Vec<_>>()
        );
        assert_eq!(first.adapter, again.adapter);
    }

    #[test]
    fn a_fit_whose_checks_stay_perfect_lands_before_it_ends() {
        let (engine, task) = (engine(), recolor_task(4));
        let recipe = recipe(&["fit.format=icl", "fit.check_every=5", "fit.patience=2"]);
        let fit = fit(&engine, &task, &recipe, limits(2000));
        assert_eq!(fit.stop, StopReason::HeldOut);
        assert!(fit.steps < 1500, "{} steps", fit.steps);
        let perfect =
            |s: &&crate::engine::FitStep| s.check.is_some_and(|c| c.exact == c.of && c.of == 4);
        let checked: Vec<_> = fit.curve.iter().filter(|s| s.check.is_some()).collect();
        let second = checked.windows(2).find(|w| w.iter().all(perfect)).unwrap()[1];
        // A quarter more steps, in which the rest of the schedule is run through.
        assert_eq!(fit.steps, second.step + (second.step / 4).max(8));
        assert!(second.progress < 0.8 && fit.curve.last().unwrap().progress > 0.9);
    }

    #[test]
    fn a_fit_whose_loss_is_low_enough_lands_before_it_ends() {
        let (engine, task) = (engine(), recolor_task(4));
        let until = |loss: &str| {
            let converged = format!("fit.converged_loss={loss}");
            let recipe = recipe(&["fit.format=icl", "fit.patience=0", &converged]);
            fit(&engine, &task, &recipe, limits(400))
        };
        let all = until("0");
        assert_eq!((all.stop, all.steps), (StopReason::Steps, 400));
        let window = |fit: &Fit, end: usize| {
            fit.curve[end - 16..end].iter().map(|s| s.loss).sum::<f32>() / 16.0
        };
        let wanted = (window(&all, 16) + window(&all, 400)) / 2.0;
        let early = until(&wanted.to_string());
        assert_eq!(early.stop, StopReason::Converged);
        let first = (16..400).find(|&n| window(&early, n) < wanted).unwrap();
        assert_eq!(early.steps, first + (first / 4).max(8));
    }

    #[test]
    fn a_fit_without_time_for_enough_steps_is_given_up_and_repeated_as_none() {
        let (engine, task) = (engine(), recolor_task(4));
        let timed = FitLimits { seconds: Some(0.3), ..limits(1_000_000) };
        let recipe = recipe(&["fit.patience=0", "fit.steps=1000000", "fit.least_steps=900000"]);
        let fit = fit(&engine, &task, &recipe, timed);
        assert_eq!((fit.stop, fit.steps, fit.adapter), (StopReason::GivenUp, 4, None));
        assert!(fit.notes.iter().any(|n| n.contains("900000 steps")), "{:?}", fit.notes);
    }

    #[test]
    fn one_demonstration_is_fitted_end_to_end_with_a_note() {
        let (engine, task) = (engine(), recolor_task(1));
        let fit = fit(&engine, &task, &recipe(&["fit.format=both"]), limits(2));
        assert_eq!(fit.adapter.unwrap().formats, [Format::E2e]);
        assert!(fit.notes[0].contains("one demonstration"), "{:?}", fit.notes);
    }

    #[test]
    fn a_task_beyond_the_memory_limit_is_refused_before_any_work() {
        let (engine, task) = (engine(), recolor_task(3));
        let recipe = recipe(&[]);
        let plan = recipe.fit_plan();
        let tight = FitLimits { memory_bytes: 1000, ..limits(2) };
        let error = engine.fit(&task, plan, tight, &mut |_| ()).unwrap_err();
        assert!(matches!(error, EngineError::Memory { .. }), "{error}");
    }

    #[test]
    fn one_adapter_learns_two_tasks_at_once() {
        let engine = engine();
        let turned =
            |e: &Example| Example { output: Grid::filled(3, 4, 6), input: e.input.clone() };
        let first = recolor_task(4);
        let examples = first.examples.iter().map(turned).collect();
        let second = Task { id: "filled".into(), examples, tests: first.tests.clone() };
        let alone = Task { examples: first.examples[..1].to_vec(), ..first.clone() };
        let set = ["fit.scope=shared", "fit.format=icl", "fit.learning_rate=1e-2"];
        let recipe =
            recipe(&[&set[..], &["dataset.colors=none", "dataset.dihedrals=false"]].concat());
        let (dataset, lora, config) = (&recipe.dataset, &recipe.lora, &recipe.fit);
        let plan = FitPlan { dataset, lora, fit: config, seed: 0, start: None };
        let tasks = [first, alone, second];
        let fit = engine.fit_shared(&tasks, plan, limits(240), &mut |_| ()).unwrap();
        // Turn by turn, and what has one demonstration takes no part.
        for task in 0..2 {
            let losses: Vec<f32> = fit.curve.iter().skip(task).step_by(2).map(|s| s.loss).collect();
            assert!(losses[119] < losses[0] / 3.0, "task {task}: {} → {}", losses[0], losses[119]);
            assert!(fit.curve.iter().all(|step| step.check.is_none()));
        }
        assert_eq!(fit.adapter.unwrap().formats, [Format::Icl]);
    }

    #[test]
    fn adapters_of_other_weights_and_shapes_are_refused() {
        let (engine, task) = (engine(), recolor_task(3));
        let mut adapter = fit(&engine, &task, &recipe(&[]), limits(1)).adapter.unwrap();
        let name = "base_model.model.blocks.0.o_proj.lora_A.weight";
        adapter.tensors.get_mut(name).unwrap().shape = vec![1, 1];
        let error = engine.cell_maps(&task, 0, Some(&adapter), &views()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        adapter.base = crate::engine::Base::Sha256("other".into());
        let error = engine.cell_maps(&task, 0, Some(&adapter), &views()).unwrap_err();
        assert!(matches!(error, EngineError::WrongBase { .. }));
    }

    #[test]
    fn a_fit_goes_on_from_an_earlier_one() {
        let (engine, task) = (engine(), recolor_task(4));
        let check = |set: &[&str]| {
            let recipe = recipe(&[set, &["fit.check_every=0", "fit.patience=0"]].concat());
            let (dataset, lora, config) = (&recipe.dataset, &recipe.lora, &recipe.fit);
            let go_on = |start, steps| {
                let plan = FitPlan { dataset, lora, fit: config, seed: 0, start };
                engine.fit(&task, plan, limits(steps), &mut |_| ()).unwrap()
            };
            let first = go_on(None, 40);
            let adapter = first.adapter.as_ref().unwrap();
            let start = Some(Start { adapter, steps: 40 });
            assert_eq!(go_on(start, 0).adapter.as_ref(), Some(adapter), "{set:?}");
            let loss = |fit: &Fit| fit.curve[..8].iter().map(|step| step.loss).sum::<f32>();
            let (fresh, later) = (loss(&first), loss(&go_on(start, 8)));
            assert!(later < 0.9 * fresh, "{set:?}: {fresh} at first, {later} later");
            // Its episodes are those that follow, not the first ones again.
            let again = go_on(Some(Start { adapter, steps: 0 }), 8);
            assert_ne!(again.curve[0].loss, go_on(start, 8).curve[0].loss);
        };
        check(&["fit.format=both"]);
        check(&["fit.format=icl", "fit.method=full"]);
        let other = recipe(&["lora.rank=3"]);
        let fitted = fit(&engine, &task, &recipe(&[]), limits(1)).adapter.unwrap();
        let start = Some(Start { adapter: &fitted, steps: 1 });
        let plan =
            FitPlan { dataset: &other.dataset, lora: &other.lora, fit: &other.fit, seed: 0, start };
        let error = engine.fit(&task, plan, limits(1), &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("another shape"), "{error}");
    }

    #[test]
    fn full_fits_move_the_trunk_and_come_back_from_their_adapter() {
        let (engine, task) = (engine(), recolor_task(3));
        let fit = fit(&engine, &task, &recipe(&["fit.method=full", "fit.format=icl"]), limits(3));
        let adapter = fit.adapter.unwrap();
        assert!(adapter.lora.is_none());
        let base = engine.cell_maps(&task, 0, None, &[View::IDENTITY]).unwrap();
        let full = engine.cell_maps(&task, 0, Some(&adapter), &[View::IDENTITY]).unwrap();
        assert_ne!(base[0].log_probs, full[0].log_probs);
    }

    #[test]
    fn full_fits_by_muon_learn_the_task() {
        let (engine, task) = (engine(), recolor_task(3));
        let by = |rate: &str| {
            let rate = format!("fit.matrix_learning_rate={rate}");
            let changes =
                ["fit.method=full", "fit.format=icl", "fit.check_every=0", "fit.patience=0", &rate];
            fit(&engine, &task, &recipe(&changes), limits(60))
        };
        let (adamw, muon) = (by("0"), by("0.02"));
        assert_ne!(adamw.adapter, muon.adapter);
        let loss = |steps: &[crate::engine::FitStep]| {
            steps.iter().map(|s| s.loss).sum::<f32>() / steps.len() as f32
        };
        let (first, last) = (loss(&muon.curve[..8]), loss(&muon.curve[52..]));
        assert!(last < 0.8 * first, "{first} → {last}");
    }
}
