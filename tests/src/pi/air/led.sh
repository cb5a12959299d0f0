#!/bin/bash
# Test rig: /sys/class/leds with an ACT, which is a keyboard's capslock LED.
set -eu
modprobe virtio_input
for try in 1 2 3 4 5 6 7 8 9 10; do
  for led in /sys/class/leds/*::capslock; do
    if [ -e "$led" ]; then
      real=$(readlink -f "$led")
      mount -t tmpfs -o size=64k,mode=0755 leds /sys/class/leds
      ln -s "$real" /sys/class/leds/ACT
      exit 0
    fi
  done
  sleep 0.1
done
echo "cygnet-rig-led: there is no keyboard with an LED" >&2
exit 1
