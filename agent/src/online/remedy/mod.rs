//! What is done to the driver and the chip when they do not work.
//!
//! All of it ends: [`deadline`] leaves behind what hangs in the kernel. [`features`] finds the bits of what the firmware does
//! badly, [`rebind`] the SDIO controller.

pub mod deadline;
pub mod features;
pub mod rebind;

use super::hardware::{Sys, modules};
use deadline::{Lane, LaneError};
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// How long one remedy may take; brcmfmac waits 2.5 s at a time for firmware that does not answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long one run of modprobe may take.
const MODPROBE: Duration = Duration::from_secs(12);
/// How often a child is looked after.
const LOOK: Duration = Duration::from_millis(50);
/// How long a killed child may take to end.
const MERCY: Duration = Duration::from_secs(1);
/// The most that is read of what modprobe says, bytes.
const SAID: u64 = 4096;

/// One remedy at a time, whoever asks.
static LANE: LazyLock<Lane> = LazyLock::new(Lane::default);

/// Why a remedy did not work.
#[derive(Debug, thiserror::Error)]
pub enum RemedyError {
    /// modprobe could not be started.
    #[error("starting modprobe: {0}")]
    Start(io::Error),
    /// It said no.
    #[error("modprobe {module} ended with {status}: {said}")]
    Modprobe {
        /// Which module.
        module: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        said: String,
    },
    /// It hangs in the kernel.
    #[error("modprobe {module} has not ended within {seconds} s, which means that the driver hangs")]
    ModprobeHangs {
        /// Which module.
        module: String,
        /// The deadline.
        seconds: u64,
    },
    /// The SDIO controller.
    #[error(transparent)]
    Rebind(#[from] rebind::RebindError),
    /// All of it together took too long.
    #[error(transparent)]
    Hangs(#[from] LaneError),
}

/// Loads a driver; of brcmfmac the vendors' parts too, which are in nobody's list of dependencies.
pub async fn load_driver(driver: &str) -> Result<(), RemedyError> {
    let driver = driver.to_owned();
    let what = format!("loading {driver}");
    LANE.run(&what, DEADLINE, move || load(&driver, &[])).await?
}

/// Unloads brcmfmac and loads it again without roaming and without those of its features that are known for trouble, as far
/// as they can be told.
pub async fn reload_driver() -> Result<(), RemedyError> {
    let work = || {
        let sys = Sys::default();
        // Nobody knows which bit is which once it is unloaded.
        let disable = feature_disable(&sys);
        for module in modules::VENDORS.iter().chain(&[modules::DRIVER]) {
            if modules::loaded(&sys, module) {
                modprobe(&["-r", module], module)?;
            }
        }
        let mut parameters = vec!["roamoff=1".to_owned()];
        parameters.extend(disable.map(|mask| format!("feature_disable={mask:#x}")));
        load(modules::DRIVER, &parameters)
    };
    LANE.run("loading brcmfmac again", DEADLINE, work).await?
}

/// Unbinds the chip's SDIO controller and binds it again.
pub async fn rebind_sdio(sys: &Sys) -> Result<(), RemedyError> {
    let sys = sys.clone();
    let work = move || rebind::find(&sys).and_then(|controller| rebind::rebind(&controller));
    Ok(LANE.run("rebinding the SDIO controller", DEADLINE, work).await??)
}

/// The mask of the features to go without, of the first radio that tells.
fn feature_disable(sys: &Sys) -> Option<u32> {
    let base = "sys/kernel/debug/ieee80211";
    let texts = sys.names(base).into_iter().filter_map(|phy| sys.text(format!("{base}/{phy}/features")));
    texts.filter_map(|text| features::mask(&text, features::TROUBLE)).next().filter(|mask| *mask != 0)
}

fn load(driver: &str, parameters: &[String]) -> Result<(), RemedyError> {
    let mut arguments = vec![driver];
    arguments.extend(parameters.iter().map(String::as_str));
    // First the driver: as a dependency of a vendor's part it would come without its parameters.
    modprobe(&arguments, driver)?;
    if driver == modules::DRIVER {
        for vendor in modules::VENDORS {
            // Older kernels have none, images often one. That a needed one is missing is seen in sysfs.
            if let Err(error) = modprobe(&["-q", vendor], vendor) {
                tracing::debug!("{error}");
            }
        }
    }
    Ok(())
}

/// Runs modprobe(8); NixOS's knows where the modules of the booted system are.
fn modprobe(arguments: &[&str], module: &str) -> Result<(), RemedyError> {
    let mut command = crate::run::command("modprobe");
    command.args(arguments);
    supervise(command, module, MODPROBE)
}

fn supervise(mut command: Command, module: &str, limit: Duration) -> Result<(), RemedyError> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(RemedyError::Start)?;
    let Some(status) = wait(&mut child, limit).map_err(RemedyError::Start)? else {
        // One that is stuck in the kernel ends when the kernel lets it, and is a zombie then, as long as we live.
        let _ = child.kill();
        let _ = wait(&mut child, MERCY);
        return Err(RemedyError::ModprobeHangs { module: module.to_owned(), seconds: limit.as_secs() });
    };
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // Nobody holds the other end any more, unless modprobe started something; what is there is enough.
        let _ = stderr.take(SAID).read_to_end(&mut said);
    }
    let said = said.split(|octet| *octet == b'\n').map(crate::run::printable).filter(|line| !line.is_empty());
    let said = said.collect::<Vec<_>>().join(" | ");
    Err(RemedyError::Modprobe { module: module.to_owned(), status, said })
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::super::hardware::tree::Tree;
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = crate::run::command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_refusal_is_told_in_modprobes_words_and_a_hang_ends() {
        supervise(sh("exit 0"), "x", DEADLINE).unwrap();
        let error = supervise(sh("echo 'FATAL: Module x not found.' >&2; exit 1"), "x", DEADLINE).unwrap_err();
        assert_eq!(error.to_string(), "modprobe x ended with exit status: 1: FATAL: Module x not found.");
        let begin = Instant::now();
        let error = supervise(sh("exec sleep 600"), "x", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, RemedyError::ModprobeHangs { .. }), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(300));
        let error = supervise(crate::run::command("modprobe.imaginary"), "x", DEADLINE).unwrap_err();
        assert!(matches!(error, RemedyError::Start(_)), "{error}");
    }

    #[test]
    fn features_are_read_of_the_radio_that_has_them() {
        let tree = Tree::pi_4();
        assert_eq!(feature_disable(&tree.sys), None);
        tree.dir("sys/kernel/debug/ieee80211/phy0");
        tree.write("sys/kernel/debug/ieee80211/phy1/features", "Features: 00082000\n\tFWSUP\n\tSAE\n\nQuirks:   0\n");
        assert_eq!(feature_disable(&tree.sys), Some(0x82000));
        tree.write("sys/kernel/debug/ieee80211/phy1/features", "Features: 00000001\n\tMBSS\n\nQuirks:   0\n");
        assert_eq!(feature_disable(&tree.sys), None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_tree_without_a_chip_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let error = rebind_sdio(&Sys { root: dir.path().into() }).await.unwrap_err();
        assert_eq!(error.to_string(), "no SDIO controller with a WiFi chip was found");
    }

    #[tokio::test(flavor = "current_thread")]
    #[ignore = "loads kernel modules: run in the virtual Pi"]
    async fn brcmfmac_is_loaded_and_loaded_again() {
        let sys = Sys::default();
        load_driver(modules::DRIVER).await.unwrap();
        assert!(modules::loaded(&sys, modules::DRIVER) && modules::loaded(&sys, "brcmfmac_wcc"));
        reload_driver().await.unwrap();
        let roamoff = sys.text("sys/module/brcmfmac/parameters/roamoff");
        assert!(modules::loaded(&sys, modules::DRIVER));
        assert_eq!(roamoff.as_deref(), Some("1"));
        let error = load_driver("nonesuch").await.unwrap_err().to_string();
        assert!(error.contains("nonesuch") && error.contains("not found"), "{error}");
    }
}
