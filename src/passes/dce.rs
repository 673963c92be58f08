//! Removes what no result depends on.
