#!/bin/sh
# packages.sh PACKAGE…: installs those of the Debian or Ubuntu packages that
# are missing. It asks for root's rights, and for the network, only then.
set -eu

if ! command -v dpkg-query >/dev/null; then
	echo "No Debian or Ubuntu: what these packages hold is taken as installed: $*" >&2
	exit 0
fi

missing=
for package; do
	case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
	installed) ;;
	*) missing="$missing $package" ;;
	esac
done
[ -n "$missing" ] || exit 0

root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "Missing packages, and neither root nor sudo to install them. As root, run:" >&2
		echo "    apt-get install --no-install-recommends$missing" >&2
		exit 1
	fi
	root=sudo
fi

apt_get() {
	$root env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}

# Word splitting is meant: a list of package names.
# shellcheck disable=SC2086
install() { apt_get install -y --no-install-recommends $missing >"$log" 2>&1; }

echo "Installing$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The lists of packages may be absent or out of date; fetching them takes
# longer than most installations, so it is tried without first.
if ! install && ! { apt_get update && install; }; then
	cat "$log" >&2
	echo "apt-get could not install:$missing" >&2
	exit 1
fi
