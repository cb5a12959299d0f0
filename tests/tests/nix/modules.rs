//! What the modules make of the configurations in `cases.nix`, and what they refuse.

use crate::tools::evaluated;
use cygnet_protocol::online::settings::{Key, Settings};
use serde_json::{Value, json};

/// One refusal each: its name in `cases.nix`, and words of what is wrong and of what to do.
const REFUSED: &[(&str, &str, &str)] = &[
    ("driver-in-initrd", "there is no wlan0", "Remove it from boot.initrd.kernelModules"),
    ("driver-blacklisted", "blacklisted", "Remove it from boot.blacklistedKernelModules"),
    ("no-firmware", "no firmware", "Leave it at true"),
    ("no-zfs", "has no ZFS", "Leave boot.supportedFilesystems.zfs at true"),
    ("kernel-without-zfs", "does not support Linux 6.19.1", "Do not set boot.kernelPackages"),
    ("no-host-id", "networking.hostId is null", "8 hex digits"),
    ("a-password", "root has a password", "cygnet card configure"),
    ("an-empty-password", "root has a password", "services.cygnet.authorizedKeys"),
    ("autologin", "whoever has a keyboard", "services.cygnet.console.shell"),
    ("initrd-network", "boot.initrd.network", "boot.initrd.network.enable = false"),
    ("not-aarch64", "x86_64-linux, which no Raspberry Pi runs", "nixpkgs.hostPlatform = \"aarch64-linux\""),
    ("agent-off", "services.cygnet.enable is false", "Leave it at true"),
    ("passphrase-in-store", "in the Nix store", "cygnet card configure DEVICE"),
    ("passphrase-file-in-store", "is in the Nix store", "Write it as a string"),
    ("network-without-a-way-in", "needs just one of", "is not named here at all"),
    ("network-with-two-ways-in", "needs just one of", "passphraseFile"),
    ("network-with-a-long-name", "1 to 32 octets", "as the access point tells it"),
    ("network-twice", "the same ssid", "Leave one of them out"),
    ("network-manager", "would both take the radio", "networking.networkmanager.enable = false"),
    ("other-supplicant", "would both take the radio", "services.cygnet.networks"),
    ("iwd", "would both take the radio", "networking.wireless.iwd.enable to false"),
    ("avahi", "both answer mDNS", "services.avahi.enable = false"),
    ("no-networkd", "nobody asks for an address", "Leave networking.useNetworkd at true"),
    ("no-sshd", "nobody reaches the agent", "Leave services.openssh.enable at true"),
    ("ssh-passwords", "passwords can be guessed", "PasswordAuthentication"),
    ("ssh-without-root", "logs in as root", "prohibit-password"),
    ("private-key", "private key", "make a new key"),
    ("both-modules", "as waiting", "take one"),
    ("shell-on-fail", "waits for somebody at a keyboard", "Remove it"),
    ("networks-for-nobody", "which this system does not", "Enable it"),
];

/// Values that no option takes.
const THROWN: &[&str] = &[
    "country-in-words",
    "key-of-two-lines",
    "key-of-a-cache-without-name",
    "console-with-its-directory",
    "console-that-is-none",
    "unknown-network-option",
    "unknown-supplicant",
    "announced-for-ever",
    "on-trial-for-ever",
];

fn case<'a>(found: &'a Value, name: &str) -> &'a Value {
    let case = &found["cases"][name];
    assert!(case.is_object(), "cases.nix has no {name}");
    assert!(case["thrown"].is_null(), "{name} is of a wrong type");
    case
}

/// What was looked at in a configuration that is good.
fn seen<'a>(found: &'a Value, name: &str) -> &'a Value {
    let case = case(found, name);
    assert_eq!(case["refused"], json!([]), "{name}");
    &case["seen"]
}

#[test]
fn what_contradicts_is_refused_with_a_remedy() {
    let Some(found) = evaluated() else { return };
    for (name, what, remedy) in REFUSED {
        let refused = case(found, name)["refused"].as_array().unwrap();
        // One mistake, one message.
        let [Value::String(message)] = refused.as_slice() else { panic!("{name}: {refused:#?}") };
        let line = message.replace('\n', " ");
        assert!(line.contains(what) && line.contains(remedy), "{name}: {message}");
        assert!(!message.contains("correct horse"), "{name} tells a secret");
    }
    for name in THROWN {
        assert_eq!(found["cases"][name], json!({ "thrown": true }), "{name}");
    }
    let all = found["cases"].as_object().unwrap();
    let good = all.values().filter(|case| case["refused"] == json!([])).count();
    assert_eq!(all.len(), REFUSED.len() + THROWN.len() + good, "a case has no expectation");
}

