# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Running a command inside the build root with bubblewrap. Processes get a PID namespace
# of their own that dies with the caller, so that nothing is ever left running.

# mount_point ROOT PATH: makes the empty directory or file that a bind mount needs.
mount_point() {
	if [[ -d $2 ]]; then
		mkdir -p "$1$2"
	elif [[ ! -e $1$2 ]]; then
		mkdir -p "$(dirname "$1$2")"
		: >"$1$2"
	fi
}

# own_directory PATH: PATH may be shown inside the root without hiding a part of it.
own_directory() {
	case $1 in
	/ | /bin | /bin/* | /boot | /dev | /dev/* | /etc | /etc/* | /lib | /lib/* | /lib64 | /proc | /proc/* | \
		/run | /sbin | /sbin/* | /sys | /sys/* | /usr | /usr/bin* | /usr/lib* | /usr/share* | /usr/sbin* | /var | /kernel*)
		return 1
		;;
	esac
}

# sandbox_env: the variables of the caller that mean something inside, as bwrap options.
sandbox_env() {
	local name
	for name in $(compgen -e); do
		case $name in
		TERM | COLORTERM | NO_COLOR | LANG | TZ | SOURCE_DATE_EPOCH | SUITE | RUST_BACKTRACE | \
			http_proxy | https_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | NO_PROXY | \
			CARGO_NET_* | CARGO_HTTP_* | CARGO_REGISTRIES_* | QAT_IOMMU_*)
			SANDBOX+=(--setenv "$name" "${!name}")
			;;
		esac
	done
}

# sandbox_options ROOT CWD: fills the array SANDBOX with bwrap's options.
sandbox_options() {
	local root=$1 cwd=$2 dir file
	local shown=("$PROJECT" "$CACHE" "${SANDBOX_SHOW[@]}")
	if own_directory "$cwd"; then
		shown+=("$cwd")
	else
		cwd=$PROJECT
	fi
	mkdir -p "$CACHE/home" "$CACHE/cargo"
	# Device nodes of its own: what a build as root does to /dev/null is not done to the host.
	SANDBOX=(--ro-bind "$root" / --dev /dev --proc /proc --ro-bind /sys /sys
		--tmpfs /run --tmpfs /var/tmp --bind /tmp /tmp)
	# Parents before children: a later mount would hide an earlier one beneath it.
	while read -r dir; do
		mount_point "$root" "$dir"
		SANDBOX+=(--bind "$dir" "$dir")
	done < <(printf '%s\n' "${shown[@]}" | sort -u)
	for dir in stock debug perf; do
		if [[ -e $CACHE/$dir/release ]]; then
			mkdir -p "$root/kernel/$dir"
			SANDBOX+=(--ro-bind "$(realpath "$CACHE/$dir")" "/kernel/$dir")
		fi
	done
	# The network as the host has it: its resolver, and whom it trusts (a proxy of its own, say).
	for file in /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt; do
		if [[ -e $file ]]; then
			mount_point "$root" "$file"
			SANDBOX+=(--ro-bind "$(realpath "$file")" "$file")
		fi
	done
	SANDBOX+=(--unshare-pid --die-with-parent --clearenv)
	sandbox_env
	SANDBOX+=(
		--setenv PATH /usr/sbin:/usr/bin --setenv HOME "$CACHE/home" --setenv LC_ALL C.UTF-8
		--setenv QAT_IOMMU_CACHE "$CACHE" --setenv CARGO_HOME "$CACHE/cargo"
		--setenv CARGO_TARGET_DIR "$PROJECT/build/target" --setenv QAT_IOMMU_IN_ROOT 1
		# Process numbers, of which make forms names, are equal in every sandbox; /tmp is common.
		--setenv MAKE_TMPDIR /run
		--chdir "$cwd")
}

# sandbox ROOT CWD CMD...: runs CMD inside ROOT. SANDBOX_SHOW names more directories to
# show, SANDBOX_MORE more bwrap options.
sandbox() {
	local root=$1 kind
	kind=$(sandbox_kind) || check_rights
	sandbox_options "$root" "$2"
	shift 2
	case $kind in
	root) bwrap "${SANDBOX[@]}" "${SANDBOX_MORE[@]}" -- "$@" ;;
	userns) bwrap --unshare-user --uid 0 --gid 0 "${SANDBOX[@]}" "${SANDBOX_MORE[@]}" -- "$@" ;;
	sudo)
		by_sudo bwrap "${SANDBOX[@]}" "${SANDBOX_MORE[@]}" -- \
			setpriv --reuid="$(id -u)" --regid="$(id -g)" --clear-groups -- "$@"
		;;
	esac
}

# by_sudo CMD...: sudo in the background, because only root can end it when we are ended.
by_sudo() {
	sudo "$@" <&0 &
	# shellcheck disable=SC2064 # this very process
	trap "sudo -n kill $! 2>/dev/null; exit 143" TERM HUP
	wait $!
}

SANDBOX=()
SANDBOX_SHOW=()
SANDBOX_MORE=()
