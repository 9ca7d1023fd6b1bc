# SPDX-License-Identifier: GPL-2.0
# Turns what `cargo test` prints into KTAP: one result for each test, named after its program.

/^ *Running / {
	program = $2 == "unittests" ? $4 : $3
	sub(/^\(/, "", program); sub(/\)$/, "", program); sub(/.*\//, "", program); sub(/-[0-9a-f]+$/, "", program)
}
/^ *Doc-tests / { program = $2 "-doc" }
/^test .* \.\.\. / {
	name = $0
	sub(/^test /, "", name); sub(/ \.\.\. .*/, "", name); sub(/ - should panic$/, "", name)
	gsub(/ /, "_", name)
	verdict = $0
	sub(/.* \.\.\. /, "", verdict)
	n++
	if (verdict ~ /^ok/) {
		print "    ok " n " " program "::" name
	} else if (verdict ~ /^ignored/) {
		print "    ok " n " " program "::" name " # SKIP " verdict
	} else {
		print "    not ok " n " " program "::" name
	}
	next
}
# Whatever else is said about a failure.
/panicked at|^error|assertion|^  left:|^ right:/ { print "    # " $0 }
END { print "    1.." n + 0 }
