//! The whole pipeline in one place.
