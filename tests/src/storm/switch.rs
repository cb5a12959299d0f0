//! Cuts between the arming of a trial and the confirmed system.
//!
//! After each cut the card's FAT must be whole, what was acknowledged must be on it, and U-Boot must start what the switch says. That takes
//! U-Boot's first seconds; whether a system comes up then is what the scenarios of trials show.

use super::Request;
use crate::host::run::tool;
use crate::patience::BOOT;
use crate::pi::{Pi, card};
use crate::scenarios::{State, World};
use anyhow::{Context, Result, bail, ensure};
use cygnet_protocol::boot::environment::says;
use cygnet_protocol::boot::switch::{Start, Switch};
use cygnet_protocol::boot::{DIRECTORY, SWITCH};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// U-Boot hands over to a kernel.
const KERNEL: &str = "Starting kernel";

/// How far the Pi had come, as whoever asked it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// Nothing yet.
    Nothing,
    /// The trial is armed.
    Armed,
    /// U-Boot has begun the trial.
    Begun,
    /// The system is confirmed.
    Confirmed,
}

/// What U-Boot starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Starts {
    Card,
    Trial,
    Ssd,
}

/// One cut.
#[derive(Debug)]
struct Cut {
    after: Duration,
    told: Told,
    switch: Switch,
    outcome: Result<Starts>,
}

/// What came of all of them.
pub struct Report {
    request: Request,
    cuts: Vec<Cut>,
}

impl Report {
    /// So many cuts ended where none may.
    pub fn faults(&self) -> usize {
        self.cuts.iter().filter(|cut| cut.outcome.is_err()).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} power cuts, seed {}", self.cuts.len(), self.request.seed)?;
        let mut counts = BTreeMap::<(Told, Starts), usize>::new();
        for cut in &self.cuts {
            if let Ok(starts) = cut.outcome {
                *counts.entry((cut.told, starts)).or_default() += 1;
            }
        }
        for ((told, starts), count) in counts {
            writeln!(f, "  {count:>4}  cut when {told:?} was the last that was told: {starts:?} starts")?;
        }
        for cut in self.cuts.iter().filter(|cut| cut.outcome.is_err()) {
            if let Err(error) = &cut.outcome {
                writeln!(
                    f,
                    "  FAULT {:.2} s, {:?}, the switch says that {}: {error:#}",
                    cut.after.as_secs_f64(),
                    cut.told,
                    cut.switch
                )?;
            }
        }
        writeln!(f, "  {} ended where none may", self.faults())
    }
}

/// Makes all cuts that were asked for.
///
/// # Errors
/// If the Pi can't be restored, or doesn't get to its end without a cut.
pub fn cuts(world: &World, request: Request) -> Result<Report> {
    // Once without a cut, to know how long it takes here and now.
    let (whole, told) = go(world, None).context("going from the arming to the confirmed system without a cut")?.0;
    ensure!(told == Told::Confirmed, "without a cut it ends when {told:?}");
    let mut random = fastrand::Rng::with_seed(request.seed);
    let mut report = Report { request, cuts: Vec::new() };
    for number in 1..=request.cuts {
        let after = Duration::from_secs_f64(whole.as_secs_f64() * random.f64());
        let ((_, told), mut pi) = go(world, Some(after))?;
        let (switch, outcome) = look(&mut pi, told);
        eprintln!("cut {number} of {}: after {:.2} s, {told:?}: {outcome:?}", request.cuts, after.as_secs_f64());
        report.cuts.push(Cut { after, told, switch, outcome });
    }
    Ok(report)
}

