//! One or two runs, or a comparison, as one HTML page: a file that needs nothing else, neither network nor server.
//!
//! Figures that need no script are drawn here as SVG. The grids travel as text in a block of JSON, and the page's
//! script (`page.js`) draws those that are looked at. Pure but for [`Side::read`]: the page is returned, not written.

mod bins;
mod comparison;
mod curves;
mod data;
mod facts;
mod gallery;
mod method;
mod page;
mod plot;
mod progress;
mod results;
mod side;
#[cfg(test)]
mod testing;
mod versus;
mod words;

pub use comparison::comparison_page;
pub use facts::Outcome;
pub use page::{Report, report};
pub use side::{ReportError, Side};
