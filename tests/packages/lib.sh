# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the parts of the package tests share: results in TAP, and apt without a network.

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 INITRD=No
REPO=/srv/repo

# check NAME COMMAND...: one test, decided by COMMAND; what it says is shown when it fails.
check() {
	local name=$1 said
	shift
	if said=$("$@" 2>&1); then
		echo "ok - $name"
	else
		tail -n 25 <<<"$said" | sed 's/^/# /'
		echo "not ok - $name"
	fi
}

# says FILE TEXT...: FILE has each TEXT somewhere.
says() {
	local file=$1 text
	shift
	for text in "$@"; do
		grep -q -F -e "$text" "$file" || {
			echo "there is no '$text' in $file:"
			tail -n 30 "$file"
			return 1
		}
	done
}

# silent_on FILE TEXT: FILE does not have TEXT.
silent_on() {
	if grep -F -e "$2" "$1"; then
		return 1
	fi
}

# apt LOG ARG...: apt-get from what is here; its words go to LOG. Never asks.
apt() {
	local log=$1
	shift
	apt-get -y -q --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >"$log" 2>&1 || {
		tail -n 20 "$log"
		return 1
	}
}

# repo_changed: apt reads our repository anew, and no other one.
repo_changed() {
	(cd "$REPO" && apt-ftparchive packages . >Packages)
	echo "deb [trusted=yes] file:$REPO ./" >/etc/apt/sources.list.d/local.list
	apt-get update -q -o Dir::Etc::SourceList=/etc/apt/sources.list.d/local.list -o Dir::Etc::SourceParts=- \
		-o APT::Get::List-Cleanup=0 >/tmp/update.log 2>&1
}

# absent PATH...: none of them exists.
absent() {
	local path
	for path in "$@"; do
		if [[ -e $path || -L $path ]]; then
			echo "there is still $path"
			return 1
		fi
	done
}

# unowned: every file that no package owns, but for what is no package's business: this project's
# own folder, which is shown in there, first of all.
unowned() {
	local project
	project=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
	comm -23 \
		<(find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /run -o -path /srv \
			-o -path "$project" -o -path /root -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache/apt -o -path /var/log \) \
			-prune -o -print | sort -u) \
		<(cat /var/lib/dpkg/info/*.list | sed 's,^/\(lib\|lib64\|bin\|sbin\)\(/\|$\),/usr/\1\2,' | sort -u)
}

# installed_version PACKAGE
installed_version() {
	dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2>/dev/null
}
