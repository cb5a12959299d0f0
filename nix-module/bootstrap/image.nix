# The image itself.
{ lib, ... }:
let
  preset = lib.mkOverride 900;
in
{
  # 30 MiB are all but full with the firmware; cygnet.toml and REPORT.TXT are there, too.
  sdImage.firmwareSize = preset 128;
  image.baseName = preset "cygnet-aarch64";
}
