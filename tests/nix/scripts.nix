# The shell scripts in ./scripts, with store paths filled in. All but the first-stage init run by
# the target's busybox, or by another `shell`.
{
  build,
  packages,
  shell ? null,
}:
let
  # What the scripts call. The target's busybox cannot be asked for its list on the machine that builds.
  applets = [
    "sh"
    "ash"
    "awk"
    "basename"
    "cat"
    "chmod"
    "chown"
    "cmp"
    "cp"
    "cut"
    "date"
    "dirname"
    "dmesg"
    "echo"
    "env"
    "expr"
    "false"
    "find"
    "grep"
    "head"
    "hostname"
    "insmod"
    "ls"
    "mkdir"
    "mknod"
    "mktemp"
    "modprobe"
    "mount"
    "mv"
    "od"
    "poweroff"
    "printf"
    "readlink"
    "rm"
    "rmdir"
    "sed"
    "sha256sum"
    "sleep"
    "sort"
    "stat"
    "switch_root"
    "sync"
    "tail"
    "test"
    "touch"
    "tr"
    "true"
    "umount"
    "uname"
    "wc"
  ];

  targetShell = build.run {
    name = "target-shell";
    busybox = packages.byName.busybox-static;
    inherit applets;
    script = ''
      mkdir -p $out/bin
      cp $busybox/usr/bin/busybox $out/bin/busybox
      for applet in $applets; do
        ln -s busybox $out/bin/$applet
      done
    '';
  };

  usedShell = if shell == null then targetShell else shell;

  # `@name@` in the script is replaced by the value of `name`, `@shell@` by the directory of the target's tools.
  substitute =
    {
      name,
      file,
      values ? { },
    }:
    build.run (
      values
      // {
        inherit name;
        shell = usedShell;
        text = builtins.readFile file;
        passAsFile = [ "text" ];
        names = builtins.attrNames values;
        script = ''
          cp $textPath text
          for name in shell $names; do
            eval "value=\$$name"
            sed -i "s|@$name@|$value|g" text
          done
          if grep -n '@[a-zA-Z]*@' text; then
            echo "a placeholder was left in $out" >&2
            exit 1
          fi
          cp text $out
          chmod 0755 $out
        '';
      }
    );
in
{
  inherit applets substitute;
  shell = usedShell;
  initrdInit = ./scripts/initrd-init.sh;
}
