//! What happens around a step: reading the data of a recipe, cutting and mixing it into batches, the loop, its history.
//!
//! In reading order: [`source`] (one reader call to open files), [`convert`] (a file's numbers as a field's), [`files`] (rows that stay in
//! their files), [`dataset`] (the fields of one split, checked), [`splits`] and [`sets`] (which rows are whose), [`data`] (the splits of a recipe), [`order`] (the mixed order of an epoch), [`batch`] (the rows of
//! a step), [`feed`] (batches read ahead), [`weights`] (loading and saving by name), [`schedule`] (when to stop, what to keep), [`measure`]
//! (means over rows), [`checkpoint`] (where a run is, on disk), [`event`] (what is reported) and [`run`] (the loop itself).

pub mod batch;
pub mod checkpoint;
pub mod convert;
pub mod data;
pub mod dataset;
pub mod event;
pub mod feed;
pub mod files;
pub mod measure;
pub mod order;
pub mod run;
pub mod schedule;
pub mod sets;
pub mod source;
pub mod splits;
pub mod weights;
