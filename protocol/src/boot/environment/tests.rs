use super::super::build::tests::{RPI_4, binary};
use super::super::switch::Act;
use super::*;
use std::collections::BTreeMap;

fn build() -> Build {
    Build::find("u-boot-rpi4.bin", &binary(RPI_4)).unwrap()
}

fn pi() -> Environment {
    Environment::for_card(&build(), &Devices::of_pi(), None).unwrap()
}

#[test]
fn only_what_must_be_changed_is() {
    let environment = pi();
    let build = build();
    for (name, value) in &build.defaults {
        match name.as_str() {
            "bootcmd" => assert_ne!(environment.get(name), Some(value.as_str())),
            "bootdelay" => assert_eq!(environment.get(name), Some("-2")),
            "preboot" => assert_eq!(environment.get(name), None),
            _ => assert_eq!(environment.get(name), Some(value.as_str()), "{name}"),
        }
    }
    let added = environment.variables().iter().filter(|(name, _)| build.get(name).is_none());
    assert!(added.clone().all(|(name, _)| name.starts_with("cygnet_")), "{added:?}");
    assert!(environment.get("cygnet_ssd").unwrap().starts_with("pci enum; usb start; setenv boot_targets usb;"));
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let environment = pi();
    let file = environment.render();
    assert_eq!((file.len(), environment.render_in(0x40000).len()), (0x4000, 0x40000));
    assert_eq!(Environment::parse(&file), Ok(environment.clone()));
    assert!(environment.is_ours());
    let mut damaged = file.clone();
    damaged[100] ^= 1;
    assert_eq!(Environment::parse(&damaged), Err(Damaged::Checksum));
    assert_eq!(Environment::parse(&file[..0x2000]), Err(Damaged::Length(0x2000)));
    assert_eq!(Environment::parse(&[]), Err(Damaged::Length(0)));
    let other = Environment { variables: vec![("bootcmd".into(), "bootflow scan".into())] };
    assert!(!Environment::parse(&other.render()).unwrap().is_ours());
    let mut wild = vec![0xff; SIZE];
    let crc = crc32fast::hash(&wild[CRC..]).to_le_bytes();
    wild[..CRC].copy_from_slice(&crc);
    assert_eq!(Environment::parse(&wild), Err(Damaged::Variable));
}

#[test]
fn the_text_has_a_line_for_each() {
    let text = pi().text();
    assert_eq!(text.lines().count(), pi().variables().len());
    assert!(text.lines().any(|line| line == "kernel_addr_r=0x00080000"));
}

#[test]
fn too_much_is_refused_and_so_is_a_build_without_usb() {
    let long = RPI_4.replacen("arch=arm", &format!("arch={}", "a".repeat(8000)), 1);
    let long = long.replacen("loadaddr=", &format!("more={}\0loadaddr=", "a".repeat(7000)), 1);
    let build = Build::find("x", &binary(&long)).unwrap();
    assert!(matches!(
        Environment::for_card(&build, &Devices::of_pi(), None),
        Err(NoSwitch::TooLong { most: SIZE, .. })
    ));
    let mut bytes = binary(RPI_4);
    let at = bytes.windows(12).position(|window| window == b"start - star").unwrap();
    bytes[at] = b'S';
    let build = Build::find("x", &bytes).unwrap();
    assert!(Environment::for_card(&build, &Devices::of_pi(), None).is_err());
    assert!(Environment::for_card(&build, &Devices::of_virt(4), None).is_ok());
}

/// As much of U-Boot as our variables use: the old hush, and commands that do what the real ones do to a file and to the disks.
struct Board {
    variables: BTreeMap<String, String>,
    memory: Vec<u8>,
    file: Option<Vec<u8>>,
    can_write: bool,
    /// The SSD has something to start; by EFI, too.
    ssd: Option<bool>,
    card: bool,
    usb: bool,
    said: Vec<String>,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Card,
    Ssd,
    Reset,
}

