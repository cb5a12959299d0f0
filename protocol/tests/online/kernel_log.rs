//! Kernel lines that people posted, read and diagnosed. Each file says where it is from and what must come out.

use crate::specimens::{joining, well};
use cygnet_protocol::online::diagnose::{diagnose, warnings};
use cygnet_protocol::online::kernel;
use cygnet_protocol::online::observation::Observations;
use std::path::{Path, PathBuf};

struct Recorded {
    path: PathBuf,
    header: Vec<(String, String)>,
    lines: Vec<String>,
}

impl Recorded {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("# "));
        let header = head.iter().filter_map(|line| line.trim_start_matches("# ").split_once(": "));
        let header: Vec<(String, String)> = header.map(|(k, v)| (k.into(), v.into())).collect();
        assert!(head[0].starts_with("# https://"), "{} does not say where it is from", path.display());
        Self { path, header, lines: lines.into_iter().map(String::from).collect() }
    }

    fn says(&self, key: &str) -> Option<&str> {
        self.header.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    fn observations(&self) -> Observations {
        let mut o = match self.says("radio") {
            Some("present") => well(),
            Some("silent") | None => joining(),
            Some(other) => panic!("{}: radio: {other}", self.path.display()),
        };
        if self.says("radio").is_none() {
            o.radio = None;
        }
        if self.says("radio") != Some("present") {
            o.scan.done = 0;
            o.scan.failed = 5;
            o.scan.seen.clear();
        }
        if self.says("sdio") == Some("absent") {
            o.hardware.sdio.clear();
        }
        o.hardware.kernel = self.lines.iter().filter_map(|line| kernel::read(line)).collect();
        if self.says("warning") == Some("W06-NO-REGDB") {
            o.regdomain = Some("00".into());
        }
        o
    }
}

#[test]
fn posted_logs_are_diagnosed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel-log");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20);
    for recorded in files.into_iter().map(Recorded::read) {
        let name = recorded.path.file_name().unwrap().to_string_lossy().into_owned();
        let o = recorded.observations();
        let said = diagnose(&o);
        let code = said.as_ref().map_or("none", |d| d.code.name());
        assert_eq!(Some(code), recorded.says("diagnosis"), "{name}: {said:?}");
        if let Some(words) = recorded.says("says") {
            let said = said.unwrap();
            assert!(said.what.contains(words), "{name}: {said}");
        }
        let warned: Vec<&str> = warnings(&o).iter().map(|w| w.code.name()).collect();
        assert_eq!(warned, recorded.says("warning").into_iter().collect::<Vec<_>>(), "{name}");
    }
}
