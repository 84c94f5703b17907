#!/bin/sh
# A subscriber of sightd for shells: prints each event once, and the states.
#     HOST=broker ID=my-subscriber SEEN=seen-ids ./subscriber.sh
# It needs mosquitto_sub and jq. mosquitto_sub acknowledges a message before it
# prints it: a crash here can lose what is between the two. What must not be lost
# belongs into a program like the examples in Go and Python.
set -eu
prefix=${PREFIX:-sightd}
seen=${SEEN:-seen-ids}
touch "$seen"
# shellcheck disable=SC2016 # jq's, not the shell's
fields='[.id, .data.camera, .data.label | strings] | if length == 3 then join(" ") else error end'

# -c and -i: a session of that name, so that the broker keeps what comes while
# this is away. -q 1: at least once. A payload is one line, of JSON or of text.
mosquitto_sub -h "${HOST:-127.0.0.1}" -p "${PORT:-1883}" -i "${ID:-sightd-subscriber}" -c -q 1 \
	-t "$prefix/+/+/events" -t "$prefix/+/status" -t "$prefix/+/+/status" -t "$prefix/+/+/classification/+" \
	-F '%t %p' |
	while read -r topic payload; do
		name=${topic#"$prefix"/}
		case $name in
		*/*/events)
			line=$(printf '%s' "$payload" | jq -r "$fields" 2>/dev/null) || {
				echo "$topic: no event: $payload" >&2
				continue
			}
			id=${line%% *}
			if ! grep -qxF "$id" "$seen"; then
				echo "$id" >>"$seen"
				echo "event $id ${name%%/*} ${line#* }"
			fi
			;;
		*) # a state; while the device is offline the others may be out of date
			if [ -n "$payload" ]; then echo "state $name $payload"; else echo "gone $name"; fi ;;
		esac
	done
