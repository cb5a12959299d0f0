//! A first look at the air: wpa_supplicant and networkd alone, then ssh through it, then each fault once.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{AccessPoint, Channel, Security, baseline, wait_until};
use crate::host::{self, run::stdout_of};
use crate::pi::machine::Pi;
use crate::pi::{Dhcp, Parts, Settings, prepare};

const PATIENCE: Duration = crate::patience::BOOT;

/// What is sent to see how fast it goes.
const BYTES: usize = 30_000_000;

/// Prepares everything, boots a Pi with a radio, and looks around.
///
/// # Errors
/// The first thing that isn't as it should be.
pub fn smoke() -> Result<()> {
    host::ensure_host_packages()?;
    host::ensure_package_lists()?;
    let parts = prepare(&Settings::default_here()?)?;
    look_around(&parts)
}

fn look_around(parts: &Parts) -> Result<()> {
    let started = Instant::now();
    let say = |what: &str| eprintln!("air: {:5.1} s: {what}", started.elapsed().as_secs_f64());
    let home = AccessPoint::wpa2("home \u{1f9a2}", "correct horse");
    let mut pi = parts.pi().access_point(&home).second_cable().act_led().build()?;
    pi.power_on()?;
    pi.air().wait()?;
    say("the air is made");
    ensure!(pi.rig("ls /sys/class/net")?.contains("wlan0"), "there is no wlan0");
    say(&format!("in the Pi: {}", pi.rig("ls /sys/class/net | xargs; iw reg get | head -n 2 | xargs")?));
    say(&format!("the access point's side: {}", pi.rig_ap("bridge link | xargs -d '\\n'")?));

    pi.rig("systemctl start multi-user.target")?;
    for round in 1..=3 {
        let alone = baseline(&pi, &home)?;
        say(&format!(
            "baseline {round}: associated after {:.2} s, address after {:.2} s",
            alone.to_association(),
            alone.to_address()
        ));
    }

    for (what, access_point) in kinds() {
        pi.air().set(&access_point).with_context(|| what.to_owned())?;
        let alone = baseline(&pi, &access_point).with_context(|| what.to_owned())?;
        say(&format!("{what}: address after {:.2} s", alone.to_address()));
    }
    pi.rig("iw reg set 00")?;
    pi.air().set(&home)?;

    console(&mut pi)?;
    say("the console's tty works in both directions");
    pi.rig(
        "cd /sys/class/leds/ACT && echo none >trigger && echo 1 >brightness && grep -q 1 brightness && \
            modprobe ledtrig-timer && echo timer >trigger && test -e delay_on",
    )?;
    say("the LED can be switched on and blinks");

    connect(&pi, &home)?;
    pi.wait_ssh(PATIENCE)?;
    say("ssh goes through the air");
    let route = pi.sh("ip -o route get 10.77.0.1")?;
    ensure!(route.contains("wlan0"), "the way to this side isn't through the air: {route}");
    say(&format!("throughput through the air: {:.2} MB/s", throughput(&pi)?));

    faults(&mut pi, &home, &say)?;
    pi.power_cut();

    let mut cable = parts.pi().build()?;
    cable.power_on()?;
    cable.wait_ssh(PATIENCE)?;
    say(&format!("throughput of a cable: {:.2} MB/s", throughput(&cable)?));
    Ok(())
}

