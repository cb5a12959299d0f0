#!/bin/bash
# Test rig: how long wpa_supplicant with a configuration file and systemd-networkd alone take from the radio's appearance to
# an address. Reads wpa_supplicant's configuration; writes three times in seconds since boot: the radio is there, it is
# associated, it has an address.
set -eu
room=/run/cygnet-rig
unit=cygnet-rig-baseline.service
wanted=/run/systemd/system/sys-subsystem-net-devices-wlan0.device.wants
network=/run/systemd/network/05-cygnet-rig-baseline.network
umask 077
cat >"$room/baseline.conf"
umask 022

ours=()
for service in cygnetd.service cygnet-supplicant.service; do
  if systemctl -q is-active "$service"; then ours+=("$service"); systemctl stop "$service"; fi
done
if [ -e /sys/class/net/wlan0 ]; then iw phy phy0 set netns name away; fi

mkdir -p "$wanted" "${network%/*}"
cat >"$network" <<END
[Match]
Name=wlan0
[Network]
DHCP=ipv4
LinkLocalAddressing=ipv6
[DHCPv4]
ClientIdentifier=mac
END
# As Debian's wpa_supplicant@.service is, and NixOS's for a named interface: it follows the device.
cat >"/run/systemd/system/$unit" <<END
[Unit]
Description=Test rig: wpa_supplicant alone
BindsTo=sys-subsystem-net-devices-wlan0.device
After=sys-subsystem-net-devices-wlan0.device
[Service]
ExecStart=/usr/sbin/wpa_supplicant -i wlan0 -c $room/baseline.conf
END
ln -sf "../$unit" "$wanted/$unit"
systemctl daemon-reload
networkctl reload

finish() {
  systemctl stop "$unit" || true
  rm -f "$wanted/$unit" "/run/systemd/system/$unit" "$network" "$room/baseline.conf"
  systemctl daemon-reload
  networkctl reload
  ip address flush dev wlan0 || true
  ip link set wlan0 down || true
  if [ ${#ours[@]} -gt 0 ]; then systemctl start --no-block "${ours[0]}"; fi
}
trap finish EXIT

mkfifo "$room/addresses.$$"
ip -o -4 monitor address >"$room/addresses.$$" &
monitor=$!
exec 4<"$room/addresses.$$"
rm "$room/addresses.$$"
read -r present _ </proc/uptime
ip netns exec away iw phy phy0 set netns 1
while read -r -t 100 -u 4 line; do
  read -r addressed _ </proc/uptime
  case $line in Deleted*) ;; *wlan0*"inet "*) break ;; esac
done
kill "$monitor"
if [ -z "$(ip -o -4 address show dev wlan0)" ]; then
  echo "no address came:" >&2
  journalctl -b -u "$unit" -o short-monotonic --no-pager >&2
  exit 1
fi
# `[   12.345678] pi wpa_supplicant[1]: wlan0: CTRL-EVENT-CONNECTED …`
associated=$(journalctl -b -u "$unit" -o short-monotonic --no-pager |
  sed -n 's/^\[ *\([0-9.]*\)\].*CTRL-EVENT-CONNECTED.*/\1/p' | tail -n 1)
echo "$present ${associated:-0} $addressed"
