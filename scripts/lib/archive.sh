# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Looking up and downloading kernel packages of the backports suite, with an apt
# configuration of our own: the host's package lists are neither used nor changed.

# own_apt DIR TOOL ARG...: runs apt-get or apt-cache on the lists in DIR.
own_apt() {
	local dir=$1 tool=$2
	shift 2
	"$tool" -q -c "$dir/apt.conf" -o Dir::State="$dir/state" -o Dir::Cache="$dir/cache" -o Dir::State::status=/dev/null \
		-o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
		-o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Sandbox::User=root \
		-o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
		-o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false -o Acquire::Retries=3 "$@"
}

# fetch_lists DIR: package lists of the backports suite, into DIR.
fetch_lists() {
	mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial"
	# The host's hooks would act on the host.
	printf '#clear %s;\n' APT::Update::Post-Invoke APT::Update::Post-Invoke-Success APT::Update::Pre-Invoke >"$1/apt.conf"
	echo "deb [arch=amd64 signed-by=$KEYRING] $MIRROR $SUITE_NAME-backports main" >"$1/sources.list"
	own_apt "$1" apt-get update -o APT::Update::Error-Mode=any
	# One line a package: name, version, dependencies.
	own_apt "$1" apt-cache dumpavail | awk '
		/^Package: / { name = $2; version = depends = "" }
		/^Version: / { version = $2 }
		/^Depends: / { depends = substr($0, 10) }
		/^$/ && name ~ /^linux-/ { print name "\t" version "\t" depends; name = "" }
		END { if (name ~ /^linux-/) print name "\t" version "\t" depends }' >"$1/packages"
}

# has_package DIR NAME VERSION: NAME is in the archive with exactly this version.
has_package() {
	awk -F'\t' -v n="$2" -v v="$3" '$1 == n && $2 == v { ok = 1 } END { exit !ok }' "$1/packages"
}

# newest_kernel DIR OLDEST: prints release and package version of the newest plain amd64
# kernel from OLDEST up whose image, headers and source have the same version.
newest_kernel() {
	local dir=$1 oldest=$2 name version rel series best_rel='' best=''
	while IFS=$'\t' read -r name version; do
		rel=${name#linux-image-}
		[[ $rel =~ ^([0-9]+\.[0-9]+)[^-]*-amd64$ ]] || continue
		series=${BASH_REMATCH[1]}
		dpkg --compare-versions "$version" ge "$oldest" || continue
		if ! has_package "$dir" "linux-headers-$rel" "$version" ||
			! has_package "$dir" "linux-source-$series" "$version"; then
			echo "passed over $rel $version: its headers or source have another version" >&2
			continue
		fi
		if [[ -z $best ]] || dpkg --compare-versions "$version" gt "$best"; then
			best=$version best_rel=$rel
		fi
	done < <(cut -f1,2 "$dir/packages" | grep '^linux-image-')
	[[ -n $best ]] || { echo "no kernel from $oldest up with image, headers and source of one version" >&2; return 1; }
	echo "$best_rel $best"
}

# kernel_packages DIR REL VERSION: the image package and what it needs of the same version
# (some builds put the files into the image package, others into several that it depends on).
kernel_packages() {
	local dir=$1 rel=$2 version=$3 queue=("linux-image-$2") name depends need
	local -A seen=()
	while [[ ${#queue[@]} -gt 0 ]]; do
		name=${queue[0]}
		queue=("${queue[@]:1}")
		[[ -z ${seen[$name]:-} ]] || continue
		seen[$name]=1
		echo "$name"
		depends=$(awk -F'\t' -v n="$name" -v v="$version" '$1 == n && $2 == v { print $3; exit }' "$dir/packages")
		while read -r need; do
			if [[ $need == linux-*-"$rel" ]] && has_package "$dir" "$need" "$version"; then
				queue+=("$need")
			fi
		done < <(tr -s ',|' '\n' <<<"$depends" | awk '{ print $1 }')
	done
}

# download DIR INTO VERSION PACKAGE...: fetches the packages and unpacks them into INTO.
download() {
	local dir=$1 into=$2 version=$3 package
	shift 3
	mkdir -p "$dir/debs" "$into"
	(cd "$dir/debs" && own_apt "$dir" apt-get download "${@/%/=$version}")
	for package in "$dir"/debs/*.deb; do
		dpkg-deb -x "$package" "$into"
		rm "$package"
	done
}

# newest_source DIR OLDEST: prints series and package version of the newest kernel source from
# OLDEST up.
newest_source() {
	local dir=$1 oldest=$2 name version best_series='' best=''
	while IFS=$'\t' read -r name version; do
		[[ $name =~ ^linux-source-([0-9]+\.[0-9]+)$ ]] || continue
		dpkg --compare-versions "$version" ge "$oldest" || continue
		if [[ -z $best ]] || dpkg --compare-versions "$version" gt "$best"; then
			best=$version best_series=${BASH_REMATCH[1]}
		fi
	done < <(cut -f1,2 "$dir/packages")
	[[ -n $best ]] || { echo "no kernel source from $oldest up" >&2; return 1; }
	echo "$best_series $best"
}
