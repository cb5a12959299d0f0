//! The real `cygnetd`, spoken to through the real bridge: what it answers, refuses and survives.
//!
//! Every daemon runs in network and mount namespaces of its own, so that neither its announcement nor anything that it
//! mounts leaves the test. [`rig`] starts it, [`talk`] is about requests, [`channel`] about store paths and going on, [`kept`] about a store that is there already,
//! [`life`] about how it comes and goes, [`announce`] about what others hear of it. None of these tests touches a disk.

mod announce;
mod channel;
mod kept;
mod life;
mod rig;
mod talk;
