# /etc/cygnet/settings.json. Without secrets it is a plain file; with them it is put together at boot, in memory, for root only.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.cygnet;

  name = network: if network.ssid == "" then "(no name)" else network.ssid;
  withFile = builtins.filter (network: network.passphraseFile != null) cfg.networks;
  plain = builtins.filter (network: network.passphraseFile == null) cfg.networks;

  written =
    network:
    {
      inherit (network) ssid priority hidden;
    }
    // lib.optionalAttrs network.open { open = true; };
  settings = networks: {
    inherit networks;
    console = { inherit (cfg.console) devices shell; };
  }
  // lib.optionalAttrs (cfg.country != null) { inherit (cfg) country; };
  base = pkgs.writeText "cygnet-settings.json" (builtins.toJSON (settings (map written plain)));

  runtime = "/run/cygnet-settings/settings.json";
  # A network whose file is not there yet must not take the others with it.
  add = network: ''
    if [ -r ${lib.escapeShellArg network.passphraseFile} ]; then
      jq --argjson network ${lib.escapeShellArg (builtins.toJSON (written network))} \
        --rawfile secret ${lib.escapeShellArg network.passphraseFile} \
        '($secret | split("\n")[0] | rtrimstr("\r")) as $key | .networks += [ $network + { passphrase: $key } ]' \
        "$all" > "$all.new"
      mv "$all.new" "$all"
    else
      echo ${lib.escapeShellArg "warning: ${network.passphraseFile} can't be read; “${name network}” is left out"} >&2
    fi
  '';

  inStore = network: lib.hasPrefix builtins.storeDir (toString network.passphraseFile);
  each = message: networks: {
    assertion = networks == [ ];
    message = message (lib.concatMapStringsSep ", " (network: "“${name network}”") networks);
  };
  ways = network: lib.count (way: way) [
    network.open
    (network.passphraseFile != null)
  ];
in
{
  config = lib.mkIf cfg.enable {
    environment.etc."cygnet/settings.json".source = if withFile == [ ] then base else runtime;

    systemd.services.cygnet-settings = lib.mkIf (withFile != [ ]) {
      description = "Puts cygnet's settings and the passphrases together";
      wantedBy = [ "cygnetd.service" ];
      before = [ "cygnetd.service" ];
      path = [ pkgs.jq ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        RuntimeDirectory = "cygnet-settings";
        RuntimeDirectoryMode = "0700";
        UMask = "0077";
      };
      # The passphrases are in files all the way: neither in an argument nor in the environment.
      script = ''
        set -eu
        all=${runtime}.part
        cat ${base} > "$all"
        ${lib.concatMapStrings add withFile}
        mv "$all" ${runtime}
      '';
    };

    assertions = [
      (each (names: ''
        services.cygnet.networks: the passphrase of ${names} would be in the Nix store, which everybody on the machine and
        everybody with a copy of the image can read. Remove `passphrase`, and either name a file on the machine with
        `passphraseFile`, or give it to the card: cygnet card configure DEVICE --network SSID.
      '') (builtins.filter (network: network.passphrase != null) cfg.networks))
      (each (names: ''
        services.cygnet.networks: the passphraseFile of ${names} is in the Nix store, which everybody can read.
        Write it as a string, "/run/secrets/…", not as a path of Nix, and have agenix or sops-nix make the file.
      '') (builtins.filter (network: network.passphraseFile != null && inStore network) cfg.networks))
      (each (names: ''
        services.cygnet.networks: ${names} needs just one of `open = true` and `passphraseFile`.
        A network whose passphrase `cygnet card configure` puts on the card is not named here at all.
      '') (builtins.filter (network: network.passphrase == null && ways network != 1) cfg.networks))
      (each (names: ''
        services.cygnet.networks: the name ${names} has not 1 to 32 octets, as every network's has.
        Write the SSID as the access point tells it.
      '') (
        builtins.filter (network: network.ssid == "" || builtins.stringLength network.ssid > 32) cfg.networks
      ))
      {
        assertion = builtins.length cfg.networks <= 64;
        message = "services.cygnet.networks: there are ${toString (builtins.length cfg.networks)}; take 64 at most.";
      }
      {
        assertion = lib.allUnique (map (network: network.ssid) cfg.networks);
        message = "services.cygnet.networks: two have the same ssid. Leave one of them out.";
      }
    ];

    warnings = lib.optional (cfg.networks != [ ] && cfg.country == null) ''
      services.cygnet.country is not set: on channels 12 and 13 and at 5 GHz the Pi may not find its network.
      Set it to the two letters of the country that it stands in.
    '';
  };
}
