//! What compiled code may call at run time.
