# The choice of the kernel, from made-up sets.
{ lib, newest }:
let
  set = version: broken: {
    kernel = { inherit version; };
    zfs_2_4.meta = { inherit broken; };
  };
  choose =
    kernels:
    let
      chosen = builtins.tryEval (
        (newest {
          inherit kernels;
          zfs = "zfs_2_4";
        }).kernel.version
      );
    in
    if chosen.success then chosen.value else "none";
in
{
  newest = choose {
    linux_6_1 = set "6.1.150" false;
    # As text 6.9 would be the newer one.
    linux_6_12 = set "6.12.40" false;
    linux_6_9 = set "6.9.1" false;
  };
  unsupported = choose {
    linux_6_12 = set "6.12.40" false;
    linux_6_19 = set "6.19.1" true;
  };
  others = choose {
    linux_6_6 = set "6.6.9" false;
    linux_latest = set "6.19.1" false;
    linux_hardened = set "6.19.1" false;
    linux_rpi4 = set "6.19.1" false;
    linux_6_18_hardened = set "6.18.1" false;
  };
  removed = choose {
    linux_6_6 = set "6.6.9" false;
    linux_6_10 = throw "linux 6.10 was removed because it has reached its end of life";
    linux_6_11.kernel.version = "6.11.1";
  };
  none = choose { linux_6_19 = set "6.19.1" true; };
}
