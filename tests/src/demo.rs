//! `cargo demo`: everything once, from the card to the installed system, with the real programs, and a table at the end.

use crate::closure;
use crate::patience::{BOOT, SOON};
use crate::pi::air::AccessPoint;
use crate::pi::{Dhcp, Dns, Pi};
use crate::site::Site;
use crate::table;
use crate::workshop;
use anyhow::{Context, Result, bail, ensure};
use cygnet_protocol::boot::environment::says;
use serde_json::{Value, json};
use std::fs;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Room for the system, its swap and ZFS's reserve, bytes.
const SSD: u64 = 6 << 30;

/// The network in the Pi's settings, and in the simulated air: there is no other way to it until it is installed.
const NETWORK: &str = "cygnet \u{1f9a2}";
const PASSPHRASE: &str = "correct horse battery";

/// Runs it; with `failing`, and then a system that does not come up.
///
/// # Errors
/// If anything fails; the error says where the console's log lies.
pub fn run(failing: bool) -> Result<()> {
    let begin = Instant::now();
    let mut clock = Clock::default();
    let programs = clock.time("Build the programs", || workshop::programs(None))?;
    let (settings, parts) = clock.time("Prepare the virtual Pi", workshop::parts)?;
    heading("Building the system to install, with Nix");
    let given = json!({"country": "DE", "networks": [{"ssid": NETWORK, "passphrase": PASSPHRASE}]});
    let mut pi = parts
        .pi()
        .ssd("CYGSSD0", SSD)
        .agent(&programs.agent)
        .access_point(&home())
        .file("etc/cygnet/settings.json", 0o600, given.to_string())
        .build()?;
    let user = closure::Settings::new(pi.keys().user_public()?, closure::Variant::Full).with_agent(&programs.agent);
    let system = clock.time("Build the system with Nix", || closure::build(&settings.cache, &user))?;
    eprintln!("{}: {} store paths, {} MB", system.toplevel.display(), system.paths, system.nar_size / 1_000_000);

    let site = Site::new(&programs.cygnet);
    let result = install(&mut clock, &mut pi, &site, &system).and_then(|summary| {
        if failing {
            clock.time("A trial that fails, until the card is back", || fail(&mut pi, &site))?;
        }
        Ok(summary)
    });
    let summary = match result {
        Ok(summary) => summary,
        Err(error) => {
            let kept = settings.work.join("failed").join("demo");
            pi.keep_logs(&kept)?;
            return Err(error.context(format!("{}\nits logs are kept in {}", pi.condition(), kept.display())));
        }
    };

    let size = fs::metadata(&programs.agent).context("looking at the agent")?.len();
    let report = json!({
        "host": clock.steps.iter().map(|(name, time)| json!({"step": name, "millis": millis(*time)})).collect::<Vec<_>>(),
        "install": summary,
        "agent-binary-size": size,
        "closure": {"toplevel": system.toplevel, "paths": system.paths, "nar-size": system.nar_size},
        "total-millis": millis(begin.elapsed()),
    });
    let file = settings.work.join("demo.json");
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")
        .with_context(|| format!("writing {}", file.display()))?;
    print!("{}", table::render(&report));
    println!("\nThe same as JSON: {}", file.strip_prefix(workshop::repository()).unwrap_or(&file).display());
    Ok(())
}

fn home() -> AccessPoint {
    AccessPoint::wpa2(NETWORK, PASSPHRASE)
}

