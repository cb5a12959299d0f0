//! How each fault is told from the others, for the documentation.
