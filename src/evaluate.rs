//! Submissions against solutions.
