//! Plans compared with what disko does, carried out by the real sgdisk, and refused where they must be.

mod facts;
mod fixtures;
mod golden;
mod refusals;
mod sgdisk;
mod trace;
