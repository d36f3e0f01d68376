//! The one settings value: what a run does, as data.
