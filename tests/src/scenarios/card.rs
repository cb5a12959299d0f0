//! Settings on the card's FAT partition: a Pi that has nothing else comes up with its name, its host key and who may log in,
//! and the secrets are off the FAT partition when it is up.

use super::{BOOT, Scenario, State, World};
use crate::pi::{Pi, card};
use anyhow::{Context, Result, ensure};

pub const SCENARIOS: &[Scenario] = &[Scenario::new(
    "card-settings",
    "cygnet.toml on the FAT partition is taken once, told of, and its secrets are moved",
    State::None,
    settings,
)];

/// Unlike anything else that is on a card.
const PASSPHRASE: &str = "feathers-and-down-2718";
const OTHER: &str = "eggs-in-one-basket-314";

/// As a person would write it, with two mistakes.
fn written(pi: &Pi) -> Result<String> {
    let (key, host) = (pi.keys().user_public()?, pi.keys().host_private()?);
    Ok(format!(
        "# The Pi in the cupboard\nhostname = \"cupboard\"\ncountry = \"DE\"\ncolour = \"red\"\nclaim = \"me\"\ntarget = \"pi-cupboard\"\n\
         authorized-keys = [\"{}\"]\nhost-key = \"\"\"\n{host}\"\"\"\n\n[[network]]\nssid = \"home\"\npassphrase = \"{PASSPHRASE}\"\n\n\
         [[network]]\nssid = \"neighbours\"\npassphrase = \"short\"\n",
        key.trim()
    )
    .replace('\n', "\r\n"))
}

fn settings(world: &mut World) -> Result<()> {
    // Whoever logs in has what the FAT partition gave.
    let mut pi = world.parts.pi().agent(&world.programs.agent).stranger().build()?;
    card::write_fat(&pi.card()?, "cygnet.toml", written(&pi)?.as_bytes())?;
    let wifi = format!("aWIFI_SSID[0]='attic'\naWIFI_KEY[0]='{OTHER}'\n");
    card::write_fat(&pi.card()?, "dietpi-wifi.txt", wifi.as_bytes())?;
    card::write_fat(&pi.card()?, "dietpi.txt", b"AUTO_SETUP_NET_HOSTNAME=other\nAUTO_SETUP_TIMEZONE=UTC\n")?;
    pi.power_on()?;
    pi.wait_ssh(BOOT).context("waiting for a Pi with the host key of its settings")?;
    world.take(pi);
    world.wait_for_agent()?;

    ensure!(world.pi()?.sh("hostname")? == "cupboard", "the Pi has another name");
    let status = world.status()?;
    ensure!(
        status["host-name"] == "cupboard" && status["claim"] == "me" && status["target"] == "pi-cupboard",
        "the status does not say what the settings say: {status}"
    );
    let modes = world.pi()?.sh(
        "cd /var/lib/cygnet && stat -c '%a %n' card.json card-state.json ssh ssh/authorized_keys /etc/ssh/ssh_host_ed25519_key",
    )?;
    let expected =
        "600 card.json\n600 card-state.json\n700 ssh\n600 ssh/authorized_keys\n600 /etc/ssh/ssh_host_ed25519_key";
    ensure!(modes == expected, "modes are others than expected:\n{modes}");
    let state = world.pi()?.sh("cat /var/lib/cygnet/card.json")?;
    ensure!(state.contains(PASSPHRASE) && state.contains("\"DE\""), "the settings are not kept");
    let console = world.pi()?.serial()?.text();
    for says in ["cygnet.toml: taken: hostname cupboard", "cygnet.toml: ignored: line 4: colour: unknown key"] {
        ensure!(console.contains(says), "the console does not say {says:?}");
    }
    let host = world.host()?;
    let logs = world.expect(&["logs", &host], 0, &[])?;
    ensure!(logs.contains("colour: unknown key") && !logs.contains(PASSPHRASE), "the log does not say it:\n{logs}");

    let stamp = switch_off(world)?;
    for says in [
        "\r\ncygnet.toml\r\n  taken: hostname cupboard\r\n",
        "  ignored: line 4: colour: unknown key",
        "  taken: 1 network(s) “home”\r\n",
        "not used: hostname, because",
        // Its secret is off the card all the same.
        "not used: network, because cygnet.toml or a file before this one gives it\r\n",
        "AUTO_SETUP_TIMEZONE",
        "no longer on the FAT partition",
    ] {
        ensure!(stamp.contains(says), "cygnet.txt does not say {says:?}:\n{stamp}");
    }

    // Nothing is new at the second boot, and all is as it was.
    let pi = world.present()?;
    pi.power_on()?;
    pi.wait_ssh(BOOT).context("waiting for the second boot")?;
    pi.wait_serial("The settings on the card were taken before", BOOT)?;
    ensure!(pi.sh("hostname")? == "cupboard", "the Pi has lost its name");
    ensure!(!pi.serial()?.text().contains("taken: hostname"), "the settings were taken twice");
    ensure!(switch_off(world)? == stamp, "cygnet.txt is another after the second boot");
    Ok(())
}

/// Then the card is looked at as it is in a laptop's reader: no secret is left, not even in what no file has any more.
fn switch_off(world: &mut World) -> Result<String> {
    let pi = world.present()?;
    // The connection may end before the answer.
    let _ = pi.sh("systemctl poweroff");
    pi.wait_off(BOOT)?;
    let image = pi.card()?;
    let fat = card::fat(&image)?;
    let pem = pi.keys().host_private()?;
    let pem = pem.lines().nth(2).context("the host key has no third line")?.to_owned();
    for secret in [PASSPHRASE, OTHER, &pem] {
        let there = fat.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
        ensure!(!there, "{} is still on the FAT partition", &secret[..8]);
    }
    let left = String::from_utf8(card::read_fat(&image, "cygnet.toml")?).context("reading cygnet.toml")?;
    ensure!(
        left.contains("hostname = \"cupboard\"\r\n") && left.contains("# passphrase: cygnet"),
        "too much is gone:\n{left}"
    );
    String::from_utf8(card::read_fat(&image, "cygnet.txt")?).context("reading cygnet.txt")
}
