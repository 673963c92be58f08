//! Named algebraic rules on the graph.
