//! The disko model.
