# What a person wrote in `disko.devices`, defaults filled in, as plain data that `nix eval --json` can print.
#
# disko hangs functions, derivations and cyclic links to parents on every node of its tree. It marks a node by an
# attribute `_create`, and on such a node everything that begins with an underscore is its own, but for the two names
# below. In all other sets the names are the person's: a dataset may well be called `_u`.
let
  told = [
    "_name"
    "_createFilesystem"
  ];
  isOwn = name: builtins.substring 0 1 name == "_" && !(builtins.elem name told);
  isCallable = value: builtins.isFunction value || (builtins.isAttrs value && value ? __functor);
  # disko's own first: to look at the value of some of them never ends.
  isLeftOut = set: name: (set ? _create && isOwn name) || isCallable set.${name};

  plain =
    value:
    let
      kind = builtins.typeOf value;
    in
    if kind == "list" then
      map plain value
    else if kind == "path" then
      # Printed as it is; otherwise Nix would copy the file, perhaps a key, into the store.
      toString value
    else if kind != "set" then
      value
    else if (value.type or null) == "derivation" then
      value.outPath
    else
      builtins.mapAttrs (_: plain) (
        removeAttrs value (builtins.filter (isLeftOut value) (builtins.attrNames value))
      );
in
plain
