//! The text form of programs and kernels, printed and parsed.
