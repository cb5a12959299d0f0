# `config.disko.devices` as disko's evaluation leaves it: every node with functions, scripts and a way back to its
# parent, which no JSON can hold. What a user wrote is in between.
layout:
let
  isNode = value: value ? preCreateHook;

  decorate =
    parent: value:
    if builtins.isList value then
      map (decorate parent) value
    else if builtins.isAttrs value then
      let
        self =
          builtins.mapAttrs (_: decorate self) value
          // (if isNode value then internals parent value else { });
      in
      self
    else
      value;

  internals = parent: value: {
    _create = "echo creating ${value.type}\n";
    _mount = {
      dev = "";
      fs = { };
    };
    _unmount = {
      dev = "";
      fs = { };
    };
    _config = [
      {
        _type = "merge";
        contents = [ ];
      }
    ];
    _pkgs = pkgs: [ pkgs.gptfdisk ];
    _meta = devices: { deviceDependencies = devices; };
    _parent = parent;
  };
in
decorate { } layout
// {
  _create = "echo creating\n";
  _mount = "echo mounting\n";
  _unmount = "echo unmounting\n";
  _destroy = "echo destroying\n";
  _disko = "echo all\n";
  _config = { };
  _packages = pkgs: [ pkgs.bash ];
  _scripts = throw "disko's scripts need nixpkgs";
}
