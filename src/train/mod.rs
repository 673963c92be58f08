//! What happens around a step: data, batches, the loop, reports.
