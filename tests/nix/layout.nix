# What a disko layout means for the system installed on it, as disko's NixOS module would say it.
{ layout }:
let
  attrs = set: map (name: set.${name}) (builtins.attrNames set);
  concat = builtins.concatLists;
  options = node: builtins.concatStringsSep "," node.mountOptions;

  partitions = concat (map (disk: attrs disk.content.partitions) (attrs layout.disk));
  datasets = concat (map (pool: attrs pool.datasets) (attrs layout.zpool));
  volumes = concat (
    map (pool: map (volume: volume // { pool = pool.name; }) (attrs pool.datasets)) (attrs layout.zpool)
  );

  legacy = builtins.filter (
    node: node.type == "zfs_fs" && node.mountpoint != null && (node.options.mountpoint or null) == "legacy"
  ) datasets;
  mounted = builtins.filter (
    part: part.content != null && part.content.type == "filesystem" && part.content.mountpoint != null
  ) partitions;
  swaps = builtins.filter (
    node: node.type == "zfs_volume" && node.content != null && node.content.type == "swap"
  ) volumes;

  byDepth = builtins.sort (a: b: builtins.stringLength a.mountpoint < builtins.stringLength b.mountpoint);
in
{
  # What the second stage's own files lie on, the root first.
  earlyFileSystems = map (node: {
    dataset = node._name;
    inherit (node) mountpoint;
  }) (byDepth (builtins.filter (node: node.mountpoint == "/" || node.mountpoint == "/nix") legacy));

  fstab =
    map (node: "${node._name} ${node.mountpoint} zfs ${options node} 0 0") (byDepth legacy)
    ++ map (
      part: "${part.content.device} ${part.content.mountpoint} ${part.content.format} ${options part.content} 0 0"
    ) mounted
    # The machine boots without its swap, only slower.
    ++ map (node: "/dev/zvol/${node.pool}/${node.name} none swap defaults,nofail 0 0") swaps;
}
