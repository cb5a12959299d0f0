# Toplevels of a few store paths: accepted by an installer, quick to push, and broken in one way each.
{
  settings,
  layout,
  build,
  scripts,
  buildersScripts,
  toplevel,
  variety,
}:
let
  # Enough for a boot loader to copy; nothing that boots.
  image = build.run {
    name = "linux-none";
    script = ''
      mkdir $out
      seq 1 20000 > $out/Image
    '';
  };
  initrd = build.run {
    name = "initrd-none";
    script = ''
      mkdir $out
      seq 1 10000 | gzip > $out/initrd
    '';
  };
  modules = build.run {
    name = "linux-none-modules";
    script = ''
      mkdir -p $out/lib/modules
    '';
  };

  # `bash` and `systemd-tmpfiles` are called by installers under these names.
  swOf = shell: build.run {
    name = "system-path-tiny";
    inherit shell;
    script = ''
      mkdir -p $out/bin
      for tool in $shell/bin/*; do
        ln -s $tool $out/bin/
      done
      printf '#!%s/bin/sh\nexec %s/bin/sh "$@"\n' $shell $shell > $out/bin/bash
      printf '#!%s/bin/sh\nexit 0\n' $shell > $out/bin/systemd-tmpfiles
      chmod 0755 $out/bin/bash $out/bin/systemd-tmpfiles
    '';
  };
  # Without a table of file systems these fit any layout.
  etcOf =
    {
      hostId ? settings.hostId,
      fstab ? [ ],
    }:
    build.run {
      name = "etc-tiny";
      inherit hostId;
      fstab = builtins.concatStringsSep "" (map (line: "${line}\\n") fstab);
      inherit (settings) hostName;
      script = ''
        mkdir $out
        echo "$hostName" > $out/hostname
        if [ -n "$hostId" ]; then
          printf "$(echo $hostId | sed 's/\(..\)\(..\)\(..\)\(..\)/\\x\4\\x\3\\x\2\\x\1/')" > $out/hostid
        fi
        if [ -n "$fstab" ]; then
          printf "$fstab" > $out/fstab
        fi
      '';
    };
  etc = etcOf { };

  # Too much for a small disk, and nothing a compressing file system could shrink.
  huge = build.run {
    name = "incompressible";
    script = ''
      mkdir $out
      for part in 1 2 3 4 5 6; do
        head -c 100000000 /dev/urandom > $out/part-$part
      done
    '';
  };

  # Long enough to be gone on with in its middle, more than once; most of it is one file.
  long = build.run {
    name = "incompressible-long";
    script = ''
      mkdir $out
      head -c 10000000 /dev/urandom > $out/first
      head -c 220000000 /dev/urandom > $out/long
      head -c 10000000 /dev/urandom > $out/last
    '';
  };

  # The same for every host, but for a line in the middle.
  twin = build.run {
    name = "twin";
    inherit (settings) hostName;
    script = ''
      mkdir $out
      (seq 1 300000; echo $hostName; seq 300001 600000) > $out/numbers
    '';
  };

  make =
    name: changes:
    toplevel (
      {
        name = "nixos-system-${settings.hostName}-${name}";
        inherit
          scripts
          image
          modules
          initrd
          etc
          ;
        sw = swOf scripts.shell;
        activate = "activate-tiny.sh";
        bootLoader = "extlinux.sh";
        system = "aarch64-linux";
        extraDependencies = [ variety.names ];
      }
      // changes
    );
in
{
  tiny = make "tiny" { };
  tinyActivationFails = make "tiny-activation-fails" { activate = "activate-fails.sh"; };
  tinyBootLoaderFails = make "tiny-boot-loader-fails" { bootLoader = "boot-loader-fails.sh"; };
  tinyWrongArchitecture = make "tiny-wrong-architecture" {
    scripts = buildersScripts;
    sw = swOf buildersScripts.shell;
    system = "x86_64-linux";
  };
  tinyHuge = make "tiny-huge" { extraDependencies = [ huge ]; };
  tinyLong = make "tiny-long" { extraDependencies = [ long ]; };
  tinyTwin = make "tiny-twin" { extraDependencies = [ twin ]; };
  tinyNoHostId = make "tiny-no-host-id" { etc = etcOf { hostId = ""; }; };
  tinyOtherDisks = make "tiny-other-disks" {
    etc = etcOf {
      fstab = layout.fstab ++ [ "/dev/disk/by-partlabel/disk-ssd-data /data ext4 defaults 0 2" ];
    };
  };
}
