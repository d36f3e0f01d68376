//! Self-consistency: from scored candidates to two attempts.
