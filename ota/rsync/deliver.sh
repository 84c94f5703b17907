#!/bin/sh
# deliver.sh [-f STATE] [-t SECONDS] RELEASE INBOX
#
# Brings a release, a .tar.zst or a packed folder, into a sightd's inbox by rsync
# and waits for what becomes of it. INBOX is a folder, or HOST:FOLDER by ssh. The
# state to wait for is confirmed, or with -f staged, proven or serving.
#
# Exit status: 0 the state is reached, 1 failed, 2 wrong usage, 3 rejected, 4 rolled
# back, 5 timed out. It may be run again at any time: what is there isn't sent twice.
set -eu

usage() {
	echo "usage: ${0##*/} [-f confirmed|serving|proven|staged] [-t SECONDS] RELEASE [HOST:]INBOX" >&2
	exit 2
}

target=confirmed
seconds=3600
while getopts f:t: option; do
	case $option in
	f) target=$OPTARG ;;
	t) seconds=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ $# -eq 2 ] || usage
case $target in
staged) reached='staged|built|proven|serving|confirmed' ;;
proven) reached='proven|serving|confirmed' ;;
serving) reached='serving|confirmed' ;;
confirmed) reached=confirmed ;;
*) usage ;;
esac
case $seconds in '' | *[!0-9]*) usage ;; esac

release=${1%/}
inbox=${2%/}
drop=${release##*/}
[ -e "$release" ] || {
	echo "${0##*/}: $release isn't there" >&2
	exit 1
}
case $drop in
.*)
	echo "${0##*/}: sightd passes over names that begin with a dot: $drop" >&2
	exit 2
	;;
esac
case $inbox in
*:*) host=${inbox%%:*} there=${inbox#*:} ;;
*) host='' there=$inbox ;;
esac

# quoted TEXT: for the shell on the other side.
quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }

# at_inbox COMMAND PATH
at_inbox() {
	if [ -n "$host" ]; then
		# Both are meant to be expanded here.
		# shellcheck disable=SC2029
		ssh -o BatchMode=yes "$host" "$1 $(quoted "$2")"
	else
		$1 "$2"
	fi
}

result=$there/$drop.result.json
read_result() { at_inbox cat "$result" 2>/dev/null || :; }

# field NAME: a text of the result on stdin.
field() { sed -n "s/^ *\"$1\": \"\\(.*\\)\",\\{0,1\\}\$/\\1/p"; }

# Its rights there are the inbox's own; nothing of the owner here matters. What is
# only partly there lies under a name that sightd passes over.
send() { rsync -rlt --chmod=D2770,F660 --partial-dir=.rsync-partial "$@" -- "$release" "$inbox/"; }

# A result that is there tells of the drop as it is, unless that is going to change.
if [ -n "$(send --dry-run --out-format=%n)" ]; then
	at_inbox 'rm -f' "$result"
	send
fi

waited=0
said=
while :; do
	now=$(read_result)
	state=$(echo "$now" | field state)
	line="$state $(echo "$now" | field code) $(echo "$now" | field reason)"
	if [ "$line" != "$said" ] && [ -n "$state" ]; then
		echo "$drop: $line" >&2
		said=$line
	fi
	if echo "$state" | grep -Eqx "$reached"; then
		exit 0
	fi
	case $state in
	rejected) exit 3 ;;
	'rolled back') exit 4 ;;
	esac
	if [ "$waited" -ge "$seconds" ]; then
		echo "${0##*/}: $drop isn't $target after $seconds s" >&2
		exit 5
	fi
	sleep 1
	waited=$((waited + 1))
done
