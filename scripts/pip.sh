#!/bin/sh
# pip.sh PYTHON: fails with the remedy where Python or its pip is absent.
set -eu
python=$1
if ! "$python" -m pip --version >/dev/null 2>&1; then
	echo "$python has no pip. On Debian and Ubuntu: apt-get install python3-pip," >&2
	echo "or name another interpreter: make PYTHON=/path/to/python3" >&2
	exit 1
fi
