# The test rig's simulated radio in the installed system, where the virtual machine has the rig's line; elsewhere it stays out
# of the way, and the machine has its cable.
{
  settings,
  build,
}:
let
  programs = build.writeTree "rig-programs" settings.installed.rig;
  # Of virtio's kinds of devices the third is a console (virtio 1.2, section 5); that is how the line to the rig looks.
  condition = "ExecCondition=/bin/sh -c 'grep -qsx 0x0003 /sys/bus/virtio/devices/*/device'";
in
{
  package = build.run {
    name = "test-rig";
    inherit programs;
    script = ''
      mkdir -p $out/usr/lib/cygnet-rig
      cp $programs/* $out/usr/lib/cygnet-rig/
      chmod 0755 $out/usr/lib/cygnet-rig/*
    '';
  };

  files = {
    ".directories/systemd/system/cygnet-rig.service" = ''
      [Unit]
      Description=Test rig: commands over a virtio-serial port
      DefaultDependencies=no
      After=systemd-udev-trigger.service
      # The port comes when its driver does.
      StartLimitIntervalSec=0

      [Service]
      ${condition}
      ExecStart=/usr/lib/cygnet-rig/rigd
      KillMode=process
      Restart=on-failure
      RestartSec=1
      StandardOutput=journal+console
      StandardError=journal+console
    '';
    ".directories/systemd/system/cygnet-rig-air.service" = ''
      [Unit]
      Description=Test rig: simulated air in the place of the cable
      DefaultDependencies=no
      Wants=network-pre.target
      Before=network-pre.target systemd-networkd.service
      After=systemd-udev-trigger.service systemd-modules-load.service

      [Service]
      Type=oneshot
      RemainAfterExit=yes
      KillMode=process
      ${condition}
      ExecStart=/usr/lib/cygnet-rig/air
      StandardOutput=journal+console
      StandardError=journal+console
    '';
  };

  wants = [
    "sysinit.target.wants/cygnet-rig.service"
    "sysinit.target.wants/cygnet-rig-air.service"
  ];
}
