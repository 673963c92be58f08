//! The text form of functions, printed and parsed.
