# What `nixosModules.installed` puts into a system, in the words of the units that it makes: the announcement, the trial, and the
# networks that were carried over, for wpa_supplicant.
{
  settings,
  build,
  source,
}:
let
  carried = "/etc/wpa_supplicant/cygnet-carried.conf";
in
{
  package = build.run {
    name = "cygnetd";
    agent = source "cygnetd-binary" settings.installed.agent;
    inherit (settings.installed) unit;
    passAsFile = [ "unit" ];
    script = ''
      mkdir -p $out/usr/bin $out/usr/lib/systemd/system
      cp $agent $out/usr/bin/cygnetd
      chmod 0755 $out/usr/bin/cygnetd
      cp $unitPath $out/usr/lib/systemd/system/cygnet-installed.service
    '';
  };

  files = {
    ".directories/systemd/system/cygnet-trial.service" = settings.installed.trial;
    ".directories/systemd/system/cygnet-trial-emergency.service" = settings.installed.trialEmergency;
    # The deadline is on the kernel's command line instead, so that a test can have another: an emulated start on a machine that
    # others want, too, takes its time.
    ".directories/systemd/system/cygnet-trial.service.d/deadline.conf" = ''
      [Service]
      Environment=
    '';
    ".directories/systemd/system/cygnet-carried.service" = ''
      [Unit]
      Description=Writes down the wireless networks by which this system was installed
      Before=wpa_supplicant-wlan0.service

      [Service]
      Type=oneshot
      RemainAfterExit=true
      UMask=0077
      ExecStart=/usr/bin/cygnetd carried --as wpa_supplicant --into ${carried} --owner wpa_supplicant
      CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
      NoNewPrivileges=true
      PrivateNetwork=true
      ProtectHome=true
      LimitCORE=0
    '';
    # As a user of its own, as NixOS has it.
    ".directories/systemd/system/wpa_supplicant-wlan0.service" = ''
      [Unit]
      Description=WPA supplicant of wlan0
      Wants=network.target
      Before=network.target
      After=cygnet-rig-air.service
      ConditionPathExists=/sys/class/net/wlan0

      [Service]
      User=wpa_supplicant
      Group=wpa_supplicant
      AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW
      CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW
      ExecStart=/usr/sbin/wpa_supplicant -D nl80211 -i wlan0 -c ${carried}
      Restart=on-failure
      RestartSec=2
    '';
    "systemd/network/20-radio.network" = ''
      [Match]
      Name=wlan0

      [Network]
      DHCP=ipv4
      LLMNR=no

      [DHCPv4]
      ClientIdentifier=mac
      UseHostname=no
    '';
  };

  wants = [
    "multi-user.target.wants/cygnet-carried.service"
    "multi-user.target.wants/cygnet-installed.service"
    "sysinit.target.wants/cygnet-trial.service"
    "emergency.target.wants/cygnet-trial-emergency.service"
    "multi-user.target.wants/wpa_supplicant-wlan0.service"
  ];
}
