//! The pure protocol core.
