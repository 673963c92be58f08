//! Runs a model's body over compile-time values and types, making its graph.
