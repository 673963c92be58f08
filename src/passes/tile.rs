//! Cuts contractions into packed register tiles.
