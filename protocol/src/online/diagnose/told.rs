//! How each fault is told from the others, for the documentation.

use crate::online::diagnosis::Code;

/// What is seen with this fault, and with no other.
pub const fn apart(code: Code) -> &'static str {
    match code {
        Code::NoSdio => {
            "The board has its chip on SDIO, no device is on any SDIO bus after 10 s, and the kernel says nothing of a hanging controller."
        }
        Code::SdioStuck => {
            "The kernel says `Controller never released inhibit bit(s)` or an error whilst initialising the SDIO card, and found no card since."
        }
        Code::UnderVoltage => {
            "hwmon's `rpi_volt` raises its alarm, or the kernel said `Undervoltage detected!` since the driver was loaded. With a chip that fails it is the diagnosis, with one that works a warning. It never explains a missing file."
        }
        Code::NoModule => "No `brcmfmac` is among the kernel's modules.",
        Code::NoVendorModule => {
            "The kernel says `brcmf_fwvid_request_module: mod=…: failed`, or no vendor's module is in the image and nothing else explains the missing interface."
        }
        Code::NotLoaded => "The module is in the image, and 10 s later still not in the kernel.",
        Code::NoFirmware => {
            "The kernel did not find `<base>.bin` or `<base>.txt`, and no version of the firmware was said since. That the board's own file (`<base>.raspberrypi,4-model-b.bin`) or the CLM blob is missing is normal."
        }
        Code::Nvram => {
            "The driver says that the CLM or NVRAM file failed, the voltage was never low, and the firmware did not start since."
        }
        Code::FirmwareDead => {
            "The files are there, but the driver says `HT Avail timeout`, `brcmf_attach failed`, `firmware halted` or the like, and the radio did not scan since."
        }
        Code::NoInterface => "No wireless interface after 15 s, and none of the faults above.",
        Code::RfkillSoft => "`/sys/class/rfkill`: a switch of type wlan has `soft` 1 and `hard` 0.",
        Code::RfkillHard => "`/sys/class/rfkill`: a switch of type wlan has `hard` 1.",
        Code::NoCountry => "The settings have no country, and the kernel's regulatory domain is the world's (`00`).",
        Code::NoRegulatoryDatabase => {
            "A country is set, the kernel's regulatory domain is still `00`, and the kernel said that it did not load regulatory.db."
        }
        Code::NoSupplicant => "Neither D-Bus nor a control socket has a wpa_supplicant, and it cannot be started.",
        Code::InterfaceTaken => {
            "wpa_supplicant answers that the interface is taken, or another program is seen to manage it."
        }
        Code::NoNetworks => "The list of networks is empty, and no cable has somebody at its other end.",
        Code::NotSeen => {
            "Two scans (or 12 s) without any of the networks given. What the radio hears instead, a name that differs only by capitals, a missing band or country are part of the words."
        }
        Code::WrongBand => {
            "The network's channels are in a band that the radio lacks; or it is not seen, and one of nearly the same name says that it has a sibling there, or our name ends in `5G`."
        }
        Code::ScanFailed => "Three scans failed and fewer succeeded, or none finished within 30 s.",
        Code::SaeOnly => {
            "All access points of that name list `sae` and no `psk`, and the settings have a 64-digit key. wpa_supplicant says nothing in this case."
        }
        Code::NoSae => {
            "All access points of that name list `sae` and no `psk`, the settings have a passphrase, and wpa_supplicant's capabilities for the interface have no `sae`."
        }
        Code::H2eOnly => {
            "Like W09-NO-SAE, but SAE can be done: the access point has BSS membership selector 123, and SaePwe is 0."
        }
        Code::KeyManagement => {
            "The access point is open and a key was given, or the other way round; or it takes `wpa-eap` or `owe` only; or it refuses with status 31 or 40 to 46."
        }
        Code::WrongSaePassword => "Signal SaePasswordMismatch, or authentication status 15.",
        Code::ApFull => "Authentication or association status 17.",
        Code::Refused => {
            "Authentication or association is refused with status 1 or another that none of the other codes explains."
        }
        Code::NoAnswer => {
            "Authentication or association timed out twice, or the firmware reports status 16, or for 45 s nothing was said at all; without any refusal, and the kinds of key do fit."
        }
        Code::ApVanished => {
            "A connection was lost and its access point is not seen any more, or said that it is leaving (reason 3), or fell silent (reason 4)."
        }
        Code::Deauthenticated => {
            "A connection was lost for another reason, the access point is still seen, and 5 s later we are not in again."
        }
        Code::WrongPassphrase => "Signal PskMismatch.",
        Code::HandshakeTimeout => {
            "The 4-way handshake began at least twice, it ended with reason 2 or 15 or none, and no PskMismatch was signalled."
        }
        Code::NoCarrier => "The board has no WiFi, no networks were given, and no cable has somebody at its other end.",
        Code::NoDhcp => {
            "Connected for 12 s, and no address but those of the link (fe80::, 169.254). A slow server's address ends it by itself."
        }
        Code::NoGateway => "There is an address and no default route 15 s later.",
        Code::GatewaySilent => "There is a default route, and the neighbour entry of its gateway has failed.",
        Code::NoResolver => "There is an address and a gateway, but no resolver.",
        Code::ClockBeforeBuild => "The clock is earlier than the agent's own making, 30 s after it started.",
        Code::Isolated => {
            "Announced for two minutes, asked for other machines by multicast, and none of anybody's was heard."
        }
        Code::Unknown => "The other end is newer than this program.",
    }
}