/// Access points of every kind that a station can be on.
fn kinds() -> [(&'static str, AccessPoint); 4] {
    let sae = AccessPoint::sae(b"\xff\xfe octets", "correct horse");
    let h2e_only = Security::Sae { password: "correct horse".into(), h2e_only: true };
    let in_germany = Some("DE".to_owned());
    [
        ("open", AccessPoint::open("open")),
        ("SAE, octets", sae.clone()),
        ("WPA2 and SAE, hidden", AccessPoint { hidden: true, ..AccessPoint::transition("both", "correct horse") }),
        ("H2E only, 5 GHz", AccessPoint { security: h2e_only, channel: Channel::Ghz5(36), country: in_germany, ..sae }),
    ]
}

/// Brings the Pi online with the usual tools, until it is switched off.
fn connect(pi: &Pi, access_point: &AccessPoint) -> Result<()> {
    pi.rig_write("/run/cygnet-rig/station.conf", 0o600, access_point.supplicant_configuration().as_bytes())?;
    let network =
        "[Match]\nName=wlan0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=ipv6\n[DHCPv4]\nClientIdentifier=mac\n";
    pi.rig_write("/etc/systemd/network/30-smoke.network", 0o644, network.as_bytes())?;
    pi.rig(
        "networkctl reload && systemd-run --unit=smoke-station /usr/sbin/wpa_supplicant -i wlan0 \
         -c /run/cygnet-rig/station.conf",
    )?;
    wait_until(pi, "ip -o -4 address show dev wlan0 | grep -q 10.77", PATIENCE)
}

/// Somebody types on the serial console, and reads it at a tty.
fn console(pi: &mut Pi) -> Result<()> {
    let tty = pi.console_pty()?;
    let mut tty = File::options().read(true).write(true).open(&tty).context("opening the console's tty")?;
    // Opened once: what is typed while nobody has it open is lost.
    let echo = "exec 5<>/dev/ttyAMA0; stty -F /dev/ttyAMA0 raw -echo; while read -r -u 5 line; do \
                echo \"console heard: $line\" >&5; done";
    pi.rig_write("/run/cygnet-rig/echo", 0o644, echo.as_bytes())?;
    pi.rig("systemd-run --unit=smoke-console bash /run/cygnet-rig/echo")?;
    wait_until(pi, "stty -F /dev/ttyAMA0 -a | grep -q -e -icanon", Duration::from_secs(30))?;
    tty.write_all(b"from the tty\n").context("typing on the tty")?;
    pi.wait_serial("console heard: from the tty", Duration::from_secs(30))?;
    let mut text = String::new();
    let mut buffer = [0; 256];
    while !text.contains("console heard: from the tty") {
        let length = tty.read(&mut buffer).context("reading the tty")?;
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    pi.type_on_console("from the test\n")?;
    pi.wait_serial("console heard: from the test", Duration::from_secs(30))?;
    pi.rig("systemctl stop smoke-console").map(drop)
}

/// Each control once, as seen by wpa_supplicant's journal or the kernel.
fn faults(pi: &mut Pi, home: &AccessPoint, say: &dyn Fn(&str)) -> Result<()> {
    let journal = "journalctl -b --no-pager -o cat -u smoke-station";
    let expect = |pi: &Pi, what: &str, text: &str| -> Result<()> {
        let condition = format!("{journal} --since=@$(cat /run/cygnet-rig/since) | grep -q -e '{text}'");
        wait_until(pi, &condition, Duration::from_secs(90)).with_context(|| format!("seeing {what}"))?;
        say(what);
        Ok(())
    };
    let now = "date +%s.%N >/run/cygnet-rig/since";

    pi.rig(now)?;
    pi.air().deauthenticate(7)?;
    expect(pi, "deauthenticated with reason 7", "DISCONNECTED.*reason=7")?;
    expect(pi, "and connected again", "CTRL-EVENT-CONNECTED")?;

    pi.rig(now)?;
    pi.air().deny(true)?;
    expect(pi, "denied: status 1", "REJECT.*status_code=1")?;
    pi.air().deny(false)?;

    pi.rig(now)?;
    pi.air().set(&AccessPoint { max_stations: Some(0), ..home.clone() })?;
    expect(pi, "full: status 17", "REJECT.*status_code=17")?;

    pi.rig(now)?;
    pi.air().set(&AccessPoint { hidden: true, ..home.clone() })?;
    pi.air().second().set(&AccessPoint::sae("neighbour", "not yours"))?;
    let seen = pi.rig("iw dev wlan0 scan | grep -c -e 'SSID: neighbour' -e 'signal:'")?;
    say(&format!("two access points at once; seen: {seen} lines"));
    pi.air().second().off()?;
    pi.rig(now)?;
    pi.air().set(home)?;
    expect(pi, "connected again", "CTRL-EVENT-CONNECTED")?;

    pi.rig(now)?;
    pi.air().off()?;
    expect(pi, "vanished", "CTRL-EVENT-DISCONNECTED")?;
    say(&format!("as: {}", pi.rig(&format!("{journal} | grep DISCONNECTED | tail -n 1"))?));
    pi.rig(now)?;
    pi.air().on()?;
    expect(pi, "there again", "CTRL-EVENT-CONNECTED")?;

    // Neighbours are looked for by multicast.
    let listed = stdout_of(pi.command("ip").args(["-6", "-o", "address", "show", "dev", "lan0", "scope", "link"]))?;
    let neighbour =
        listed.split_whitespace().find_map(|word| word.strip_suffix("/64")).context("finding lan0's fe80::")?;
    let ask = format!("ip neighbour flush dev wlan0; ping -q -c 1 -W 5 {neighbour}%wlan0 >&2");
    pi.rig(&ask).context("asking for a neighbour by multicast")?;
    pi.air().set_multicast(false)?;
    ensure!(pi.rig(&ask).is_err(), "a multicast passed the filter");
    pi.rig("ping -q -c 1 -W 20 10.77.0.1").context("a broadcast and a unicast beside the filter")?;
    pi.air().set_multicast(true)?;
    pi.rig(&ask).context("asking for a neighbour by multicast again")?;
    say("multicasts filtered, and passed again");

    pi.air().rfkill(true)?;
    wait_until(pi, "! ip link show dev wlan0 up | grep -q wlan0", Duration::from_secs(30)).context("rfkill")?;
    pi.air().rfkill(false)?;
    say("blocked and unblocked");

    pi.lan().set_dhcp(&Dhcp::silent())?;
    pi.lan().set_dhcp(&Dhcp::slow(Duration::from_secs(6)))?;
    pi.rig("ip address flush dev wlan0; networkctl reconfigure wlan0")?;
    wait_until(pi, "ip -o -4 address show dev wlan0 | grep -q 10.77", PATIENCE).context("a slow lease")?;
    let log = pi.lan().dhcp_log()?;
    say(&format!("a slow lease: {} lines of DHCP", log.lines().count()));
    pi.lan().set_dhcp(&Dhcp::default())?;
    ensure!(log.contains("DHCPOFFER"), "an offer was not asked for:\n{log}");

    let wired = "cat /sys/class/net/en*/carrier /sys/class/net/eth*/carrier 2>/dev/null";
    say(&format!("second cable: carrier {:?}", pi.rig(&format!("{wired} | xargs; true"))?));
    pi.plug_second_cable(true)?;
    let address = pi.second_address()?;
    wait_until(pi, &format!("ip -o -4 address | grep -q {address}"), PATIENCE).context("the second cable's lease")?;
    pi.plug_second_cable(false)?;
    wait_until(pi, &format!("! ip -o -4 address | grep -q {address}"), PATIENCE).context("the second cable out")?;
    say("second cable plugged in, address had, and pulled out");

    say(&format!("country: {}", pi.rig("iw reg set DE && sleep 1; iw reg get | head -n 2 | xargs; iw reg set 00")?));
    Ok(())
}

/// Megabytes a second into a command over ssh.
fn throughput(pi: &Pi) -> Result<f64> {
    let mut ssh: Command = pi.command("ssh");
    ssh.args(pi.keys().options())
        .arg(format!("root@{}", pi.address()))
        .arg("cat >/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let begin = Instant::now();
    let mut child = ssh.spawn().context("starting ssh")?;
    // Something that no compression makes smaller, were there any.
    let mut state = 1_u64;
    let block: Vec<u8> = (0..BYTES)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state.to_be_bytes()[0]
        })
        .collect();
    child.stdin.take().context("taking ssh's input")?.write_all(&block).context("sending")?;
    let status = child.wait().context("waiting for ssh")?;
    ensure!(status.success(), "ssh ended with {status}");
    Ok(BYTES as f64 / 1e6 / begin.elapsed().as_secs_f64())
}
