//! Gives every temporary buffer a place in the arena.
