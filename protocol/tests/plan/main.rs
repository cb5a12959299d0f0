//! Plans compared with what disko does, carried out by the real sgdisk, and refused where they must be.

mod board;
mod differences;
mod facts;
mod field;
mod fixtures;
mod golden;
mod keep;
mod layers;
mod refusals;
mod releases;
mod resume;
mod sgdisk;
mod trace;