impl Board {
    fn new(environment: &Environment, file: Option<Vec<u8>>) -> Self {
        Self {
            variables: environment.variables().iter().cloned().collect(),
            memory: Vec::new(),
            file,
            can_write: true,
            ssd: Some(false),
            card: true,
            usb: false,
            said: Vec::new(),
            end: None,
        }
    }

    fn boot(mut self) -> (End, Option<Switch>, Vec<String>) {
        self.script(&self.variables["bootcmd"].clone());
        let file = self.file.as_deref().and_then(Switch::parse);
        (self.end.expect("U-Boot goes back to its prompt"), file, self.said)
    }

    /// A list of commands with `if` in it; whether the last one succeeded.
    fn script(&mut self, text: &str) -> bool {
        let words: Vec<&str> = text.split(';').map(str::trim).filter(|word| !word.is_empty()).collect();
        let (mut good, mut taken, mut active) = (true, Vec::<bool>::new(), vec![true]);
        for mut command in words {
            // `if a`, `then b`, `elif c`, `else d`, `fi`: what follows the word is a command of its own.
            loop {
                let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
                match word {
                    "if" => {
                        taken.push(!active[active.len() - 1]);
                        active.push(active[active.len() - 1]);
                    }
                    "elif" => *active.last_mut().unwrap() = !taken[taken.len() - 1],
                    "then" => {
                        let run = active[active.len() - 1] && good;
                        *active.last_mut().unwrap() = run;
                        *taken.last_mut().unwrap() |= run;
                    }
                    "else" => *active.last_mut().unwrap() = !taken[taken.len() - 1],
                    "fi" => {
                        taken.pop();
                        active.pop();
                    }
                    _ => break,
                }
                command = rest.trim();
            }
            if !command.is_empty() && active[active.len() - 1] && self.end.is_none() {
                good = command.split("&&").all(|part| self.command(part.trim()));
            }
        }
        assert!(taken.is_empty(), "an if without its fi: {text}");
        good
    }

    fn command(&mut self, text: &str) -> bool {
        if self.end.is_some() {
            return false;
        }
        let mut expanded = text.to_owned();
        while let Some((before, rest)) = expanded.clone().split_once("${") {
            let (name, after) = rest.split_once('}').unwrap();
            let value = self.variables.get(name).cloned().unwrap_or_default();
            expanded = format!("{before}{value}{after}");
        }
        let plain = expanded.replace('"', "");
        let words: Vec<&str> = plain.split(' ').filter(|word| !word.is_empty()).collect();
        match words[..] {
            ["run", name] => {
                let script = self.variables.get(name).cloned().unwrap_or_else(|| panic!("no variable {name}"));
                self.script(&script)
            }
            ["setenv", name] => {
                self.variables.remove(name);
                true
            }
            ["setenv", name, ref values @ ..] => {
                self.variables.insert(name.into(), values.join(" "));
                true
            }
            ["echo", ref words @ ..] => {
                self.said.push(words.join(" "));
                true
            }
            ["test", left, "=", right] => left == right,
            ["fatload", "mmc" | "virtio", "0:1", _, "cygnet/boot", bytes] => {
                let Some(file) = &self.file else { return false };
                let most = usize::from_str_radix(bytes, 16).unwrap();
                self.memory = file.iter().copied().take(most).collect();
                self.variables.insert("filesize".into(), format!("{:x}", self.memory.len()));
                true
            }
            ["fatwrite", "mmc" | "virtio", "0:1", _, "cygnet/boot", bytes] => {
                let bytes = usize::from_str_radix(bytes, 16).unwrap();
                if self.can_write {
                    self.file = Some(self.memory[..bytes].to_vec());
                }
                self.can_write
            }
            ["env", "import", "-t", _, _, ref names @ ..] => {
                let text = String::from_utf8_lossy(&self.memory).into_owned();
                let lines: BTreeMap<&str, &str> =
                    text.split('\0').next().unwrap().lines().filter_map(|line| line.split_once('=')).collect();
                for name in names {
                    self.variables.remove(*name);
                    if let Some(value) = lines.get(name).filter(|value| !value.is_empty()) {
                        self.variables.insert((*name).into(), (*value).into());
                    }
                }
                true
            }
            ["env", "export", "-t", _, ref names @ ..] => {
                let lines: String = names.iter().map(|name| format!("{name}={}\n", self.variables[*name])).collect();
                self.memory = format!("{lines}\0").into_bytes();
                self.variables.insert("filesize".into(), format!("{:x}", self.memory.len()));
                true
            }
            ["usb", "start"] => {
                self.usb = true;
                true
            }
            ["usb", "stop"] => {
                self.usb = false;
                true
            }
            ["pci", "enum"] | ["virtio", "scan"] | ["sleep", "10"] => true,
            ["bootflow", "scan"] | ["bootflow", "scan", "-lb"] => {
                self.scan();
                false
            }
            ["reset"] => {
                self.end = Some(End::Reset);
                true
            }
            _ => panic!("a command that this board does not know: {text}"),
        }
    }

