//! Do the system and the layout fit together?
//!
//! Nix evaluates a system without asking whether the disks will have what its `fileSystems` names, and disko makes disks
//! without asking whether the system can read them. Both are at hand here before anything is touched: the system in this
//! machine's store, and the plan. [`system`] reads what there is to know of the system ([`fstab`], [`initrd`]), [`made`]
//! lists what the plan makes, and [`judge`] compares the two.

pub mod fstab;
pub mod initrd;
pub mod judge;
pub mod made;
pub mod system;

use crate::error::fault;
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::fault::{FaultCode, sentence};
use cygnet_protocol::plan::Plan;
use judge::{Misfit, Verdict};
use std::path::Path;
use system::System;

/// Refuses a system that would not find its file systems, or could not read them, on the disks of this plan; says what
/// may go wrong. With `allow`, it only says so.
///
/// # Errors
/// A fault of the code [`FaultCode::Mismatch`].
pub fn check(ui: &Ui, plan: &Plan, toplevel: &Path, board: &str, allow: bool) -> Result<()> {
    let system = System::read(toplevel);
    let Verdict { misfits, doubts } = judge::judge(plan, &system, board);
    for doubt in doubts {
        ui.warning(&sentence(&doubt));
    }
    let mut misfits = misfits.into_iter();
    let Some(Misfit { what, cause, remedy }) = misfits.next() else {
        return Ok(());
    };
    let others: Vec<String> = misfits.map(|misfit| misfit.what).collect();
    if allow {
        for text in std::iter::once(&what).chain(&others) {
            ui.warning(&sentence(text));
        }
        return Ok(());
    }
    let what = match others.as_slice() {
        [] => sentence(&what),
        others => format!("{}\nAnd: {}", sentence(&what), sentence(&others.join("; "))),
    };
    let remedy = format!("{} If you know better, --allow-mismatch makes this a warning.", sentence(&remedy));
    Err(fault(FaultCode::Mismatch, what, sentence(&cause), remedy))
}