#[test]
fn the_card_is_as_it_should_be() {
    let Some(found) = evaluated() else { return };
    let card = seen(found, "card-as-it-is");
    let modules: Vec<&str> = card["modules"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for module in ["brcmfmac", "brcmfmac_wcc", "brcmfmac_cyw", "brcmfmac_bca"] {
        assert!(modules.contains(&module), "{modules:?}");
    }
    let consoles = |card: &Value| -> Vec<String> {
        let words = card["params"].as_array().unwrap().iter().filter_map(Value::as_str);
        words.filter(|word| word.starts_with("console=")).map(ToOwned::to_owned).collect()
    };
    // Not ttyAMA0, which is Bluetooth's.
    assert_eq!(consoles(card), ["console=ttyS0,115200n8", "console=ttyS1,115200n8", "console=tty0"]);
    assert_eq!(consoles(seen(found, "card-with-wishes")), ["console=ttyAMA10,115200n8", "console=tty0"]);
    assert_eq!((&card["zfs"], &card["getty"], &card["variant"]), (&json!(true), &json!(false), &json!("installer")));
    assert_eq!(card["sshd"]["PasswordAuthentication"], false);
    let files = card["sshd"]["files"].as_array().unwrap();
    assert!(files.contains(&json!("/var/lib/cygnet/ssh/authorized_keys")) && files.len() == 3, "{files:?}");
    assert_eq!(card["wanted"], json!(["multi-user.target"]));
    assert_eq!(card["card"], json!(["multi-user.target"]));
    assert!(card["search"].as_str().unwrap().contains("wpa_supplicant"));
    assert!(case(found, "card-as-it-is")["warned"] == json!([]));
}

#[test]
fn a_persons_wishes_come_first() {
    let Some(found) = evaluated() else { return };
    let card = seen(found, "card-with-wishes");
    assert_eq!((&card["hostId"], &card["hostName"]), (&json!("00c0ffee"), &json!("nest")));
    assert_eq!(card["start"], json!(["", "cygnetd daemon --target '/my target'"]));
}

#[test]
fn settings_are_those_that_the_agent_reads() {
    let Some(found) = evaluated() else { return };
    let card = seen(found, "card-with-an-open-network");
    assert_eq!(card["composed"], false);
    if found["whole"] == true {
        // Then it is a file, which is not built for this.
        return;
    }
    let settings = Settings::parse(card["settings"].as_str().unwrap().as_bytes()).unwrap();
    assert!(settings.console.shell && settings.country.as_deref() == Some("DE"));
    assert!(matches!(settings.networks.as_slice(), [open] if open.key == Key::Open));
}

#[test]
fn passphrases_come_from_files_at_boot() {
    let Some(found) = evaluated() else { return };
    let card = seen(found, "card-with-keys-and-networks");
    assert_eq!(card["keys"], json!([["cygnetd bridge\" ssh-ed25519 AAAA you@laptop"]]));
    assert_eq!(card["settings"], "/run/cygnet-settings/settings.json");
    assert_eq!(card["before"], json!(["cygnetd.service"]));
    if found["whole"] == true {
        return;
    }
    compose(card["script"].as_str().unwrap());
}

/// Runs the script of cygnet-settings.service, on files of its own.
fn compose(script: &str) {
    if !std::process::Command::new("jq").arg("--version").output().is_ok_and(|output| output.status.success()) {
        crate::tools::say("NOT RUN: the script of cygnet-settings.service. There is no jq in PATH");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let base = r#"{"console":{"devices":[],"shell":false},"country":"DE","networks":[{"ssid":"library","open":true}]}"#;
    std::fs::write(at("base"), base).unwrap();
    let script = script
        .lines()
        .map(|line| {
            if line.starts_with("cat ") { format!("cat {} > \"$all\"", at("base").display()) } else { line.to_owned() }
        })
        .collect::<Vec<_>>()
        .join("\n")
        .replace("/run/cygnet-settings/settings.json", &at("settings.json").to_string_lossy())
        .replace("/run/secrets/home", &at("secret").to_string_lossy());
    let run = || {
        let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        let written = std::fs::read(at("settings.json")).unwrap();
        (Settings::parse(&written).unwrap(), stderr)
    };
    let (without, said) = run();
    assert!(without.networks.len() == 1 && said.contains("“home” is left out"), "{said}");
    // As editors and Windows leave it.
    for text in ["correct horse\"\\$x", "correct horse\"\\$x\n", "correct horse\"\\$x\r\nsecond line\n"] {
        std::fs::write(at("secret"), text).unwrap();
        let (with, said) = run();
        let home = with.networks.iter().find(|network| network.ssid.to_string() == "home").unwrap();
        assert_eq!((&home.key, home.priority), (&Key::Passphrase("correct horse\"\\$x".into()), 5));
        assert!(said.is_empty(), "{said}");
    }
}

#[test]
fn the_installed_system_announces_itself_and_keeps_its_networks() {
    let Some(found) = evaluated() else { return };
    let plain = seen(found, "installed-as-it-is");
    assert_eq!(plain["unit"]["Environment"], json!(["CYGNET_ANNOUNCE_FOR=10m"]));
    assert!(plain["carried"] == false && plain["ports"].as_array().unwrap().contains(&json!(5353)));
    let trial = &plain["trial"];
    assert_eq!(trial["Environment"], json!(["CYGNET_TRIAL=10m"]));
    assert_eq!((&trial["wantedBy"], &trial["emergency"]), (&json!(["sysinit.target"]), &json!(["emergency.target"])));
    for parameter in ["panic=10", "boot.panic_on_fail"] {
        assert!(trial["params"].as_array().unwrap().contains(&json!(parameter)), "{trial}");
    }
    assert_eq!(seen(found, "installed-without-trial"), &json!(false));
    let keeps = seen(found, "installed-keeps-networks");
    assert_eq!(keeps["files"], json!(["/etc/wpa_supplicant/cygnet-carried.conf"]));
    assert_eq!(keeps["before"], json!(["wpa_supplicant.service"]));
    let start =
        "cygnetd carried --as wpa_supplicant --into /etc/wpa_supplicant/cygnet-carried.conf --owner wpa_supplicant";
    assert_eq!(keeps["start"], start);
    assert_eq!(seen(found, "not-enabled"), &json!(false));
}

#[test]
fn the_template_is_a_system_that_is_accepted() {
    let Some(found) = evaluated() else { return };
    let template = seen(found, "template");
    assert_eq!(template["partitions"], json!(["FIRMWARE", "boot", "zfs"]));
    assert_eq!((&template["pools"], template["keys"].as_array().unwrap().len()), (&json!(["rpool"]), 1));
    assert_eq!(template["files"], json!(["/etc/wpa_supplicant/cygnet-carried.conf"]));
}

#[test]
fn another_release_of_nix_sees_the_same() {
    let Some(found) = evaluated() else { return };
    let Some(other) = crate::tools::evaluated_by_another() else { return };
    assert_eq!(other["cases"], found["cases"]);
    let sources = ["cygnet", "cygnetd"].map(|name| other["packages"][name]["src"].as_str().unwrap_or_default());
    for source in sources {
        for there in ["Cargo.lock", "agent/systemd/cygnetd.service", "host-cli/src/main.rs"] {
            assert!(std::path::Path::new(source).join(there).is_file(), "{source:?} has no {there}");
        }
        assert!(!std::path::Path::new(source).join(".cargo").exists(), "{source:?}");
    }
}

#[test]
fn caches_without_keys_are_warned_of() {
    let Some(found) = evaluated() else { return };
    let warned = case(found, "caches-without-keys")["warned"].to_string();
    assert!(warned.contains("trustedPublicKeys"), "{warned}");
}

#[test]
fn the_kernel_is_the_newest_that_zfs_supports() {
    let Some(found) = evaluated() else { return };
    let chosen = json!({
        "newest": "6.12.40", "unsupported": "6.12.40", "others": "6.6.9", "removed": "6.6.9", "none": "none",
    });
    assert_eq!(found["kernels"], chosen);
}
