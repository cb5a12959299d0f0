//! Nix's `builders`: the machines that it can have something built on. Pure.
//!
//! The form is nix.conf(5)'s: a machine on each line or between semicolons, its words being URI, systems, key, jobs, speed,
//! features, mandatory features; `-` stands for the default. `@FILE` is such a list in a file.

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// `ssh-ng://builder@host`, or only `host`.
    pub uri: String,
    /// What it builds for; empty stands for what this machine is.
    pub systems: Vec<String>,
}

impl Machine {
    /// Whether this is nixpkgs' virtual machine for macOS, which listens on this very machine.
    pub fn is_linux_builder(&self) -> bool {
        self.uri.contains("linux-builder")
    }
}

/// The machines in the text of the setting or of a file.
pub fn parse(text: &str) -> Vec<Machine> {
    text.split(['\n', ';'])
        .map(|line| line.split('#').next().unwrap_or_default())
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let uri = words.next().filter(|uri| !uri.starts_with('@'))?;
            let systems = words.next().filter(|systems| *systems != "-").unwrap_or_default();
            let systems = systems.split(',').filter(|system| !system.is_empty()).map(ToOwned::to_owned).collect();
            Some(Machine { uri: uri.to_owned(), systems })
        })
        .collect()
}

/// The files that the setting names.
pub fn files(text: &str) -> Vec<&str> {
    text.split(['\n', ';']).filter_map(|line| line.trim().strip_prefix('@')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_read_as_nix_does() {
        let text = "# mine\nssh-ng://builder@linux-builder aarch64-linux,x86_64-linux /etc/nix/key 4 - kvm - -\n\
                    nas - ; pi4 aarch64-linux # slow\n@/etc/nix/machines";
        let machines = parse(text);
        assert_eq!(machines.len(), 3);
        assert!(machines[0].is_linux_builder() && machines[0].systems == ["aarch64-linux", "x86_64-linux"]);
        assert_eq!(machines[1], Machine { uri: "nas".into(), systems: Vec::new() });
        assert_eq!(machines[2].systems, ["aarch64-linux"]);
        assert_eq!(files(text), ["/etc/nix/machines"]);
        assert_eq!(parse(""), []);
    }
}
