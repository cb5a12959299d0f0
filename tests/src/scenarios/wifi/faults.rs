//! What goes wrong: named on the serial console by its code, and healed without a reboot.

use super::{HOME, KEY_ONLY, PASSPHRASE, PMK, Scenario, State, World, home, settings};
use crate::pi::air::{AccessPoint, Security};
use crate::pi::{Dhcp, Router};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "wifi-wrong-passphrase",
        "W10-WRONG-PASSPHRASE, until the access point has ours",
        State::InTheAir,
        wrong_passphrase,
    )
    .waits(),
    Scenario::new(
        "wifi-wrong-sae-password",
        "W09-WRONG-SAE-PASSWORD, the same with WPA3",
        State::InTheAir,
        wrong_sae_password,
    )
    .waits(),
    Scenario::new("wifi-sae-only", "W09-SAE-ONLY: WPA3 alone, and all we have is the key", State::InTheAir, sae_only)
        .waits(),
    Scenario::new("wifi-h2e-only", "W09-H2E-ONLY: the agent helps itself", State::InTheAir, h2e_only).waits(),
    Scenario::new("wifi-full", "W09-AP-FULL", State::InTheAir, full).waits(),
    Scenario::new("wifi-mac-filter", "W09-MAC-FILTER", State::InTheAir, mac_filter).waits(),
    Scenario::new("wifi-vanished", "W09-AP-VANISHED, until it is there again", State::InTheAir, vanished).waits(),
    Scenario::new("wifi-not-seen", "W08-NOT-SEEN: only another network is in the air", State::InTheAir, not_seen)
        .waits(),
    Scenario::new("wifi-deauthenticated", "sent away once, it is back by itself", State::InTheAir, deauthenticated)
        .waits(),
    Scenario::new(
        "wifi-no-dhcp",
        "W11-NO-DHCP, and the Pi announces itself by its link-local address meanwhile",
        State::InTheAir,
        no_dhcp,
    )
    .waits(),
    Scenario::new("wifi-slow-dhcp", "a lease that comes late is no fault", State::InTheAir, slow_dhcp).waits(),
    Scenario::new("wifi-no-gateway", "W11-NO-GATEWAY: a lease without a way out", State::InTheAir, no_gateway).waits(),
    Scenario::new("wifi-rfkill", "W05-RFKILL-SOFT: the agent helps itself", State::InTheAir, rfkill).waits(),
    Scenario::new("wifi-country", "W06-NO-COUNTRY, until one is set", State::InTheAir, country).waits(),
    Scenario::new("wifi-clock", "W12-CLOCK: a Pi that believes it is 2001", State::InTheAir, clock).waits(),
    Scenario::new(
        "wifi-console",
        "a network typed on the console, and its passphrase not shown",
        State::InTheAir,
        console,
    )
    .waits(),
];

fn wrong_passphrase(world: &mut World) -> Result<()> {
    world.fault_at_access_point(&AccessPoint::wpa2(HOME, "another passphrase"), "W10-WRONG-PASSPHRASE", &home())
}

fn wrong_sae_password(world: &mut World) -> Result<()> {
    let ill = AccessPoint::sae(HOME, "another passphrase");
    world.fault_at_access_point(&ill, "W09-WRONG-SAE-PASSWORD", &AccessPoint::sae(HOME, PASSPHRASE))?;
    world.access_point(&home())
}

fn sae_only(world: &mut World) -> Result<()> {
    let ill = AccessPoint::sae(KEY_ONLY, PASSPHRASE);
    world.fault_at_access_point(&ill, "W09-SAE-ONLY", &AccessPoint::wpa2(KEY_ONLY, PMK))?;
    world.access_point(&home())
}

fn h2e_only(world: &mut World) -> Result<()> {
    world.healthy()?;
    let security = Security::Sae { password: PASSPHRASE.into(), h2e_only: true };
    world.access_point(&AccessPoint { security, ..home() })?;
    world.named("W09-H2E-ONLY")?;
    world.online("WPA3 both ways was not tried, or did not help")?;
    world.access_point(&home())
}

fn full(world: &mut World) -> Result<()> {
    world.fault_at_access_point(&AccessPoint { max_stations: Some(0), ..home() }, "W09-AP-FULL", &home())
}

fn mac_filter(world: &mut World) -> Result<()> {
    world.fault_at_access_point(&AccessPoint { denied: true, ..home() }, "W09-MAC-FILTER", &home())
}

