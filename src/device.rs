//! `--device` → Burn device; the only file that names a backend.
