//! Checks that every name is defined where it is used.
