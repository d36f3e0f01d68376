//! Grids and tasks as pictures: terminal and PNG.
