//! Every fault of the way online from the least that shows it, recorded kernel logs, and the documentation of the codes.

mod document;
mod kernel_log;
mod patience;
mod recombined;
mod remedies;
mod specimens;
