//! Common subexpression elimination.
