# How the machine gets online: networkd for addresses, our own unit of wpa_supplicant, and nobody else on the radio.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.cygnet;
  # Before what a profile presets, behind what a person writes.
  preset = lib.mkOverride 900;
  # Root, and nobody else, may have wpa_supplicant's name on the bus and speak to it. Its own package has more than this: a file
  # by which a call to that name starts a wpa_supplicant that is not ours.
  policy = pkgs.writeTextDir "share/dbus-1/system.d/cygnet-supplicant.conf" ''
    <!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
      "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
    <busconfig>
      <policy user="root">
        <allow own="fi.w1.wpa_supplicant1"/>
        <allow send_destination="fi.w1.wpa_supplicant1"/>
      </policy>
      <policy context="default">
        <deny own="fi.w1.wpa_supplicant1"/>
        <deny send_destination="fi.w1.wpa_supplicant1"/>
      </policy>
    </busconfig>
  '';
  unit = name: {
    name = "systemd/network/${name}";
    value.source = "${cfg.package}/lib/systemd/network/${name}";
  };
in
{
  config = lib.mkIf cfg.enable {
    networking.useNetworkd = preset true;
    networking.useDHCP = preset false;
    networking.wireless.enable = preset false;
    # Nothing here needs the network to be there; a Pi in a cupboard that waits for it is a Pi that does not start.
    systemd.network.wait-online.enable = preset false;
    environment.etc =
      lib.listToAttrs (
        map unit [
          "80-cygnet-wifi.network"
          "80-cygnet-wired.network"
        ]
      )
      // {
        # The agent is the only one who answers mDNS: two on one machine take each other for a stranger.
        "systemd/resolved.conf.d/cygnet.conf".text = ''
          [Resolve]
          MulticastDNS=no
          LLMNR=no
        '';
      };
    services.resolved.enable = preset true;
    networking.firewall.allowedUDPPorts = lib.mkIf cfg.openFirewall [ 5353 ];

    # cygnet-supplicant.service names the program only; this is where it is.
    systemd.services.cygnet-supplicant.serviceConfig.ExecSearchPath = "${pkgs.wpa_supplicant}/bin";
    services.dbus.packages = [ policy ];
    hardware.wirelessRegulatoryDatabase = preset true;

    assertions = [
      {
        assertion = !config.networking.networkmanager.enable;
        message = ''
          services.cygnet: NetworkManager and the agent would both take the radio.
          Set networking.networkmanager.enable = false; the agent brings wpa_supplicant and systemd-networkd with it.
        '';
      }
      {
        assertion = !config.networking.wireless.enable && !config.networking.wireless.iwd.enable;
        message = ''
          services.cygnet: networking.wireless (wpa_supplicant or iwd) and the agent would both take the radio.
          Set networking.wireless.enable and networking.wireless.iwd.enable to false, and move its networks to
          services.cygnet.networks or onto the card with `cygnet card configure`.
        '';
      }
      {
        assertion = !config.services.avahi.enable;
        message = ''
          services.cygnet: Avahi and the agent would both answer mDNS, and each would rename itself because of the other.
          Set services.avahi.enable = false; the agent announces the machine and its ssh by itself.
        '';
      }
      {
        assertion = config.networking.useNetworkd;
        message = ''
          services.cygnet: without systemd-networkd nobody asks for an address.
          Leave networking.useNetworkd at true.
        '';
      }
    ];
  };
}
