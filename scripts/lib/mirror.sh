# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Which Debian mirror to download from: the one this host's own apt uses.

KEYRING=${QAT_IOMMU_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}

# host_uri REGEX: the first URI in the host's apt configuration that serves a Debian
# release whose name matches REGEX. Origin is unknown until apt has fetched its lists,
# so an unexpanded field counts as Debian's.
host_uri() {
	# shellcheck disable=SC2016 # apt's own fields
	apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)' \
		'Created-By: Packages' 2>/dev/null |
		awk -F'|' -v want="$1" '
			($1 == "Debian" || $1 == "" || $1 == "$(ORIGIN)") && $4 == "main" && $3 ~ want {
				if (!found) print $2
				found = 1
			}'
}

# find_mirrors: sets MIRROR and MIRROR_SECURITY (the latter may stay empty).
find_mirrors() {
	local names='buster|bullseye|bookworm|trixie|forky|sid|stable|testing|unstable'
	MIRROR=${QAT_IOMMU_MIRROR:-$(host_uri "^($names)\$")}
	MIRROR_SECURITY=${QAT_IOMMU_MIRROR_SECURITY:-$(host_uri "^($names)(-security|/updates)\$")}
	[[ -n $MIRROR ]] ||
		die "no Debian mirror in this host's apt configuration; set QAT_IOMMU_MIRROR to the URL of one"
	[[ -r $KEYRING ]] ||
		die "the Debian archive keys are missing ($KEYRING); install debian-archive-keyring or set QAT_IOMMU_KEYRING"
}

# root_sources: the sources.list of the build root.
root_sources() {
	local suite
	for suite in "$SUITE_NAME" "$SUITE_NAME-updates" "$SUITE_NAME-backports"; do
		echo "deb $MIRROR $suite main"
	done
	if [[ -n $MIRROR_SECURITY ]]; then
		echo "deb $MIRROR_SECURITY $SUITE_NAME-security main"
	fi
}

# host_apt_options: the host's proxies and date checks, one mmdebstrap option a line.
host_apt_options() {
	apt-config dump 2>/dev/null |
		sed -n -E '/^Acquire::(https?::(Proxy|[^ ]*::Proxy)|Check-Valid-Until|Check-Date) "[^"]/s/^/--aptopt=/p'
}
