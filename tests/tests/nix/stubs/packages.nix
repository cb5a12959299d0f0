# Packages that are but names, and builders that tell what they were given.
{
  lib,
  system ? "aarch64-linux",
}:
let
  place = name: "${builtins.storeDir}/00000000000000000000000000000000-${name}";
  package = name: {
    type = "derivation";
    inherit name;
    outPath = place name;
    drvPath = place "${name}.drv";
  };
  platform = isStatic: {
    inherit system isStatic;
    isLinux = lib.hasSuffix "linux" system;
    isAarch64 = lib.hasPrefix "aarch64" system;
    canExecute = _: true;
  };
  kernel = version: broken: {
    kernel = package "linux" // {
      inherit version;
    };
    zfs_2_4 = package "zfs-kernel" // {
      meta = { inherit broken; };
    };
  };
  set =
    isStatic:
    let
      pkgs =
        lib.genAttrs [
          "bash"
          "bcachefs-tools"
          "btrfs-progs"
          "coreutils"
          "cryptsetup"
          "curl"
          "dosfstools"
          "e2fsprogs"
          "exfatprogs"
          "f2fs-tools"
          "gptfdisk"
          "installShellFiles"
          "jq"
          "kmod"
          "lvm2"
          "mdadm"
          "nix"
          "nixfmt"
          "nixfmt-tree"
          "ntfs3g"
          "openssh"
          "parted"
          "qemu"
          "rustup"
          "smartmontools"
          "sqlite"
          "systemd"
          "util-linux"
          "wpa_supplicant"
          "xfsprogs"
        ] package
        // {
          inherit lib;
          stdenv = {
            hostPlatform = platform isStatic;
            buildPlatform = platform false;
          };
          zfs = package "zfs" // {
            kernelModuleAttribute = "zfs_2_4";
          };
          linuxKernel.packages = {
            linux_6_12 = kernel "6.12.40" false;
            linux_6_19 = kernel "6.19.1" true;
          };
          writeText = name: text: package name // { inherit text; };
          writeTextDir = path: text: package (baseNameOf path) // { inherit text; };
          runCommand = name: _: _: package name;
          mkShell = _: package "shell";
          rustPlatform.buildRustPackage = arguments: package arguments.pname // { inherit arguments; };
          callPackage =
            path: more:
            let
              function = import path;
            in
            function (builtins.intersectAttrs (builtins.functionArgs function) pkgs // more);
          pkgsStatic = set true;
          pkgsCross.aarch64-multiplatform-musl = set false;
        };
    in
    pkgs;
in
set false
