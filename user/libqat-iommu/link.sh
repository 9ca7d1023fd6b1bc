#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
#
# link.sh ARCHIVE DIRECTORY
#
# Makes DIRECTORY/libqat_iommu.so.0 of the static library that cargo built, with the
# link libqat_iommu.so beside it, and DIRECTORY/libqat_iommu.a, which is the archive
# without its debug information (most of it the standard library's). cargo cannot do it:
# rustc gives every cdylib an anonymous version script of its own, and the linker
# takes no second one with named versions.
set -eu

if [ $# -ne 2 ]; then
	echo "usage: $0 ARCHIVE DIRECTORY" >&2
	exit 2
fi
archive=$1
directory=$2
here=$(dirname "$0")
soname=libqat_iommu.so.0
new=$directory/.new.$$

mkdir -p "$directory"
trap 'rm -f "$new"' EXIT

# nodelete: a context cannot be closed by dlclose, and must not be opened twice.
# LDFLAGS is a list of words.
# shellcheck disable=SC2086
"${CC:-cc}" -shared -o "$new" \
	-Wl,-soname,$soname \
	-Wl,--version-script="$here/exports.map" \
	-Wl,--gc-sections -Wl,--as-needed \
	-Wl,-z,defs -Wl,-z,relro -Wl,-z,now -Wl,-z,nodelete \
	${LDFLAGS:-} \
	-Wl,--whole-archive "$archive" -Wl,--no-whole-archive

mv -f "$new" "$directory/$soname"
ln -sf $soname "$directory/libqat_iommu.so"
"${OBJCOPY:-objcopy}" --strip-debug "$archive" "$new"
mv -f "$new" "$directory/libqat_iommu.a"
