# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the host must offer: a few packages, and the right to make a sandbox.

# as_root CMD...: runs CMD as root, or fails if that is not possible here.
as_root() {
	if [[ $EUID -eq 0 ]]; then
		"$@"
	else
		sudo "$@"
	fi
}

# can_sudo: sudo works now; asks for the password only where somebody can type it.
can_sudo() {
	command -v sudo >/dev/null || return 1
	sudo -n true 2>/dev/null && return 0
	[[ -t 0 && -t 2 ]] && sudo -v
}

# can_userns: an ordinary user may make a sandbox with bubblewrap.
can_userns() {
	if command -v bwrap >/dev/null; then
		bwrap --unshare-user --uid 0 --gid 0 --ro-bind / / true 2>/dev/null
	else
		unshare --user --map-root-user --mount true 2>/dev/null
	fi
}

# can_unshare_root: mmdebstrap's unprivileged mode has what it needs.
can_unshare_root() {
	can_userns && command -v newuidmap >/dev/null && grep -q "^$(id -un):" /etc/subuid 2>/dev/null
}

# sandbox_kind: root, userns or sudo: how scripts enter the build root here.
sandbox_kind() {
	if [[ $EUID -eq 0 ]]; then
		echo root
	elif can_userns; then
		echo userns
	elif can_sudo; then
		echo sudo
	else
		return 1
	fi
}

# check_rights: says at once if set-up cannot work for this user on this host.
check_rights() {
	if [[ $EUID -eq 0 ]]; then
		if command -v bwrap >/dev/null && ! bwrap --ro-bind / / --proc /proc true 2>/dev/null; then
			die "root may not mount here (a container without CAP_SYS_ADMIN?): run on a host or VM, or start the container with --privileged"
		fi
		return 0
	fi
	can_userns || can_sudo ||
		die "neither root, nor sudo, nor user namespaces work here: run as root, or let an administrator set kernel.unprivileged_userns_clone=1 (or kernel.apparmor_restrict_unprivileged_userns=0)"
}

# install_prerequisites: installs the host packages that set-up itself needs.
install_prerequisites() {
	local -A package=(
		[mmdebstrap]=mmdebstrap [bwrap]=bubblewrap [xz]=xz-utils [flock]=util-linux
	)
	local missing=() tool
	for tool in "${!package[@]}"; do
		command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
	done
	[[ -r $KEYRING ]] || missing+=(debian-archive-keyring)
	if [[ $EUID -ne 0 ]] && ! can_sudo && ! command -v newuidmap >/dev/null; then
		missing+=(uidmap)
	fi
	[[ ${#missing[@]} -gt 0 ]] || return 0
	command -v apt-get >/dev/null ||
		die "needs ${missing[*]} and can install them on Debian only: install them, then run this again"
	[[ $EUID -eq 0 ]] || can_sudo ||
		die "needs ${missing[*]}, and neither root nor sudo works: ask for 'apt-get install ${missing[*]}', then run this again"
	say "installing on this host: ${missing[*]}"
	as_root apt-get update -q
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# check_space DIR GIB: refuses to start what cannot fit.
check_space() {
	local free
	free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1048576) }')
	[[ $free -ge $2 ]] ||
		die "needs $2 GiB free under $1, has $free: free some, or set QAT_IOMMU_CACHE to another place"
}
