//! Reading and writing files: no logic.
