#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Usage: signature.sh
#
# In a virtual machine that loads signed modules only, and whose firmware knows no key of an owner;
# its root is the clean root with the module that dkms has built and signed. The kernel must read the
# signature and miss the key alone: that is what the owner's enrolment mends.

here=$(dirname "$0")
# shellcheck source=tests/packages/lib.sh
. "$here/lib.sh"
unset LD_LIBRARY_PATH
PATH=/usr/sbin:/usr/bin
unsigned=/run/unsigned/qat_iommu.ko

# refused_as TEXT COMMAND...: loading fails, and the kernel says why.
refused_as() {
	local text=$1
	shift
	dmesg --clear
	if "$@"; then
		echo 'it was loaded'
		return 1
	fi
	dmesg >/tmp/refused.log
	says /tmp/refused.log "$text"
}

enforced() {
	[[ $(cat /sys/module/module/parameters/sig_enforce) == Y ]]
}

signer_is_dkms() {
	local subject
	subject=$(openssl x509 -inform DER -in /var/lib/dkms/mok.pub -noout -subject -nameopt multiline | sed -n 's/^ *commonName *= //p')
	[[ -n $subject && $(modinfo -F signer qat_iommu) == "$subject" ]] || {
		echo "signed by $(modinfo -F signer qat_iommu), dkms is $subject"
		return 1
	}
}

# doctor_says TEXT: of the module's signature.
doctor_says() {
	qat-iommu doctor >/tmp/doctor 2>&1
	says /tmp/doctor "$@"
}

# The same module, its signature cut off.
cut_off() {
	mkdir -p "$(dirname $unsigned)"
	xz -dc "$(modinfo -n qat_iommu)" >$unsigned
	strip --strip-debug $unsigned 2>/dev/null || objcopy -g $unsigned
	[[ -z $(modinfo -F signer $unsigned) ]]
}

check 'the kernel loads signed modules only' enforced
check 'the module that dkms built is signed with its key' signer_is_dkms
check 'doctor sees the signature, and names the way to try its key' doctor_says \
	'is signed, as this kernel wants (module.sig_enforce is on)' 'mokutil --test-key /var/lib/dkms/mok.pub'
check 'the kernel reads the signature, and has not the key' \
	refused_as 'module with unavailable key is rejected' modprobe qat_iommu
check 'without its signature' cut_off
check 'it is refused as unsigned' refused_as 'unsigned module is rejected' insmod $unsigned
