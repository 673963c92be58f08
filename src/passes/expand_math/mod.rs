//! Replaces transcendental functions in kernels by polynomials.
