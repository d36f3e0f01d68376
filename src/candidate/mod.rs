//! Decoded answers: one prediction a view, mapped back, merged, and scored under every view.

use crate::arc::View;
use crate::dataset::Format;

/// Index of PAD ("no cell here") among a cell's classes, after the ten colors.
pub const PAD_CLASS: usize = 10;

/// Classes of a cell: ten colors and PAD.
pub const N_CLASSES: usize = 11;

/// What the model says about each cell of a test output, under one view.
///
/// Everything is in the frame that the view shows: `log_probs[row * width + column][class]`, natural
/// logarithms, normalized over the eleven classes.
#[derive(Debug, Clone, PartialEq)]
pub struct CellMap {
    /// The view under which the prediction was made.
    pub view: View,
    /// The format in which it was made.
    pub format: Format,
    /// Rows of the canvas.
    pub height: usize,
    /// Columns of the canvas.
    pub width: usize,
    /// Log-probabilities of the classes, cell by cell; `height * width` entries.
    pub log_probs: Vec<[f32; N_CLASSES]>,
    /// The output's shape as shown, where a shape rule gave it. The output then stands in the canvas'
    /// top-left corner, and PAD is impossible inside it. Otherwise the predicted PAD region decides.
    pub shape: Option<(usize, usize)>,
}
