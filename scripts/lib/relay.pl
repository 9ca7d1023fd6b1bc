# SPDX-License-Identifier: GPL-2.0
# relay.pl TOKEN: copies standard input to standard output as it comes, until TOKEN, which ends
# the stream. The bytes before TOKEN are all there when this exits with 0; without TOKEN: 1.
use strict;
use warnings;

my $token = shift;
my $held  = '';
while (sysread STDIN, my $part, 65536) {
    $held .= $part;
    my $end  = substr($held, -length $token) eq $token;
    my $keep = 0;
    if (!$end) {
        # Hold back what may be the beginning of the token.
        for my $n (1 .. length($token) - 1) {
            $keep = $n if length($held) >= $n && substr($held, -$n) eq substr($token, 0, $n);
        }
    }
    my $out = substr $held, 0, length($held) - ($end ? length $token : $keep), '';
    while (length $out) {
        my $n = syswrite STDOUT, $out;
        exit 2 if !defined $n;
        substr $out, 0, $n, '';
    }
    exit 0 if $end;
}
syswrite STDOUT, $held;
exit 1;
