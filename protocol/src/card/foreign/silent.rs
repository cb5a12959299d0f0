//! Nothing is silent: of every kind of file each line is taken, told, a comment, or known to mean the same with cygnet.

use super::super::read::{Fault, Reading};
use super::{Reader, cloud_init, custom_toml, dietpi, iwd, networkmanager, rpi_preseed, wpa_supplicant};

/// How a kind of file is put together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Toml,
    Yaml,
    /// `[group]`, `key=value`
    Keys,
    /// `network={`, `}`
    Blocks,
    /// `NAME=value`
    Names,
}

/// A file, and those of its lines that are silent: with cygnet it is so anyway, or they mean nothing elsewhere.
struct Case {
    name: &'static str,
    reader: Reader,
    form: Form,
    text: String,
    same: &'static [&'static str],
}

const PUBLIC: &str = include_str!("../test-host-key.pub");
const PRIVATE: &str = include_str!("../test-host-key");

fn cases() -> Vec<Case> {
    let key = PUBLIC.trim_end();
    let pem: String = PRIVATE.lines().map(|line| format!("    {line}\n")).collect();
    vec![
        Case {
            name: "cygnet.toml",
            reader: crate::card::read,
            form: Form::Toml,
            text: format!(
                "hostname = \"pi\"\ncountry = \"DE\"\nclaim = \"me\"\ntarget = \"pi\"\nauthorized-keys = [\n  \"{key}\",\n]\n\
                 host-key = '''\n{PRIVATE}'''\n# mine\n[[network]]\nssid = \"home\"\npassphrase = \"correct horse\"\nhidden = true\n\
                 priority = 3\nbssid = \"x\"\n[[network]]\nssid-hex = \"ff\"\nopen = true\n[wlan]\nssid = \"x\"\n"
            ),
            same: &[],
        },
        Case {
            name: "rpi-preseed.toml",
            reader: rpi_preseed::read,
            form: Form::Toml,
            text: format!(
                "config_version = \"1.0\"\n[system]\nhostname = \"pi\"\ntimezone = \"Europe/Berlin\"\n[user]\nname = \"pi\"\n[ssh]\n\
                 enabled = true\npassword_authentication = true\nauthorized_keys = [\"{key}\"]\n[wlan]\nssid_hex = \"ff\"\n\
                 password = \"correct horse\"\npassword_encrypted = false\nhidden = true\ncountry = \"DE\"\nkey_mgmt = \"sae\"\n\
                 band = \"a\"\n[interfaces]\nserial = true\n"
            ),
            same: &[
                "config_version = \"1.0\"",
                "enabled = true",
                "password_encrypted = false",
                "key_mgmt = \"sae\"",
            ],
        },
        Case {
            name: "custom.toml",
            reader: custom_toml::read,
            form: Form::Toml,
            text: format!(
                "config_version = 1\n[system]\nhostname = \"pi\"\n[user]\nname = \"pi\"\npassword = \"x\"\n[ssh]\nenabled = false\n\
                 password_authentication = false\nssh_import_id = \"gh:x\"\nauthorized_keys = [\"{key}\"]\n[wlan]\nssid = \"home\"\n\
                 password = \"correct horse\"\npassword_encrypted = false\nhidden = false\ncountry = \"DE\"\n[locale]\nkeymap = \"de\"\n"
            ),
            same: &[
                "config_version = 1",
                "password_authentication = false",
                "password_encrypted = false",
                "hidden = false",
            ],
        },
        Case {
            name: "network-config",
            reader: cloud_init::network_config,
            form: Form::Yaml,
            text: "# netplan\nnetwork:\n  version: 2\n  renderer: networkd\n  ethernets:\n    eth0:\n      dhcp4: true\n  wifis:\n    \
                   wlan0:\n      match:\n        name: wl*\n      dhcp4: yes\n      dhcp6: false\n      optional: true\n      \
                   renderer: networkd\n      regulatory-domain: DE\n      addresses:\n        - 10.0.0.2/24\n      access-points:\n        \
                   home:\n          hidden: true\n          mode: infrastructure\n          band: 5GHz\n          bssid: x\n          \
                   auth:\n            key-management: psk\n            password: correct horse\n            phase2-auth: x\n        \
                   guests: {}\n        own:\n          mode: ap\n          password: correct horse\n  bridges:\n    br0: {}\n"
                .to_owned(),
            same: &["network:", "version: 2", "renderer: networkd", "dhcp4: yes", "optional: true", "mode: infrastructure"],
        },
        Case {
            name: "user-data",
            reader: cloud_init::user_data,
            form: Form::Yaml,
            text: format!(
                "#cloud-config\nhostname: pi\nfqdn: other.example.org\nmanage_etc_hosts: true\npreserve_hostname: false\nssh_pwauth: no\n\
                 timezone: Europe/Berlin\nssh_authorized_keys:\n  - {key}\nusers:\n  - default\n  - name: me\n    shell: /bin/bash\n    \
                 ssh_authorized_keys:\n      - {key} again\npackages:\n  - vim\nssh_keys:\n  ed25519_private: |\n{pem}  ed25519_public: {key}\n  \
                 rsa_public: x\nruncmd:\n  - [reboot]\n"
            ),
            same: &["manage_etc_hosts: true", "preserve_hostname: false", "ssh_pwauth: no", "- default", "ed25519_public: "],
        },
        Case {
            name: "dietpi-wifi.txt",
            reader: dietpi::read,
            form: Form::Names,
            text: "#----\naWIFI_SSID[0]='home'\naWIFI_KEY[0]='correct horse'\naWIFI_KEYMGR[0]='WPA-PSK'\naWIFI_PROTO[0]='RSN'\n\
                   aWIFI_IDENTITY[0]=''\naWIFI_SSID[1]='guests'\naWIFI_KEYMGR[1]='NONE'\naWIFI_SSID[2]=''\naWIFI_KEY[2]=''\n\
                   aWIFI_SSID[3]='corp'\naWIFI_KEYMGR[3]='WPA-EAP'\n"
                .to_owned(),
            same: &[
                "aWIFI_KEYMGR[0]='WPA-PSK'",
                "aWIFI_IDENTITY[0]=''",
                "aWIFI_SSID[2]=''",
                "aWIFI_KEY[2]=''",
                "aWIFI_KEYMGR[3]='WPA-EAP'",
            ],
        },
        Case {
            name: "dietpi.txt",
            reader: dietpi::read,
            form: Form::Names,
            text: format!(
                "# DietPi\nAUTO_SETUP_LOCALE=C.UTF-8\nAUTO_SETUP_NET_WIFI_ENABLED=1\nAUTO_SETUP_NET_ETHERNET_ENABLED=0\n\
                 AUTO_SETUP_NET_WIFI_COUNTRY_CODE=GB\nAUTO_SETUP_NET_HOSTNAME=DietPi\nAUTO_SETUP_SSH_PUBKEY={key}\nAUTO_SETUP_X=\n"
            ),
            same: &["AUTO_SETUP_NET_WIFI_ENABLED=1", "AUTO_SETUP_X="],
        },
        Case {
            name: "wpa_supplicant.conf",
            reader: wpa_supplicant::read,
            form: Form::Blocks,
            text: "# x\nctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev\nupdate_config=1\nap_scan=1\nsae_pwe=1\ncountry=GB\n\
                   network={\nssid=\"home\"\npsk=\"correct horse\"\nscan_ssid=1\nkey_mgmt=WPA-PSK SAE\nproto=RSN\nid_str=\"x\"\n\
                   bssid=00:11:22:33:44:55\nmode=0\npriority=3\ndisabled=0\nauth_alg=OPEN\n}\nnetwork={\nssid=\"guests\"\n\
                   key_mgmt=NONE\n}\ncred={\nrealm=\"x\"\n}\nnetwork={\nssid=\"own\"\nmode=2\nkey_mgmt=NONE\n}\n"
                .to_owned(),
            same: &[
                "ctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev",
                "update_config=1",
                "ap_scan=1",
                "key_mgmt=WPA-PSK SAE",
                "proto=RSN",
                "id_str=\"x\"",
                "mode=0",
                "disabled=0",
                "auth_alg=OPEN",
            ],
        },
        Case {
            name: "home.nmconnection",
            reader: networkmanager::read,
            form: Form::Keys,
            text: "[connection]\nid=home\nuuid=x\ntype=wifi\ninterface-name=wlan0\nautoconnect-priority=3\nautoconnect=true\n\n[wifi]\n\
                   hidden=true\nmac-address=x\nmac-address-blacklist=\nmode=infrastructure\nssid=home\n\n[wifi-security]\nauth-alg=open\n\
                   key-mgmt=wpa-psk\npsk=correct horse\npsk-flags=0\n\n[ipv4]\nmethod=auto\ndns=1.1.1.1;\n[ipv6]\naddr-gen-mode=default\n\
                   method=ignore\n\n[proxy]\n"
                .to_owned(),
            same: &[
                "id=home",
                "uuid=x",
                "type=wifi",
                "autoconnect=true",
                "mac-address-blacklist=",
                "mode=infrastructure",
                "auth-alg=open",
                "psk-flags=0",
                "[ipv4]",
                "method=auto",
                "[ipv6]",
                "addr-gen-mode=default",
                "[proxy]",
            ],
        },
        Case {
            name: "home.psk",
            reader: |bytes| iwd::read("home.psk", bytes),
            form: Form::Keys,
            text: "# x\n[Security]\nPassphrase=correct horse\nPreSharedKey=0\nSAE-PT-Group19=00ff\n[Settings]\nHidden=true\n\
                   AutoConnect=true\nAlwaysRandomizeAddress=true\n[IPv4]\nAddress=10.0.0.2\n"
                .to_owned(),
            // The passphrase goes before the key that is made of it.
            same: &["PreSharedKey=0", "SAE-PT-Group19=00ff", "AutoConnect=true", "[IPv4]"],
        },
    ]
}

