//! The real `cygnetd`, spoken to through the real bridge: what it answers, refuses and survives.
//!
//! Every daemon runs in network and mount namespaces of its own, so that neither its announcement nor anything that it
//! mounts leaves the test. [`rig`] starts it, [`talk`] is about requests, [`channel`] about store paths and going on, [`kept`]
//! about a store that is there already, [`trust`] about what is let in, [`extra`] about extra files, [`substitute`] about binary caches, [`patch`] about
//! paths that are made of others on the card, [`hostile`] about who means ill, [`nix`] about Nix's own tools,
//! [`life`] about how it comes and goes, [`distress`] about tools that hang, reboots that fail and clients that are too many, [`announce`] about what others hear of it. None of these tests touches a disk.

mod announce;
mod channel;
mod distress;
mod extra;
mod hostile;
mod kept;
mod life;
mod nix;
mod patch;
mod rig;
mod security;
mod substitute;
mod talk;
mod trust;
