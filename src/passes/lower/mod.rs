//! From fused groups to kernels of the loop IR.
