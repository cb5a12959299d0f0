#!/bin/bash
# Test rig: one access point. Arguments: the radio's interface, what to do.
set -eu
radio=$1 action=$2
room=/run/cygnet-rig
configuration=$room/$radio.conf pid_file=$room/$radio.pid log=$room/$radio.log
inside=(ip netns exec ap)

kill_hostapd() {
  if [ -e "$pid_file" ]; then
    pid=$(<"$pid_file")
    kill "-$1" "$pid" 2>/dev/null || true
    # Ends when the process does, without looking again and again.
    timeout 20 tail --pid="$pid" -s 0.1 -f /dev/null || kill -KILL "$pid" 2>/dev/null || true
    rm -f "$pid_file"
  fi
}

case $action in
start)
  # Its stations are told; who shall not be is asked to vanish first.
  kill_hostapd TERM
  "${inside[@]}" ip link set "$radio" down
  # Another name is another access point: an address of its own, or stations call the new one by the name of the old.
  name=$(grep -m 1 '^ssid2\?=' "$configuration" | sha256sum)
  "${inside[@]}" ip link set "$radio" address "02:${name:0:2}:${name:2:2}:${name:4:2}:${name:6:2}:${name:8:2}"
  mkdir -p "$room/hostapd"
  rm -f "$room/hostapd/$radio"
  : >"$log"
  if ! "${inside[@]}" hostapd -B -t -P "$pid_file" -f "$log" "$configuration" >"$log.out" 2>&1; then
    cat "$log.out" "$log" >&2
    exit 1
  fi
  # Announced by hostapd itself; ends with hostapd if that gives up.
  if ! grep -q AP-ENABLED "$log"; then
    for try in 1 2 3 4 5 6 7 8 9 10; do [ -s "$pid_file" ] && break; sleep 0.1; done
    timeout 60 grep -q -m 1 AP-ENABLED < <(exec tail -s 0.1 --pid="$(<"$pid_file")" -n +1 -f "$log") || true
  fi
  if ! grep -q AP-ENABLED "$log"; then
    echo "hostapd on $radio never said AP-ENABLED" >&2
    cat "$log.out" "$log" >&2
    exit 1
  fi
  if [ -e "$room/$radio.filtered" ]; then "$0" "$radio" filter; fi
  ;;
vanish)
  # Killed before it can say goodbye, as when somebody pulls its plug.
  kill_hostapd KILL
  "${inside[@]}" ip link set "$radio" down
  ;;
stop) kill_hostapd TERM ;;
filter)
  # Neither way: not into this access point's air, and not from it to the cable.
  "${inside[@]}" bridge link set dev "$radio" mcast_flood off
  "${inside[@]}" bridge link set dev uplink mcast_flood off
  ;;
pass)
  "${inside[@]}" bridge link set dev "$radio" mcast_flood on 2>/dev/null || true
  "${inside[@]}" bridge link set dev uplink mcast_flood on
  ;;
cli) shift 2; exec "${inside[@]}" hostapd_cli -p "$room/hostapd" -i "$radio" "$@" ;;
*) echo "unknown action $action" >&2; exit 2 ;;
esac
