//! Prediction under views.

use super::GridEngine;
use super::parameters::Adapted;
use crate::arc::{Task, View, infer_shape};
use crate::candidate::CellMap;
use crate::dataset::{Format, Frame};
use crate::engine::{
    Adapter, EngineError, Told, canvas_of, formats, frame_code, query_canvas, shown_canvas,
};
use crate::model::{Batch, Conditioning, log_probabilities};

/// Canvas cells in one forward pass.
const CELLS_AT_ONCE: usize = 8192;

/// One prediction that waits for its pass.
struct Pending {
    view: View,
    format: Format,
    shape: Option<(usize, usize)>,
}

/// Predicts a test's output under each view; see [`crate::engine::Engine::predict`].
pub(super) fn predict(
    engine: &GridEngine,
    task: &Task,
    test: usize,
    adapter: Option<&Adapter>,
    views: &[View],
) -> Result<Vec<CellMap>, EngineError> {
    let (adapted, formats) = (engine.adapted(adapter)?, formats(adapter));
    let input = &task.tests[test].input;
    let shape = infer_shape(&task.examples, input);
    let canvas = canvas_of(&task.examples);
    let mut maps = Vec::with_capacity(views.len() * formats.len());
    let mut batch = Batch::default();
    let mut pending = Vec::new();
    for view in views {
        let shape = shape.map(|s| view.dihedral.apply_shape(s));
        let told =
            shape.map_or(Told::Nothing { canvas: view.dihedral.apply_shape(canvas) }, Told::Shape);
        let query = query_canvas(&view.apply(input), told);
        for &format in &formats {
            let conditioning = match format {
                Format::Icl => {
                    let first = batch.context.len();
                    let shown = |e| shown_canvas(&view.apply_example(e));
                    batch.context.extend(task.examples.iter().map(shown));
                    Conditioning::Context((first..batch.context.len()).collect())
                }
                Format::E2e => {
                    let frame = Frame { dihedral: view.dihedral, colors: view.colors };
                    Conditioning::Task { task: 0, frame: frame_code(&frame) }
                }
            };
            batch.queries.push((query.clone(), conditioning));
            pending.push(Pending { view: view.clone(), format, shape });
            if batch.n_cells() >= CELLS_AT_ONCE {
                maps.extend(run(&adapted, &batch, std::mem::take(&mut pending)));
                batch = Batch::default();
            }
        }
    }
    if !pending.is_empty() {
        maps.extend(run(&adapted, &batch, pending));
    }
    Ok(maps)
}

/// One forward pass.
fn run((model, tasks, lora): &Adapted, batch: &Batch, pending: Vec<Pending>) -> Vec<CellMap> {
    let log_probs = log_probabilities(model.forward(batch, tasks.as_ref(), lora.as_ref()));
    let mut cells = log_probs.into_iter();
    pending
        .into_iter()
        .zip(&batch.queries)
        .map(|(Pending { view, format, shape }, (canvas, _))| CellMap {
            view,
            format,
            height: canvas.height,
            width: canvas.width,
            log_probs: cells.by_ref().take(canvas.n_cells()).collect(),
            shape,
        })
        .collect()
}