fn is_comment(line: &str) -> bool {
    line.is_empty() || line.starts_with(['#', ';']) || line == "}" || line == "]"
}

fn is_told(reading: &Reading, form: Form, lines: &[&str], at: usize) -> bool {
    let number = at + 1;
    let depth = |line: &str| line.len() - line.trim_start().len();
    let begins_with_it = |fault: &Fault| {
        let Some(first) = fault.line.checked_sub(1).filter(|first| *first < at) else { return false };
        let between = &lines[first + 1..=at];
        match form {
            Form::Yaml => between.iter().all(|line| depth(line) > depth(lines[first])),
            Form::Toml => lines[first].starts_with('[') && between.iter().all(|line| !line.starts_with('[')),
            Form::Blocks => lines[first].ends_with('{') && lines[first + 1..at].iter().all(|line| *line != "}"),
            Form::Keys | Form::Names => false,
        }
    };
    let name = lines[at].split('=').next().unwrap_or_default();
    reading
        .faults
        .iter()
        .any(|fault| fault.line == number || begins_with_it(fault) || (form == Form::Names && fault.why.contains(name)))
}

/// Whether something else comes of the file without the line.
fn is_taken(case: &Case, lines: &[&str], at: usize) -> bool {
    let without: Vec<&str> =
        lines.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, line)| *line).collect();
    (case.reader)(without.join("\n").as_bytes()).config != (case.reader)(lines.join("\n").as_bytes()).config
}

