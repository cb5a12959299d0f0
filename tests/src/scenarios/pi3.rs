//! A Raspberry Pi 3 Model B: a real SD slot and a real device tree, U-Boot for that very board, its SSD behind USB.
//!
//! It boots once for all that is expected of it, as its state can't be saved.

use super::failures::{is_free, verify_store};
use super::{SSD, Scenario, State, World, installing, retarget};
use crate::closure::Variant;
use crate::patience;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub const SCENARIOS: &[Scenario] = &[Scenario::new(
    "pi3",
    "it says which board it is, tells card and SSD apart, has this board's rules, and installs a small system",
    State::Pi3,
    pi3,
)];

const BOARD: &str = "Raspberry Pi 3 Model B";

fn pi3(world: &mut World) -> Result<()> {
    world.wait_for_agent()?;
    agent(world)?;
    disks(world)?;
    rules(world)?;
    install(world)
}

fn agent(world: &mut World) -> Result<()> {
    let status = world.expect_state("waiting")?;
    ensure!(status.to_string().contains(BOARD), "the board is not told: {status}");
    let host = world.host()?;
    let shown = world.expect(&["status", &host], 0, &[])?;
    ensure!(shown.contains(BOARD) && shown.contains("/dev/mmcblk0"), "not shown:\n{shown}");
    let out =
        world.expect(&["discover", "--first", "--timeout", &patience::option(patience::NAMED), "--json"], 0, &[])?;
    ensure!(out.contains(BOARD), "the board is not announced: {out}");
    Ok(())
}

fn disks(world: &mut World) -> Result<()> {
    let host = world.host()?;
    let json = world.expect(&["disks", &host, "--json"], 0, &[])?;
    let list: Value = serde_json::from_str(&json).context("parsing the disks")?;
    let all = list["disks"].as_array().context("finding the disks")?;
    let named = |name: &str| {
        let found = all.iter().find(|disk| disk.to_string().contains(name));
        found.with_context(|| format!("{name} is not among the disks: {list}"))
    };
    let (card, ssd) = (named("mmcblk0")?, named(SSD)?);
    ensure!(card["objections"].as_array().is_some_and(|why| !why.is_empty()), "the card may be taken: {card}");
    ensure!(ssd["objections"].as_array().is_none_or(Vec::is_empty), "the SSD may not be taken: {ssd}");
    ensure!(ssd.to_string().contains("usb"), "the SSD is not at USB: {ssd}");
    let card = world.layout(|layout| retarget(layout, "/dev/mmcblk0"))?;
    world.expect(&["plan", &host, "--disko", &card], 15, &["/dev/mmcblk0"])?;
    world.expect_untouched(SSD)
}

/// The SSD's name on this board.
fn link(world: &mut World) -> Result<String> {
    let found = world.pi()?.sh(&format!("ls /dev/disk/by-id/usb-*{SSD}* | grep -v part | head -n 1"))?;
    ensure!(!found.is_empty(), "the SSD has no link in /dev/disk/by-id");
    Ok(found)
}

fn rules(world: &mut World) -> Result<()> {
    let link = link(world)?;
    let disko = world.layout(|layout| retarget(layout, &link))?;
    let host = world.host()?;
    // Its ROM starts nothing from a GPT; the U-Boot on its card does.
    world.expect(&["plan", &host, "--disko", &disko, "--boot-from", "ssd"], 35, &[BOARD])?;
    let shown = world.expect(&["plan", &host, "--disko", &disko], 0, &[])?;
    ensure!(shown.contains("from the card: the card stays in"), "the plan does not say how it starts:\n{shown}");
    world.expect_untouched(SSD)
}

fn install(world: &mut World) -> Result<()> {
    let link = link(world)?;
    let disko = world.layout(|layout| retarget(layout, &link))?;
    let tiny = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    world.expect(&installing(&host, &tiny, &disko, &digest, &[]), 0, &[])?;
    world.expect_state("installed")?;
    is_free(world)?;
    verify_store(world)
}