/// Lets the Pi go from the arming to the confirmed system, and cuts its power after this time; gives how long it went and what was
/// told by then.
fn go(world: &World, cut: Option<Duration>) -> Result<((Duration, Told), Pi)> {
    let mut pi = world.another(State::BackOnCard).give()?;
    pi.let_it_reboot()?;
    let begun = Instant::now();
    let mut told = Told::Nothing;
    let ended = std::thread::scope(|scope| {
        if let Some(after) = cut {
            let killer = pi.killer()?;
            scope.spawn(move || {
                std::thread::sleep(after.saturating_sub(begun.elapsed()));
                killer.kill();
            });
        }
        walk(&pi, &mut told)
    });
    match (cut, ended) {
        (None, ended) => ended?,
        // It got to its end before, and has nothing more to lose.
        (Some(after), Ok(())) => std::thread::sleep(after.saturating_sub(begun.elapsed())),
        // The power went; anything else that fails is seen without a cut.
        (Some(_), Err(_)) => {}
    }
    let went = begun.elapsed();
    pi.power_cut();
    Ok(((went, told), pi))
}

fn walk(pi: &Pi, told: &mut Told) -> Result<()> {
    pi.rig("cygnetd switch trial --reboot").context("arming the trial")?;
    *told = Told::Armed;
    pi.wait_serial(says::TRIAL, BOOT)?;
    *told = Told::Begun;
    pi.rig("cygnetd confirm").context("confirming the trial")?;
    *told = Told::Confirmed;
    Ok(())
}

/// What the card has then, and what U-Boot starts.
fn look(pi: &mut Pi, told: Told) -> (Switch, Result<Starts>) {
    let switch = match switch_of(pi) {
        Ok(switch) => switch,
        Err(error) => return (Switch::Card, Err(error)),
    };
    (switch, judge(pi, told, switch))
}

fn switch_of(pi: &mut Pi) -> Result<Switch> {
    let image = pi.card()?;
    let mut fat = tempfile::NamedTempFile::new().context("creating a file for the FAT partition")?;
    fat.write_all(&card::fat(&image)?).context("writing the FAT partition")?;
    // Every file must be whole. That it was not unmounted, which its dirty bit says, is what a power cut is.
    let output = tool("fsck.vfat").args(["-n", "-V"]).arg(fat.path()).output().context("starting fsck.vfat")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let harmless = [
        "Dirty bit",
        "properly unmounted",
        "fsck.fat",
        "Leaving filesystem unchanged",
        "clusters",
        "Automatically removing dirty bit",
    ];
    let bad = said.lines().find(|line| !line.trim().is_empty() && !harmless.iter().any(|word| line.contains(word)));
    ensure!(bad.is_none(), "fsck.vfat finds a fault on the card: {said}");
    let file = card::read_fat(&image, &format!("{DIRECTORY}/{SWITCH}"))?;
    // Nothing that is known is the card, as U-Boot takes it.
    Ok(Switch::parse(&file).unwrap_or(Switch::Card))
}

fn judge(pi: &mut Pi, told: Told, switch: Switch) -> Result<Starts> {
    let may = match told {
        // Called back before, or armed by now.
        Told::Nothing => matches!(switch, Switch::Card | Switch::Once),
        Told::Armed => matches!(switch, Switch::Once | Switch::Gone { started: true }),
        Told::Begun => matches!(switch, Switch::Gone { started: true } | Switch::Stay { .. }),
        Told::Confirmed => matches!(switch, Switch::Stay { .. }),
    };
    ensure!(may, "{told:?} was told, and the switch says that {switch}");
    let expected = match switch.at_power_on() {
        Start::Card => Starts::Card,
        Start::Trial { .. } => Starts::Trial,
        Start::Ssd { .. } | Start::SsdUncounted => Starts::Ssd,
    };
    pi.power_on()?;
    pi.wait_serial(KERNEL, BOOT)?;
    let said = pi.serial()?.text();
    let before = said.split(KERNEL).next().unwrap_or_default();
    let starts = match [says::TRIAL, says::SSD, says::CARD].map(|word| before.contains(word)) {
        [true, false, false] => Starts::Trial,
        [false, true, false] => Starts::Ssd,
        [false, false, _] => Starts::Card,
        _ => bail!("U-Boot says more than one thing:\n{before}"),
    };
    ensure!(starts == expected, "the switch says that {switch}, and U-Boot starts {starts:?}");
    Ok(starts)
}
