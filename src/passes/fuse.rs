//! Partitions a graph into groups, each to become one kernel.
