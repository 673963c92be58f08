//! What compiled code may call at run time: a pool of threads that runs the chunks of a parallel kernel.
//!
//! The only symbol that compiled code refers to is [`nn_rt_parallel`]; a [`Pool`] is what a host makes for it.
//! It needs nothing but the C library that is on every system, so that an object file with threads links with this library alone.

mod core;
mod pool;

pub use pool::{Kernel, Pool, nn_rt_parallel, nn_rt_pool_free, nn_rt_pool_new};