#[test]
fn each_line_is_taken_or_told_or_a_comment() {
    let mut wrong: Vec<String> = Vec::new();
    for case in cases() {
        let lines: Vec<&str> = case.text.lines().collect();
        let reading = (case.reader)(case.text.as_bytes());
        let mut same = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            if is_comment(line.trim()) || is_told(&reading, case.form, &lines, at) || is_taken(&case, &lines, at) {
                continue;
            }
            let is = |same: &&&str| line.trim() == **same || same.ends_with(": ") && line.trim().starts_with(**same);
            match case.same.iter().find(is) {
                Some(known) => same.push(known),
                None => wrong.push(format!("{}: nothing is said of line {}: {line}", case.name, at + 1)),
            }
        }
        let not_silent = case.same.iter().filter(|line| !same.contains(line));
        wrong.extend(not_silent.map(|line| format!("{}: “{line}” is not silent", case.name)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_nobody_knows_is_told_wherever_it_stands() {
    let mut wrong: Vec<String> = Vec::new();
    for case in cases() {
        let lines: Vec<&str> = case.text.lines().collect();
        for at in 1..=lines.len() {
            let before = lines[at - 1];
            // In the middle of a text of many lines it is part of that.
            let quotes = lines[..at].iter().filter(|line| line.contains("'''")).count();
            if quotes % 2 == 1 || before.ends_with('|') || before.contains("-----") {
                continue;
            }
            let depth = before.len() - before.trim_start().len();
            let unknown = match case.form {
                Form::Toml => "cygnet-x = 1".to_owned(),
                // Beside what stands above it, or within it.
                Form::Yaml if before.trim_end().ends_with(':') => format!("{}cygnet-x: 1", " ".repeat(depth + 2)),
                Form::Yaml if before.trim().starts_with("- ") => {
                    format!("{}cygnet-x: 1", " ".repeat(depth.saturating_sub(2)))
                }
                Form::Yaml => format!("{}cygnet-x: 1", " ".repeat(depth)),
                Form::Keys | Form::Blocks => "cygnet-x=1".to_owned(),
                Form::Names => "CYGNET_X=1".to_owned(),
            };
            let mut with = lines.clone();
            with.insert(at, &unknown);
            let reading = (case.reader)(with.join("\n").as_bytes());
            // Where YAML and TOML have none, the file can't be read, and that is told.
            let unreadable = reading.faults.iter().any(|fault| fault.why.contains("from here on"));
            if !is_told(&reading, case.form, &with, at) && !unreadable && !is_taken(&case, &with, at) {
                wrong.push(format!("{}: nothing is said of line {} behind {before:?}", case.name, at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
