//! The same commands as disko's scripts run on blank disks, once what they only ask is taken away.

use crate::fixtures::{NAMES, plan};
use cygnet_protocol::plan::{Action, Stage, Step};

/// Commands by which disko's scripts find out what a plan knows, or make the kernel look again.
fn is_question(argv: &[String]) -> bool {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    matches!(
        words.as_slice(),
        ["blkid" | "findmnt" | "udevadm" | "partprobe" | "zvol_wait", ..]
            | ["zpool", "import" | "list", ..]
            | ["zfs", "get" | "list", ..]
    )
}

/// What our plans do in addition: clearing old signatures, and unmounting a root dataset without asking whether it is.
fn is_ours_alone(argv: &[String]) -> bool {
    argv[0] == "wipefs" || argv[..2] == ["zfs", "unmount"] || argv[0] == "swapon"
}

fn argvs(steps: &[Step], stages: &[Stage]) -> Vec<Vec<String>> {
    let steps = steps.iter().filter(|step| stages.contains(&step.phase()));
    let actions = steps.flat_map(Step::actions);
    let argvs = actions.filter_map(|action| match action {
        Action::Run { argv, .. } => Some(argv),
        Action::WaitForDevice { .. } | Action::Script { .. } => None,
    });
    argvs.filter(|argv| !is_question(argv) && !is_ours_alone(argv)).collect()
}

/// disko's by-partlabel paths with odd characters differ from udev's, which we use.
fn as_udev_spells(word: &str) -> String {
    if !word.starts_with("/dev/disk/by-partlabel/") {
        return word.to_owned();
    }
    let mut parts = word.split("\\x");
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        path += &format!("\\x{}{rest}", hex.to_lowercase());
    }
    path
}

#[test]
fn partitioning_and_formatting_run_what_disko_runs() {
    for name in NAMES {
        let (fixture, plan) = plan(name);
        let mut disko: Vec<Vec<String>> = fixture.format.into_iter().filter(|argv| !is_question(argv)).collect();
        for argv in &mut disko {
            for word in argv.iter_mut() {
                *word = as_udev_spells(word);
            }
        }
        // Hooks of the fixtures end in these; ours are scripts.
        let is_hook = |argv: &Vec<String>| {
            argv.starts_with(&["zfs".into(), "snapshot".into()]) || argv.iter().any(|word| word == "keylocation=prompt")
        };
        disko.retain(|argv| !is_hook(argv));
        if name == "swap" {
            let at = disko.iter().position(|argv| argv[0].starts_with("mkfs.ext4")).unwrap();
            let encrypted = ["mkswap", "/dev/disk/by-partlabel/disk-main-encryptedSwap"];
            disko.insert(at, encrypted.map(str::to_owned).to_vec());
        }
        let is_sgdisk = |argv: &&Vec<String>| argv[0] == "sgdisk";
        // disko finishes one disk before the next; we finish a stage before the next.
        let partitioned: Vec<_> = disko.iter().filter(is_sgdisk).cloned().collect();
        let formatted: Vec<_> = disko.iter().filter(|argv| !is_sgdisk(argv)).cloned().collect();
        assert_eq!(argvs(&plan.steps, &[Stage::Partition]), partitioned, "{name}");
        assert_eq!(argvs(&plan.steps, &[Stage::Format]), formatted, "{name}");
    }
}

/// Source, target, type and sorted options of a mount(8) argv, in whatever order they stand.
fn mount(argv: &[String]) -> (String, String, String, Vec<String>) {
    let (mut fstype, mut options, mut places) = (String::new(), Vec::new(), Vec::new());
    let mut words = argv[1..].iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-t" => fstype = words.next().unwrap().clone(),
            "-o" => options.push(words.next().unwrap().clone()),
            _ => places.push(as_udev_spells(word)),
        }
    }
    options.retain(|option| !matches!(option.as_str(), "noauto" | "nofail") && !option.starts_with("x-"));
    options.sort();
    let [source, target] = places.try_into().unwrap();
    let target = if target == "/mnt/" { "/mnt".to_owned() } else { target };
    (source, target, fstype, options)
}

