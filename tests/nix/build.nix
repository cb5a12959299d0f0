# The one way a derivation is made here: a busybox shell script, run by the host's static busybox.
{
  settings,
  source,
  cleanName,
}:
let
  inherit (settings) system;

  busybox = source "host-busybox" settings.hostTools;

  # Every applet under its own name, so that scripts read as usual and nothing of the host's PATH is used.
  tools = derivation {
    name = "host-tools";
    inherit system;
    builder = "${busybox}/busybox";
    args = [
      "sh"
      "-euc"
      ''
        ${busybox}/busybox mkdir -p $out/bin
        ${busybox}/busybox cp ${busybox}/busybox $out/bin/busybox
        $out/bin/busybox --install -s $out/bin
      ''
    ];
  };

  run =
    {
      name,
      script,
      ...
    }@attrs:
    derivation (
      removeAttrs attrs [ "script" ]
      // {
        name = cleanName name;
        inherit system;
        builder = "${tools}/bin/sh";
        args = [
          "-euc"
          script
        ];
        PATH = "${tools}/bin";
        LC_ALL = "C";
      }
    );
in
{
  inherit run tools;

  # `files`: name within the tree -> text.
  writeTree =
    name: files:
    run (
      let
        names = builtins.attrNames files;
        index = builtins.listToAttrs (
          builtins.genList (n: {
            name = "text${toString n}";
            value = files.${builtins.elemAt names n};
          }) (builtins.length names)
        );
      in
      index
      // {
        inherit name;
        passAsFile = builtins.attrNames index;
        script =
          ''
            mkdir -p $out
          ''
          + builtins.concatStringsSep "" (
            builtins.genList (n: ''
              mkdir -p "$(dirname "$out/${builtins.elemAt names n}")"
              cp "$text${toString n}Path" "$out/${builtins.elemAt names n}"
            '') (builtins.length names)
          );
      }
    );
}
