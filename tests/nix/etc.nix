# /etc of the installed system: the packages' own files, and ours over them.
{
  settings,
  layout,
  build,
  packages,
  installed,
  radio,
}:
let
  ours = build.writeTree "etc-files" (installed.files // radio.files // {
    "hostname" = "${settings.hostName}\n";
    "os-release" = ''
      NAME=NixOS
      ID=nixos
      PRETTY_NAME="NixOS ${settings.version}"
      VERSION_ID="${settings.version}"
    '';
    "hosts" = ''
      127.0.0.1 localhost
      ::1 localhost
      127.0.0.2 ${settings.hostName}
    '';
    "fstab" = builtins.concatStringsSep "" (map (line: "${line}\n") layout.fstab);
    "modules-load.d/zfs.conf" = "zfs\n";
    "nix/nix.conf" = ''
      build-users-group =
      sandbox = false
      experimental-features = nix-command
    '';
    "profile" = ''
      export PATH=/run/current-system/sw/bin:/run/current-system/sw/sbin
    '';
    "nsswitch.conf" = ''
      passwd: files
      group: files
      shadow: files
      hosts: files dns
    '';
    "resolv.conf" = "";
    "pam.d/other" = ''
      auth required pam_deny.so
      account required pam_permit.so
      password required pam_deny.so
      session required pam_permit.so
    '';

    ".copies/passwd" = ''
      root:x:0:0:System administrator:/root:/bin/bash
      messagebus:x:100:100::/nonexistent:/usr/sbin/nologin
      sshd:x:101:65534::/run/sshd:/usr/sbin/nologin
      systemd-network:x:102:102::/:/usr/sbin/nologin
      systemd-timesync:x:103:103::/:/usr/sbin/nologin
      wpa_supplicant:x:104:104::/:/usr/sbin/nologin
      nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
    '';
    ".copies/group" = ''
      root:x:0:
      daemon:x:1:
      adm:x:4:
      tty:x:5:
      disk:x:6:
      lp:x:7:
      kmem:x:15:
      dialout:x:20:
      cdrom:x:24:
      tape:x:26:
      audio:x:29:
      shadow:x:42:
      utmp:x:43:
      video:x:44:
      render:x:45:
      input:x:46:
      sgx:x:47:
      kvm:x:48:
      clock:x:49:
      users:x:50:
      systemd-journal:x:51:
      messagebus:x:100:
      systemd-network:x:102:
      systemd-timesync:x:103:
      wpa_supplicant:x:104:
      nogroup:x:65534:
    '';
    # `*` rather than `!`: no password fits, and sshd does not take the account for a locked one.
    ".copies/shadow" = ''
      root:*:1::::::
      messagebus:!:1::::::
      sshd:!:1::::::
      systemd-network:!:1::::::
      systemd-timesync:!:1::::::
      wpa_supplicant:!:1::::::
      nobody:!:1::::::
    '';
    ".copies/authorized_keys.d/root" = "${settings.authorizedKey}\n";

    "ssh/sshd_config" = ''
      HostKey /etc/ssh/ssh_host_ed25519_key
      AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u
      PasswordAuthentication no
      KbdInteractiveAuthentication no
      PermitRootLogin prohibit-password
      UsePAM no
      UseDNS no
      PrintMotd no
      Subsystem sftp /usr/lib/openssh/sftp-server
    '';
    ".directories/systemd/system/sshd.service" = ''
      [Unit]
      Description=SSH Daemon
      After=network.target

      [Service]
      Type=notify
      RuntimeDirectory=sshd
      RuntimeDirectoryMode=0755
      # The installer carries the card's key over; without it the machine must still be reachable.
      ExecStartPre=/bin/sh -c 'test -s /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
      ExecStart=/usr/sbin/sshd -D -e
      KillMode=process
      Restart=on-failure
    '';

    # The address is given out by the machine, not by the system that runs on it: the card and the SSD get the same.
    "systemd/network/10-ethernet.network" = ''
      [Match]
      Name=en* eth*

      [Network]
      DHCP=ipv4
      LLMNR=no

      [DHCPv4]
      ClientIdentifier=mac
      UseHostname=no
    '';
    # A slow machine, or one that others want too, loses time and nothing else: with systemd's 90 s a disk that comes late ends in
    # emergency mode, where nobody can reach the system.
    "systemd/system.conf.d/patience.conf" = ''
      [Manager]
      DefaultDeviceTimeoutSec=15min
      DefaultTimeoutStartSec=15min
    '';
    "systemd/journald.conf.d/console.conf" = ''
      [Journal]
      Storage=volatile
    '';
  });
in
build.run {
  name = "etc";
  packages = packages.all;
  inherit ours;
  inherit (settings) hostId;
  # Switched on by what a Debian package's maintainer script would do.
  wants = [
    "multi-user.target.wants/sshd.service"
    "multi-user.target.wants/systemd-networkd.service"
    "sockets.target.wants/systemd-networkd.socket"
    "local-fs.target.wants/zfs-mount.service"
  ]
  ++ installed.wants
  ++ radio.wants;
  # Nothing to show and nobody to log in there, tables that are built from files which do not change, and Debian's own
  # import of pools: the first stage has done that.
  masked = [
    "systemd-hwdb-update.service"
    "systemd-sysusers.service"
    "systemd-firstboot.service"
    "systemd-update-done.service"
    "systemd-journal-catalog-update.service"
    "systemd-boot-random-seed.service"
    "systemd-pcrphase.service"
    "ldconfig.service"
    "ssh.service"
    "ssh.socket"
    "zfs-import-cache.service"
    "zfs-import-scan.service"
    "getty.target"
  ];
  maskedGenerators = [
    "systemd-getty-generator"
    "systemd-gpt-auto-generator"
    "systemd-ssh-generator"
    "systemd-tpm2-generator"
    "zfs-mount-generator"
  ];
  script = ''
    mkdir $out
    for package in $packages; do
      for entry in $package/etc/*; do
        if [ -e $entry ] || [ -L $entry ]; then
          cp -rsf $entry $out/
        fi
      done
    done
    # Units that Debian switches on are none of ours; users and timers likewise.
    rm -rf $out/systemd/system $out/rc?.d $out/init.d $out/cron* $out/apt $out/dpkg
    rm -f $out/resolv.conf $out/ssh/sshd_config $out/hostname
    cd $ours
    find . -type f | while read -r file; do
      mkdir -p "$out/$(dirname "$file")"
      ln -sfn "$ours/''${file#./}" "$out/$file"
    done
    rm -f $out/resolv.conf
    ln -s /proc/self/mounts $out/mtab
    cd $out
    mkdir -p .directories/systemd/system .directories/systemd/system-generators
    for want in $wants; do
      mkdir -p .directories/systemd/system/''${want%/*}
      unit=''${want##*/}
      if [ -e .directories/systemd/system/$unit ]; then
        ln -s ../$unit .directories/systemd/system/$want
      else
        ln -s /usr/lib/systemd/system/$unit .directories/systemd/system/$want
      fi
    done
    for unit in $masked; do
      ln -s /dev/null .directories/systemd/system/$unit
    done
    for generator in $maskedGenerators; do
      ln -s /dev/null .directories/systemd/system-generators/$generator
    done
    ln -s /usr/lib/systemd/system/multi-user.target .directories/systemd/system/default.target
    printf "$(echo $hostId | sed 's/\(..\)\(..\)\(..\)\(..\)/\\x\4\\x\3\\x\2\\x\1/')" > hostid
  '';
}