#[test]
fn mounting_runs_what_disko_runs() {
    for name in NAMES {
        let (fixture, plan) = plan(name);
        let disko: Vec<_> = fixture
            .mount
            .iter()
            .filter(|argv| !is_question(argv))
            .map(|argv| {
                let mut argv = argv.clone();
                if name == "x-zfs-quoting" {
                    // disko forgets to quote this source, bash makes two words of it, and mount(8) would fail.
                    if let Some(at) = argv.iter().position(|word| word == "rpool/with") {
                        argv.splice(at..at + 2, ["rpool/with space".to_owned()]);
                    }
                }
                mount(&argv)
            })
            .collect();
        let ours: Vec<_> = argvs(&plan.steps, &[Stage::Mount]).iter().map(|argv| mount(argv)).collect();
        assert_eq!(ours, disko, "{name}");
    }
}

#[test]
fn order_is_disko_s() {
    for name in NAMES {
        let (fixture, plan) = plan(name);
        let layout = plan.target_layout();
        let at = |target: &str| match target.strip_prefix("/mnt") {
            Some("") => "/".to_owned(),
            Some(path) => path.to_owned(),
            None => panic!("{target} is not under /mnt"),
        };
        let ours: Vec<String> = layout.mounts.iter().map(|mount| at(&mount.target)).collect();
        assert_eq!(ours, fixture.mount_order, "{name}");

        let of = |kind: &str| -> Vec<String> {
            fixture.device_order.iter().filter(|(found, _)| found == kind).map(|(_, name)| name.clone()).collect()
        };
        let disks: Vec<String> = plan.disks.iter().map(|disk| disk.name.clone()).collect();
        assert_eq!(disks, of("disk"), "{name}");
        assert_eq!(layout.pools, of("zpool"), "{name}");
        let last_disk = fixture.device_order.iter().rposition(|(kind, _)| kind == "disk");
        let first_pool = fixture.device_order.iter().position(|(kind, _)| kind == "zpool");
        assert!(first_pool.is_none() || first_pool > last_disk, "{name}");
    }
}

#[test]
fn stages_never_go_back() {
    for name in NAMES {
        let (_, plan) = plan(name);
        assert!(plan.steps.is_sorted_by_key(Step::phase), "{name}");
    }
}

#[test]
fn hooks_are_scripts_with_the_variables_disko_defines() {
    let (_, plan) = plan("x-hooks");
    let scripts: Vec<(String, Action)> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Hook { owner, .. } => Some((owner.clone(), step.actions().remove(0))),
            _ => None,
        })
        .collect();
    let (_, Action::Script { text, environment }) = &scripts[0] else { panic!("no script") };
    assert_eq!(text, "set -efu\necho disk-pre $device\n");
    assert_eq!(environment["device"], "/dev/vda");
    assert_eq!(environment["name"], "main");
    let owners: Vec<&str> = scripts.iter().map(|(owner, _)| owner.as_str()).collect();
    assert_eq!(
        owners,
        [
            "disk.main",
            "disk.main.content",
            "disk.main.content.partitions.p.content",
            "disk.main.content",
            "disk.main",
            "zpool.p",
            "zpool.p.datasets.root",
            "zpool.p.datasets.root",
            "zpool.p",
            "disk.main",
            "disk.main.content",
            "zpool.p",
            "zpool.p",
            "zpool.p.datasets.root",
            "zpool.p.datasets.root",
        ]
    );
}

/// Lists and properties reach a hook as bash arrays, whatever is in them.
#[test]
fn a_hook_sees_its_variables_in_a_real_bash() {
    use cygnet_protocol::disko::Variable;
    use cygnet_protocol::plan::HookTime;
    let odd = "it's $HOME \"q\" * `id`";
    let list = vec!["one".to_owned(), odd.to_owned()];
    let variables = [
        ("name".to_owned(), Variable::Text(odd.to_owned())),
        ("mountOptions".to_owned(), Variable::List(list)),
        ("options".to_owned(), Variable::Map([("com.sun:x".to_owned(), odd.to_owned())].into())),
    ];
    let step = Step::Hook {
        owner: "zpool.p".to_owned(),
        when: HookTime::PostCreate,
        stage: Stage::Format,
        script: "printf '%s|' \"$name\" \"${mountOptions[@]}\" \"${options[com.sun:x]}\"".to_owned(),
        variables: variables.into(),
    };
    let Action::Script { text, environment } = step.actions().remove(0) else { panic!("no script") };
    let output = std::process::Command::new("bash").args(["-c", &text]).envs(environment).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{odd}|one|{odd}|{odd}|"));
    assert!(output.status.success());
}