    fn scan(&mut self) {
        // The EFI boot manager comes first, and sees what has been found so far.
        if self.usb && self.ssd == Some(true) {
            self.end = Some(End::Ssd);
            return;
        }
        for target in self.variables["boot_targets"].clone().split(' ') {
            match target {
                "mmc" | "virtio0" if self.card => self.end = Some(End::Card),
                "usb" if self.usb && self.ssd.is_some() => self.end = Some(End::Ssd),
                "virtio1" if self.ssd.is_some() => self.end = Some(End::Ssd),
                _ => continue,
            }
            return;
        }
    }
}

/// Every start of every state, on both kinds of machine: U-Boot does what [`Switch::at_power_on`] says.
#[test]
fn u_boot_does_as_the_switch_says() {
    let flags = RPI_4.replacen("scan", "scan -lb", 1);
    let virt = Build::find("u-boot.bin", &binary(&flags)).unwrap();
    let virt = Environment::for_card(&virt, &Devices::of_virt(4), None).unwrap();
    for environment in [&pi(), &virt] {
        for state in Switch::ALL {
            for ssd in [Some(false), Some(true), None] {
                for can_write in [true, false] {
                    if ssd == Some(true) && environment == &virt {
                        continue;
                    }
                    let mut board = Board::new(environment, Some(state.render()));
                    (board.ssd, board.can_write) = (ssd, can_write);
                    let (end, file, said) = board.boot();
                    let what = format!("{state:?}, SSD {ssd:?}, can be written: {can_write}: {said:?}");
                    let (expected, left) = match (state.at_power_on(), can_write, ssd.is_some()) {
                        (Start::Card, _, _) | (Start::SsdUncounted, _, false) => (End::Card, state),
                        (Start::SsdUncounted, _, true) => (End::Ssd, state),
                        (Start::Trial { write, .. }, true, true) => (End::Ssd, write),
                        (Start::Trial { back, .. }, true, false) => (End::Card, back),
                        (Start::Trial { .. }, false, _) => (End::Card, state),
                        (Start::Ssd { write, .. }, true, true) => (End::Ssd, write),
                        (Start::Ssd { back, .. }, true, false) => (End::Card, back),
                        (Start::Ssd { .. }, false, true) => (End::Ssd, state),
                        (Start::Ssd { .. }, false, false) => (End::Card, state),
                    };
                    assert_eq!((end, file), (expected, Some(left)), "{what}");
                    let card = said.iter().any(|line| line == says::CARD);
                    assert_eq!(card, expected == End::Card, "{what}");
                    let nothing = said.iter().any(|line| line == says::NOTHING);
                    assert_eq!(
                        nothing,
                        ssd.is_none() && said.iter().any(|l| l == says::TRIAL || l == says::SSD),
                        "{what}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_the_switch_can_not_say_is_the_card() {
    for file in [
        None,
        Some(&b""[..]),
        Some(b"cygnet=stay\n\0"),
        Some(b"cygnet_tries=0\n\0"),
        Some(b"cygnet=stay\ncygnet_tries=7\n\0"),
        Some(b"cygnet=\ncygnet_tries=\n\0"),
        Some(b"bootcmd=reset\ncygnet=on\ncygnet_tries=ce-0\nboot_targets=usb\n\0"),
        Some(b"cygnet=once-0\ncygnet_tries=\n\0"),
        Some(&[0xe5; 512]),
    ] {
        let mut board = Board::new(&pi(), file.map(<[u8]>::to_vec));
        board.ssd = Some(true);
        let (end, _, said) = board.boot();
        assert_eq!(end, End::Card, "{file:?}: {said:?}");
    }
}

#[test]
fn a_card_without_a_system_starts_what_there_is() {
    let mut board = Board::new(&pi(), None);
    (board.card, board.ssd) = (false, Some(false));
    assert_eq!(board.boot().0, End::Ssd);
    let mut board = Board::new(&pi(), None);
    (board.card, board.ssd) = (false, None);
    assert_eq!(board.boot().0, End::Reset);
}

/// The whole story, start by start.
#[test]
fn a_trial_its_confirmation_and_three_starts_that_failed() {
    let environment = pi();
    let mut file = Some(Switch::Once.render());
    let mut start = |act: Option<Act>| {
        let (end, state, _) = Board::new(&environment, file.clone()).boot();
        let state = state.unwrap();
        let state = act.map_or(state, |act| state.after(act).unwrap());
        file = Some(state.render());
        (end, state)
    };
    assert_eq!(start(None), (End::Ssd, Switch::Gone { started: true }));
    assert_eq!(start(Some(Act::Arm)), (End::Card, Switch::Once));
    assert_eq!(start(Some(Act::Confirm)), (End::Ssd, Switch::Stay { starts: 0 }));
    assert_eq!(start(Some(Act::Clear)), (End::Ssd, Switch::Stay { starts: 0 }));
    for starts in 1..=3 {
        assert_eq!(start(None), (End::Ssd, Switch::Stay { starts }));
    }
    assert_eq!(start(None), (End::Card, Switch::Stay { starts: 3 }));
    assert_eq!(start(Some(Act::ToSsd)), (End::Card, Switch::Stay { starts: 0 }));
    assert_eq!(start(None).0, End::Ssd);
}

#[test]
fn an_environment_that_the_image_has_is_kept() {
    let given = |bootcmd: &str| Environment {
        variables: [
            ("bootcmd", bootcmd),
            ("preboot", "pci enum; usb start"),
            ("scriptaddr", "0x1"),
            ("kernel_addr_r", "0x2"),
            ("ramdisk_addr_r", "0x77"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
    };
    let of = |there: &Environment| Environment::for_card(&build(), &Devices::of_pi(), Some(there));
    let first = of(&given("bootflow scan")).unwrap();
    assert_eq!(first.get("ramdisk_addr_r"), Some("0x77"));
    assert!(first.get("cygnet_ssd").unwrap().starts_with("pci enum; usb start; "));
    assert!(first.is_ours() && first.get("preboot").is_none());
    assert_eq!(of(&first).unwrap().variables(), first.variables(), "the next time, from what was written then");
    assert!(matches!(of(&given("run mine")), Err(NoSwitch::OtherWay { .. })));
    // What we made of the binary's is made anew, as the binary may be another one.
    let ours = pi();
    let stale = Environment {
        variables: ours
            .variables
            .iter()
            .map(|(name, value)| match name.as_str() {
                "ramdisk_addr_r" => (name.clone(), "0x99".to_owned()),
                _ => (name.clone(), value.clone()),
            })
            .collect(),
    };
    assert_eq!(of(&stale).unwrap(), ours);
    let without = Environment { variables: vec![("x".into(), "y".into())] };
    assert!(matches!(of(&without), Err(NoSwitch::Unknown { .. })));
}
