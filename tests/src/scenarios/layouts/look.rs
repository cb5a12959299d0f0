//! Opening what was made, looking at all of it, closing it again: scripts for the Pi's bash.
//!
//! Nothing of this comes from cygnet's own plans: what is wrong there must not be wrong here, too.

use super::recorded::Layer;
use crate::pi::quoted;

/// Looks at every layer, in sections that begin with `== KIND NAME`. `@FROM TO` says by what name a section calls a device.
const LOOK: &str = r#"
say() { echo "== $*"; }
number=0
for disk in $DISKS; do
  echo "@$(basename "$(readlink -f "$disk")") disk$number"; echo "@$(basename "$disk") disk$number"
  number=$((number + 1))
done
for link in /dev/md/* $(find /dev/zvol -type l 2>/dev/null); do
  [ -b "$link" ] && echo "@$(basename "$(readlink -f "$link")") ${link#/dev/}"
done
zvols=$(find /dev/zvol -type l 2>/dev/null | grep -v -e '-part')

say lsblk
lsblk --json --bytes --output NAME,TYPE,SIZE,FSTYPE,LABEL,PARTLABEL,PARTTYPE,PARTFLAGS,PTTYPE,LOG-SEC $DISKS $zvols

for device in $(lsblk --noheadings --list --paths --output NAME $DISKS $zvols | sort -u); do
  say blkid "$device"
  # Each program takes a tenth of a second to start in an emulated Pi.
  found=$(blkid -p -o export "$device"); echo "$found"
  case "$found" in
    *PTTYPE=gpt*|*PTTYPE=PMBR*)
      table=$(sgdisk -p "$device")
      say sgdisk-p "$device"; echo "$table"
      say sgdisk-O "$device"; sgdisk -O "$device"
      for number in $(awk '$1 ~ /^[0-9]+$/ { print $1 }' <<< "$table"); do
        say sgdisk-i "$device" "$number"; sgdisk -i "$number" "$device"
      done ;;
    *PTTYPE=dos*) say sfdisk "$device"; sfdisk --dump "$device" ;;
  esac
  case $'\n'"$found"$'\n' in
    *$'\nTYPE=crypto_LUKS\n'*) say luksDump "$device"; cryptsetup luksDump "$device" ;;
    *$'\nTYPE=btrfs\n'*)
      say btrfs "$device"
      mount -o ro,subvol=/ "$device" "$PLACE"
      btrfs subvolume list -a "$PLACE"
      (cd "$PLACE" && find . -xdev -name 'swapfile*' -o -name rel-path | while read -r file; do
        echo "$file $(stat -c '%s %a' "$file") $(lsattr "$file" | cut -d ' ' -f 1) $(blkid -p -o value -s TYPE "$file")"; done)
      umount "$PLACE" ;;
    *$'\nTYPE=ext4\n'*) say ext4 "$device"; dumpe2fs -h "$device" 2>/dev/null ;;
  esac
done
for array in /dev/md/*; do
  if [ -b "$array" ]; then say mdadm "$array"; mdadm --detail "$array"; fi
done
say vgs; vgs --noheadings --units b -o vg_name,pv_count,lv_count,vg_size,vg_extent_size,vg_free
say pvs; pvs --noheadings --units b -o pv_name,vg_name,pv_size,pv_free
say lvs; lvs -a --noheadings --units b -o vg_name,lv_name,lv_size,segtype,pool_lv,stripes,stripe_size,chunk_size,devices,lv_layout,lv_role
for pool in $(zpool list -H -o name); do
  say zpool-get "$pool"; zpool get -H all "$pool"
  say zpool-status "$pool"; zpool status -P "$pool"
done
say zfs-list; zfs list -H -t all -o name,type
say zfs-get; zfs get -H -p all
"#;

const PLACE: &str = "/run/cygnet-look";

fn assignment(disks: &[String]) -> String {
    format!("DISKS={:?}\nPLACE={PLACE}\n", disks.join(" "))
}

/// Opens everything, looks, and closes it again. What looking fails at is seen in what it does not print.
pub fn look(disks: &[String], layers: &[Layer]) -> String {
    let settle = "udevadm settle --timeout 60";
    let mut lines = vec!["exec 2>&1".to_owned(), assignment(disks), format!("mkdir -p {PLACE}"), settle.to_owned()];
    for layer in layers {
        let open = match layer {
            // udev may have been faster.
            Layer::Array(device, members) => {
                let members: Vec<&str> = members.iter().map(String::as_str).collect();
                format!("test -b {device} || mdadm --assemble --quiet {device} {}", quoted(&members))
            }
            Layer::Luks(open, name) => {
                let open: Vec<&str> = open.iter().map(String::as_str).collect();
                format!("test -b /dev/mapper/{name} || {}", quoted(&open))
            }
            Layer::Group(group) => format!("vgchange --quiet -a y {group} > /dev/null"),
            Layer::Pool(pool) => format!(
                "zpool import -N -o readonly=on -o cachefile=none -R /mnt -d /dev/disk/by-id -d /dev/disk/by-partlabel \
                 {pool} && {{ zfs load-key -r {pool} > /dev/null; zvol_wait > /dev/null; }}"
            ),
        };
        lines.extend([open, settle.to_owned()]);
    }
    // lsblk reads udev's database, which may be behind what was written last.
    lines.extend(["udevadm trigger --settle --subsystem-match=block".to_owned(), settle.to_owned()]);
    lines.push(LOOK.to_owned());
    lines.extend(closed(layers));
    lines.push(settle.to_owned());
    lines.join("\n")
}

fn closed(layers: &[Layer]) -> impl Iterator<Item = String> {
    layers.iter().rev().map(|layer| match layer {
        Layer::Array(device, _) => format!("if [ -b {device} ]; then mdadm --stop {device}; fi"),
        Layer::Luks(_, name) => format!("if [ -b /dev/mapper/{name} ]; then cryptsetup close {name}; fi"),
        Layer::Group(group) => format!("vgchange --quiet -a n {group} > /dev/null"),
        Layer::Pool(pool) => format!("if zpool list {pool} > /dev/null 2>&1; then zpool export {pool}; fi"),
    })
}

/// Closes everything, whatever is open, and makes these disks as blank as they were delivered.
pub fn blank(disks: &[String], layers: &[Layer]) -> String {
    let mut lines = vec!["set -x".to_owned(), assignment(disks), "umount -R /mnt".to_owned()];
    lines.extend(closed(layers));
    lines.push(
        r#"set -e
udevadm settle --timeout 60
for disk in $DISKS; do
  blkdiscard --force --zeroout "$disk"
  blockdev --rereadpt "$disk"
done
udevadm settle --timeout 60
left=$(lsblk --noheadings --output TYPE,FSTYPE,PTTYPE $DISKS | awk '$1 != "disk" || NF > 1')
test -z "$left""#
            .to_owned(),
    );
    lines.join("\n")
}

/// Closes everything; what cannot be closed is an error.
pub fn close(layers: &[Layer]) -> String {
    std::iter::once("set -e".to_owned())
        .chain(closed(layers))
        .chain(["udevadm settle --timeout 60".to_owned()])
        .collect::<Vec<_>>()
        .join("\n")
}

/// Leaves only these disks to the kernel, by their serial numbers: every event for all disks costs time here.
pub fn plug_in(serials: &[String]) -> String {
    format!(
        r#"set -e
drivers=/sys/bus/virtio/drivers/virtio_blk
mkdir -p /run/cygnet-disks
for disk in /sys/block/vd*; do
  serial=$(cat "$disk/serial")
  case "$serial" in CYGLAY*) basename "$(readlink -f "$disk/device")" > "/run/cygnet-disks/$serial" ;; esac
done
for file in /run/cygnet-disks/*; do
  serial=$(basename "$file"); device=$(cat "$file")
  case " {} " in
    *" $serial "*) if [ ! -e "$drivers/$device" ]; then echo "$device" > "$drivers/bind"; fi ;;
    *) if [ -e "$drivers/$device" ]; then echo "$device" > "$drivers/unbind"; fi ;;
  esac
done
for serial in {}; do udevadm wait --timeout 60 "/dev/disk/by-id/virtio-$serial"; done
udevadm settle --timeout 60"#,
        serials.join(" "),
        serials.join(" ")
    )
}