fn install(clock: &mut Clock, pi: &mut Pi, site: &Site, system: &closure::Closure) -> Result<Value> {
    let host = format!("root@{}", pi.address());
    heading(&format!("Switching the Pi on, with the card in it; all it has is WiFi, “{NETWORK}”"));
    // As at home, where the router answers for names, too.
    pi.lan().set_dhcp(&Dhcp { dns: Dns::Us, ..Dhcp::default() })?;
    pi.power_on()?;

    heading("$ cygnet discover --first");
    clock.time("Boot from the card until discovered", || {
        let timeout = format!("{}s", BOOT.as_secs());
        site.show(site.cygnet(pi, &["discover", "--first", "--timeout", &timeout]))
    })?;
    pi.wait_ssh(BOOT)?;

    let way = pi.rig("ip -o route get 10.77.0.1").context("asking the Pi for its way to this side")?;
    ensure!(way.contains("wlan0"), "the way to the Pi is not through the air: {way}");

    heading("$ cygnet status HOST");
    site.show(site.cygnet(pi, &["status", &host]))?;

    let (toplevel, disko) = (system.toplevel.display().to_string(), system.disko.display().to_string());
    heading("$ cygnet plan HOST --disko devices.json --closure TOPLEVEL");
    let what = ["--disko", &disko, "--closure", &toplevel];
    let plan = [&["plan", &host], &what[..]].concat();
    site.show(site.cygnet(pi, &plan))?;
    let digest = site.json(site.cygnet(pi, &[&plan[..], &["--json"]].concat()))?;
    let digest = digest["digest"].as_str().context("finding the digest in the plan")?.to_owned();

    heading("$ cygnet install HOST --disko devices.json --closure TOPLEVEL --yes DIGEST");
    let summary = clock.time("Install, until the new system answers", || {
        let arguments = [&["install", &host, "--yes", &digest, "--json"], &what[..]].concat();
        let command = site.cygnet(pi, &arguments);
        site.install_through_reboot(command, pi, |pi| {
            heading("The Pi reboots, with its card in: U-Boot on the card begins the trial of what is on the SSD");
            // The same network, in the air around the system that was installed.
            pi.air().set(&home())
        })
    })?;

    heading("What is running on the Pi now");
    pi.wait_ssh(BOOT).context("logging in on the installed system, with the card's host key pinned")?;
    let running = pi.sh("readlink -f /run/current-system")?;
    if running != toplevel {
        bail!("the Pi runs {running}, not {toplevel}");
    }
    println!("{}", pi.sh("hostname; uname -r; readlink -f /run/current-system; zpool list; zfs list -t filesystem,snapshot,volume; findmnt -t zfs,vfat -o TARGET,SOURCE,FSTYPE")?);
    Ok(summary)
}

/// Breaks what is installed, as an update may, and tries it: the Pi is back on its card by itself, and says why.
fn fail(pi: &mut Pi, site: &Site) -> Result<()> {
    let host = format!("root@{}", pi.address());
    heading("An update breaks the system: from now on it ends in emergency mode");
    let menu = "/boot/extlinux/extlinux.conf";
    pi.sh(&format!("sed -i 's|^\\( *APPEND .*\\)$|\\1 systemd.unit=emergency.target|' {menu}; sync"))?;
    heading("$ cygnet boot HOST --trial");
    site.show(site.cygnet(pi, &["boot", &host, "--trial", "--yes"]))?;
    pi.wait_serial(says::TRIAL, BOOT).context("waiting for the trial to begin")?;
    heading("U-Boot on the card begins the trial");
    pi.wait_serial(says::CARD, BOOT).context("waiting for the card to be back")?;
    heading("The system gave up, and U-Boot starts the card again");
    pi.air().set(&home())?;
    pi.wait_ssh(BOOT).context("logging in on the card's system")?;
    let deadline = Instant::now() + SOON;
    while !site.json(site.cygnet(pi, &["status", &host, "--json"]))?.to_string().contains("B07-EMERGENCY") {
        ensure!(Instant::now() < deadline, "the agent does not say why the trial has failed");
        std::thread::sleep(Duration::from_secs(1));
    }
    heading("$ cygnet rescue HOST");
    site.show(site.cygnet(pi, &["rescue", &host]))
}

/// What takes how long.
#[derive(Default)]
struct Clock {
    steps: Vec<(&'static str, Duration)>,
}

impl Clock {
    fn time<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        let result = work().with_context(|| format!("in the step “{name}”"))?;
        self.steps.push((name, begin.elapsed()));
        Ok(result)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn heading(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("\n\x1b[1m{text}\x1b[0m");
    } else {
        eprintln!("\n{text}");
    }
}

/// Says what the demo needs and where it leaves things, for `--help`.
pub const HELP: &str = "\
cargo demo: builds a virtual Pi, boots it from its card, and installs NixOS on its SSD with the real cygnet
cargo demo -- --failing: and then a system that does not come up, and the card that is back by itself

It needs a Debian 12 or 13 x86_64 machine with rustup, and root (through sudo) for network namespaces, disk images
and the Nix store. What it makes is in target/virtual-pi and ~/.cache/cygnet.
";
