//! Plans compared with what disko does, carried out by the real sgdisk, and refused where they must be.

mod board;
mod differences;
mod facts;
mod fixtures;
mod golden;
mod keep;
mod layers;
mod refusals;
mod resume;
mod sgdisk;
mod trace;
