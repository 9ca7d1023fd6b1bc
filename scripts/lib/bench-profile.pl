#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# Usage: bench-profile.pl SYMBOLS COUNTS
#
# Where the instructions go that bench-plugin.c counted: a table by function for maps, one for unmaps,
# one for what else was timed. SYMBOLS is the machine's /proc/kallsyms.
use strict;
use warnings;
# Addresses have 64 bits.
no warnings 'portable';

my ($symbols, $counts) = @ARGV;
my (@at, @name);
open(my $in, '<', $symbols) or die "$symbols: $!\n";
my @lines = sort { $a->[0] <=> $b->[0] } map { m/^([0-9a-f]{16}) [tTwW] (\S+)(?:\s+\[(\S+)\])?/ ? [hex($1), $3 ? "$2 [$3]" : $2] : () } <$in>;
close($in);
for my $line (@lines) {
	# The first of several names of one address will do.
	next if @at && $at[-1] == $line->[0];
	push @at, $line->[0];
	push @name, $line->[1];
}

# symbol ADDRESS: the function that it is in.
sub symbol {
	my ($address) = @_;
	if ($address < 0x8000_0000_0000) {
		return $address >= 0x7000_0000_0000 ? '(user: libraries)' : '(user: the program)';
	}
	my ($low, $high) = (0, scalar @at);
	while ($low < $high) {
		my $middle = int(($low + $high) / 2);
		if ($at[$middle] <= $address) { $low = $middle + 1 } else { $high = $middle }
	}
	return $low ? $name[$low - 1] : '(unknown)';
}

my (%passes, %sum, %calls, %locks, %pins);
open($in, '<', $counts) or die "$counts: $!\n";
while (<$in>) {
	if (/^passes (\d) (\d+)$/) {
		$passes{$1} = $2;
	} elsif (/^lock (\d) ([0-9a-f]+) (\d+) (\d+)$/) {
		$locks{$1}{$2} = [$3, $4];
	} elsif (/^pins (\d) (\d+) (\d+)$/) {
		$pins{$1} = [$2, $3];
	} elsif (/^(\d) ([0-9a-f]+) (\d+) (\d+)$/) {
		my $function = symbol(hex($2));
		$sum{$1}{$function} += $3 * $4;
		$calls{$1}{$function} += $4;
	}
}
close($in);

my %title = (1 => 'map', 2 => 'unmap', 3 => 'other');
for my $kind (sort keys %sum) {
	my $of = $sum{$kind};
	my $total = 0;
	$total += $_ for values %$of;
	my $each = $passes{$kind} || 1;
	printf "%s: %.0f instructions each, %d of them\n%12s %7s  %s\n", $title{$kind}, $total / $each, $each, 'instructions', 'share', 'function';
	my $rest = 0;
	for my $function (sort { $of->{$b} <=> $of->{$a} || $a cmp $b } keys %$of) {
		if ($of->{$function} * 500 < $total) {
			$rest += $of->{$function};
			next;
		}
		printf "%12.1f %6.1f%%  %s\n", $of->{$function} / $each, 100 * $of->{$function} / $total, $function;
	}
	printf "%12.1f %6.1f%%  %s\n", $rest / $each, 100 * $rest / $total, '(all others)';
	my $places = $locks{$kind} || {};
	for my $place (sort { $places->{$b}[1] <=> $places->{$a}[1] } keys %$places) {
		my ($often, $held) = @{$places->{$place}};
		printf "%12.1f %6.1f%%  while a lock is held that is taken %.4g times in %s, at %s\n", $held / $each, 100 * $held / $total, $often / $each, symbol(hex($place)), $place;
	}
	printf "%12s %7s  pages were pinned %.4g times, %d times with a lock held\n", '', '', $pins{$kind}[0] / $each, $pins{$kind}[1] if $pins{$kind} && $pins{$kind}[0];
	print "\n";
}
