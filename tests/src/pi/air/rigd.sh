#!/bin/bash
# The test rig's hands inside the virtual Pi: reads commands from a virtio-serial port, answers with what came of them.
# A request is one line, `NUMBER SECONDS NAMESPACE COMMAND STDIN`, an answer `NUMBER CODE STDOUT STDERR`; commands and
# everything they read and say are base64. NAMESPACE `-` is the Pi's own. Each answer's CODE is the command's, 124 if time
# was up (timeout(1)).
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin LC_ALL=C
room=/run/cygnet-rig
mkdir -p "$room" && cd "$room" || exit 1

port=
for name in /sys/class/virtio-ports/*/name; do
  if [ "$(<"$name")" = cygnet.rig ]; then port=${name%/name} port=/dev/${port##*/}; fi
done
if [ -z "$port" ]; then echo "cygnet-rig: there is no virtio-serial port cygnet.rig"; exit 1; fi
exec 3<>"$port"

while true; do
  # The other side may not be there yet: then a read ends at once.
  if ! IFS=' ' read -r -u 3 number seconds namespace command input; then sleep 0.2; continue; fi
  base64 -d <<<"$command" >command 2>/dev/null
  base64 -d <<<"$input" >input 2>/dev/null
  enter=()
  if [ "$namespace" != - ]; then enter=(ip netns exec "$namespace"); fi
  # Into files: a daemon that a command leaves behind must not keep the answer waiting.
  timeout -k 5 "$seconds" "${enter[@]}" bash command <input >out 2>err 3>&-
  code=$?
  printf '%s %s %s %s\n' "$number" "$code" "$(base64 -w 0 out)" "$(base64 -w 0 err)" >&3
done
