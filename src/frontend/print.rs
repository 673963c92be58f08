//! Prints the syntax tree for people.
