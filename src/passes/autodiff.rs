//! Expands grad ops by the vector-Jacobian products of the ops.
