//! The virtual Pi.
