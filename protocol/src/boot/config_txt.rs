//! Which program a card's firmware starts, as its `config.txt` says.
//!
//! Source: raspberrypi/documentation, config_txt/conditional.adoc and boot.adoc. `include` is not followed, and conditions on
//! other things than the model (`[EDID=…]`, `[gpio…]`, a serial number) do not count as met: then no kernel is found, and a
//! card whose U-Boot is not found has no switch, which is safe.

/// The longest `config.txt` that is read, bytes.
pub const MOST: usize = 64 * 1024;

/// The name that 64-bit firmware looks for if nothing is said.
const DEFAULT: &str = "kernel8.img";

/// The file that the firmware of this board starts, or nothing if it is not one at the top of the partition.
#[must_use]
pub fn kernel(text: &str, model: &str) -> Option<String> {
    let (mut applies, mut kernel) = (true, DEFAULT);
    for line in text.lines().map(str::trim) {
        if let Some(filter) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            applies = meets(filter.trim(), model);
        } else if let Some((key, value)) = line.split_once('=')
            && applies
            && key.trim() == "kernel"
        {
            kernel = value.trim();
        }
    }
    let plain = !kernel.is_empty()
        && kernel.len() <= 64
        && kernel.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
        && !kernel.starts_with('.');
    plain.then(|| kernel.to_owned())
}

/// Whether the model is one that a filter means.
fn meets(filter: &str, model: &str) -> bool {
    let name = model.strip_prefix("Raspberry Pi ").unwrap_or(model);
    let is =
        |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '+']));
    match filter.to_ascii_lowercase().as_str() {
        "all" => true,
        "pi2" => is("2"),
        // conditional.adoc: [pi3] is met by 3B, 3B+, 3A+ and the Compute Module 3, too; [pi02] by the Zero 2 W.
        "pi3" => is("3") || is("Compute Module 3"),
        "pi3+" => is("3 Model A Plus") || is("3 Model B Plus"),
        "pi02" => is("Zero 2"),
        "pi0" | "pi0w" => is("Zero") || is("Zero W") || is("Zero 2"),
        "pi4" => is("4") || is("400") || is("Compute Module 4") || is("Compute Module 4S"),
        "pi400" => is("400"),
        "cm4" => is("Compute Module 4"),
        "cm4s" => is("Compute Module 4S"),
        "pi5" => is("5") || is("500") || is("Compute Module 5"),
        "pi500" => is("500"),
        "cm5" => is("Compute Module 5"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIXPKGS: &str = "[pi3]\nkernel=u-boot-rpi3.bin\n\n[pi02]\nkernel=u-boot-rpi3.bin\n\n[pi4]\nkernel=u-boot-rpi4.bin\n\
        enable_gic=1\n\n[cm4]\notg_mode=1\n\n[all]\narm_64bit=1\nenable_uart=1\n";

    #[test]
    fn each_board_starts_its_own() {
        for (model, expected) in [
            ("Raspberry Pi 3 Model B Plus Rev 1.3", "u-boot-rpi3.bin"),
            ("Raspberry Pi Zero 2 W Rev 1.0", "u-boot-rpi3.bin"),
            ("Raspberry Pi 4 Model B Rev 1.5", "u-boot-rpi4.bin"),
            ("Raspberry Pi 400 Rev 1.0", "u-boot-rpi4.bin"),
            ("Raspberry Pi Compute Module 4 Rev 1.1", "u-boot-rpi4.bin"),
            ("Raspberry Pi 5 Model B Rev 1.0", "kernel8.img"),
        ] {
            assert_eq!(kernel(NIXPKGS, model).as_deref(), Some(expected), "{model}");
        }
        assert_eq!(kernel("", "Raspberry Pi 3 Model B").as_deref(), Some("kernel8.img"));
    }

    #[test]
    fn a_condition_that_is_not_known_is_not_met() {
        let of = |text: &str| kernel(text, "Raspberry Pi 4 Model B Rev 1.5");
        assert_eq!(of("kernel=a.bin\n[EDID=X]\nkernel=b.bin\n[all]\n").as_deref(), Some("a.bin"));
        assert_eq!(of("[none]\nkernel=b.bin\r\n[ALL]\r\nkernel = c.bin\r\n").as_deref(), Some("c.bin"));
        for bad in ["kernel=../x", "kernel=a/b", "kernel=", "kernel=.hidden", "kernel=é"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
