//! One task from demonstrations to two attempts: the stages in order and nothing else.
