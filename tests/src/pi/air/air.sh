#!/bin/bash
# Test rig: makes the simulated air before anything of the Pi looks at its network. wlan0 stays; the other radios and the
# cable become access points bridged to the cable, in a network namespace that the Pi's system doesn't see.
# Arguments: the cable's MAC address, the station's. Without them it is the one network card that there is, and the station's
# ends as that one's does (see net.rs).
set -eu
cable_mac=${1:-} station_mac=${2:-}

modprobe mac80211_hwsim radios=3
ip netns add ap
# Where the Pi's radio is while it is "not there".
ip netns add away
ip netns exec ap sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
iw phy phy1 set netns name ap
iw phy phy2 set netns name ap
# hwsim's own monitor; a Pi has no such thing.
ip link set hwsim0 netns ap

# udev may be about to rename it, so it is known by its address, and asked for again if it wasn't there any more.
for try in {1..100}; do
  for address in /sys/class/net/*/address; do
    mac=$(cat "$address" 2>/dev/null) || continue
    if [ -z "$cable_mac" ] && [ "${mac%:*}" = 52:54:00:63:79 ]; then
      cable_mac=$mac station_mac=02:63:79:00:00:${mac##*:}
    fi
    if [ "$mac" = "$cable_mac" ]; then
      name=${address%/address}
      name=${name##*/}
      if ip link set "$name" down && ip link set "$name" netns ap name uplink; then break 2; fi
    fi
  done
  sleep 0.1
done
ip link set wlan0 address "$station_mac"
ip -n ap link set lo up
ip -n ap link add br0 type bridge mcast_snooping 0
ip -n ap link set uplink master br0
ip -n ap link set uplink up
ip -n ap link set br0 up

mkdir -p /run/cygnet-rig
# Whom an access point that wants nobody does not want.
echo "$station_mac" >/run/cygnet-rig/deny
for configuration in /etc/cygnet-rig/wlan*.conf; do
  if [ -e "$configuration" ]; then
    radio=${configuration##*/}
    cp "$configuration" "/run/cygnet-rig/$radio"
    cp /run/cygnet-rig/deny "/run/cygnet-rig/${radio%.conf}.deny"
    if [ -e "${configuration%.conf}.filtered" ]; then touch "/run/cygnet-rig/${radio%.conf}.filtered"; fi
    /usr/lib/cygnet-rig/ap "${radio%.conf}" start
  fi
done
