//! Ways online that must simply work.

use super::{
    BETTER, BOOT, HEALED, HIDDEN, HOME, KEY_ONLY, LATIN1, PASSPHRASE, PMK, SWAN, Scenario, State, World, home,
};
use crate::pi::air::{AccessPoint, Security, baseline};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "wifi-online",
        "from the card's boot to ssh through the air, discovered by mDNS, with power save off",
        State::None,
        online,
    )
    .makes(State::InTheAir),
    Scenario::new(
        "wifi-bench",
        "how long it takes from wlan0 to an address, compared with wpa_supplicant and networkd alone",
        State::InTheAir,
        bench,
    )
    .measures(),
    Scenario::new(
        "wifi-names",
        "networks with an emoji, with octets that are no text, and hidden ones",
        State::InTheAir,
        names,
    )
    .waits(),
    Scenario::new(
        "wifi-transition",
        "an access point for WPA2 and WPA3, with the passphrase and with the key alone",
        State::InTheAir,
        transition,
    )
    .waits(),
    Scenario::new(
        "wifi-two-networks",
        "of two networks the better one, and the other when that is gone",
        State::InTheAir,
        two_networks,
    )
    .waits(),
    Scenario::new("wifi-cable", "a cable is preferred while it is plugged in", State::InTheAir, cable).waits(),
];

/// What the agent may have used at most while it waits, bytes.
const WAITING: u64 = 24 << 20;

fn online(world: &mut World) -> Result<()> {
    let mut pi = super::pi(world.parts.pi().agent(&world.programs.agent)).build()?;
    pi.power_on()?;
    pi.wait_ssh(BOOT).context("waiting for the Pi to come online through the air")?;
    world.take(pi);
    world.healthy()?;
    let out = world.expect(
        &["discover", "--first", "--timeout", &crate::patience::option(super::NAMED), "--json"],
        0,
        &[],
    )?;
    let found: Value =
        serde_json::from_str(out.lines().next().unwrap_or_default()).context("parsing what was found")?;
    let address = world.pi()?.address();
    ensure!(found["addresses"].to_string().contains(&address), "{address} is not announced: {found}");
    let pi = world.pi()?;
    let way = pi.rig("ip -o route get 10.77.0.1")?;
    ensure!(way.contains("wlan0"), "the way to this side is not through the air: {way}");
    let power_save = pi.rig("iw dev wlan0 get power_save")?;
    ensure!(power_save.contains("off"), "power save is not off: {power_save}");
    let country = pi.rig("iw reg get")?;
    ensure!(country.contains("country DE"), "the country is not set: {country}");
    world.through(HOME)?;
    let status = world.status()?;
    let peak = status["agent-peak-memory"].as_u64().unwrap_or(u64::MAX);
    eprintln!("wifi-online: the agent used {:.2} MB at most so far", peak as f64 / 1e6);
    ensure!(peak <= WAITING, "the agent used {peak} bytes of memory while waiting");
    ensure!(status["network"]["diagnosis"].is_null(), "online, but with a diagnosis: {}", status["network"]);
    let console = world.pi()?.serial()?.text();
    ensure!(!console.contains(PASSPHRASE) && !console.contains(PMK), "a secret is on the serial console");
    Ok(())
}

fn bench(world: &mut World) -> Result<()> {
    const ROUNDS: usize = 3;
    world.healthy()?;
    let (mut alone, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let pi = world.pi()?;
        alone.push(baseline(pi, &home())?.to_address());
        // The agent's way, from the same beginning: it runs, the radio appears.
        pi.rig("systemctl start cygnetd.service systemd-networkd.service")?;
        world.online("after the measurement without the agent")?;
        let pi = world.pi()?;
        pi.air().remove_station()?;
        let present = pi.air().return_station()?;
        let address = pi.address();
        let wait = format!(
            "for i in $(seq 2400); do if ip -4 -o address show dev wlan0 2>/dev/null | grep -q ' {address}/'; then \
             cut -d ' ' -f 1 /proc/uptime; exit 0; fi; sleep 0.05; done; exit 1"
        );
        let there: f64 =
            pi.rig(&wait).context("waiting for the address")?.trim().parse().context("reading the time")?;
        ours.push(there - present);
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (alone, ours) = (median(&mut alone), median(&mut ours));
    eprintln!(
        "wifi-bench: from wlan0 to its address: {ours:.2} s with the agent, {alone:.2} s with wpa_supplicant and networkd \
         alone: ratio {:.2} (medians of {ROUNDS})",
        ours / alone
    );
    world.online("after the measurement")
}

fn names(world: &mut World) -> Result<()> {
    world.healthy()?;
    for (access_point, shown) in [
        (AccessPoint::wpa2(SWAN, PASSPHRASE), SWAN),
        (AccessPoint::wpa2(LATIN1, PASSPHRASE), "caf\\xe9"),
        (AccessPoint { hidden: true, ..AccessPoint::wpa2(HIDDEN, PASSPHRASE) }, HIDDEN),
    ] {
        world.access_point(&access_point)?;
        world.through(shown).with_context(|| format!("joining {shown}"))?;
    }
    world.access_point(&home())?;
    world.through(HOME)
}

fn transition(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.access_point(&AccessPoint::transition(HOME, PASSPHRASE))?;
    world.through(HOME).context("with the passphrase")?;
    // With nothing but the key, SAE must not be offered, or it never connects.
    world.access_point(&AccessPoint::transition(KEY_ONLY, PMK))?;
    world.through(KEY_ONLY).context("with the key alone")?;
    world.access_point(&AccessPoint::sae(HOME, PASSPHRASE))?;
    world.through(HOME).context("with WPA3 alone")?;
    let security = Security::Open;
    world.access_point(&AccessPoint { security, ..home() })?;
    world.named("W09-KEY-MANAGEMENT")?;
    world.access_point(&home())?;
    world.through(HOME)
}

fn two_networks(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.pi()?.air().second().set(&AccessPoint::wpa2(BETTER, PASSPHRASE))?;
    world.access_point(&home())?;
    world.through(BETTER)?;
    world.pi()?.air().second().off()?;
    world.through(HOME)
}

fn cable(world: &mut World) -> Result<()> {
    world.healthy()?;
    let pi = world.pi()?;
    pi.plug_second_cable(true)?;
    pi.wait_serial("cable", HEALED).context("waiting for the cable on the console")?;
    world.through("cable")?;
    let way = world.pi()?.rig("ip -o route get 10.77.0.1; ip -o route; networkctl list")?;
    let taken = way.lines().next().unwrap_or_default();
    ensure!(!taken.contains("wlan0"), "the way to this side is not through the cable: {way}");
    let pi = world.pi()?;
    pi.plug_second_cable(false)?;
    world.through(HOME)
}
