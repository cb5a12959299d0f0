//! What `cygnet` and `cygnetd` must agree on.
//!
//! Read in this order: [`disko`] is the layout the user wrote, [`plan`] is what we make of it.

pub mod disko;
pub mod plan;