fn vanished(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.pi()?.air().off()?;
    world.named("W09-AP-VANISHED")?;
    world.pi()?.air().on()?;
    world.online("the access point is back, the Pi is not")
}

fn not_seen(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.access_point(&AccessPoint::wpa2("somebody else's", PASSPHRASE))?;
    // From the beginning, as after the boot: otherwise it is one that vanished.
    world.pi()?.rig("systemctl restart cygnetd.service")?;
    world.named("W08-NOT-SEEN")?;
    world.access_point(&home())?;
    world.online("the network is there, the Pi is not")
}

fn deauthenticated(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.pi()?.air().deauthenticate(7)?;
    world.online("sent away once")
}

fn no_dhcp(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.dhcp(&Dhcp::silent())?;
    world.named("W11-NO-DHCP")?;
    // It is announced while it holds; each new try to join begins without it.
    let deadline = Instant::now() + super::NAMED;
    loop {
        let timeout = crate::patience::option(super::NAMED);
        let out = world.expect(&["discover", "--first", "--timeout", &timeout, "--json"], 0, &[])?;
        ensure!(out.contains("fe80::"), "no link-local address is announced: {out}");
        if out.contains("W11-NO-DHCP") {
            break;
        }
        ensure!(Instant::now() < deadline, "the diagnosis is not announced: {out}");
        std::thread::sleep(Duration::from_secs(1));
    }
    world.pi()?.lan().set_dhcp(&Dhcp::default())?;
    world.online("the server answers, the Pi is not online")
}

fn slow_dhcp(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.dhcp(&Dhcp::slow(Duration::from_secs(8)))?;
    world.online("a slow lease")?;
    world.pi()?.lan().set_dhcp(&Dhcp::default())
}

fn no_gateway(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.dhcp(&Dhcp { router: Router::None, ..Dhcp::default() })?;
    world.named("W11-NO-GATEWAY")?;
    // It can be reached all the same: the laptop is in the same network.
    world.online("without a gateway")?;
    world.dhcp(&Dhcp::default())?;
    world.online("with a gateway")
}

fn rfkill(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.pi()?.air().rfkill(true)?;
    world.named("W05-RFKILL-SOFT")?;
    world.online("the radio was not switched on again")
}

fn country(world: &mut World) -> Result<()> {
    world.healthy()?;
    let change = |world: &mut World, country| -> Result<()> {
        let pi = world.pi()?;
        pi.rig_write("/etc/cygnet/settings.json", 0o600, &settings(country))?;
        pi.rig("iw reg set 00; systemctl restart cygnetd.service").map(drop)
    };
    change(world, None)?;
    world.named("W06-NO-COUNTRY")?;
    change(world, Some("DE"))?;
    world.online("with a country")?;
    let rules = world.pi()?.rig("iw reg get")?;
    ensure!(rules.contains("country DE"), "the country is not set: {rules}");
    Ok(())
}

fn clock(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.pi()?.rig("date -s 2001-01-01")?;
    world.named("W12-CLOCK")?;
    world.online("with a clock that is wrong").context("ssh and the push need no clock")?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    world.pi()?.rig(&format!("date -s @{now}")).map(drop)
}

fn console(world: &mut World) -> Result<()> {
    const SECRET: &str = "typed at the console";
    world.healthy()?;
    world.access_point(&AccessPoint::wpa2("cygnet-typed", SECRET))?;
    world.named("W09-AP-VANISHED")?;
    let pi = world.pi()?;
    pi.type_on_console("n")?;
    pi.wait_serial("by its number or name", crate::patience::SOON)
        .context("waiting for the question for the network")?;
    pi.type_on_console("cygnet-typed\r")?;
    pi.wait_serial("assphrase", crate::patience::SOON).context("waiting for the question for the passphrase")?;
    pi.type_on_console(&format!("{SECRET}\r"))?;
    world.through("cygnet-typed")?;
    let shown = world.pi()?.serial()?.text();
    ensure!(!shown.contains(SECRET), "the passphrase is on the console");
    let mode = world.pi()?.rig("stat -c %a /var/lib/cygnet/networks.json")?;
    ensure!(mode.trim() == "600", "the saved network can be read by others: {mode}");
    world.access_point(&home())?;
    world.through(HOME)
}
