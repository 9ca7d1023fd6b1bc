#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# Usage: bench-annotate.pl SYMBOLS COUNTS MODULE FUNCTION
#
# How often each instruction was executed that bench-plugin.c counted, in those functions of the
# module whose names contain FUNCTION: per map, per unmap, and of what else was timed. Those that were
# not are left out ("..."). SYMBOLS is the machine's /proc/kallsyms, MODULE the file that it loaded.
use strict;
use warnings;
# Addresses have 64 bits.
no warnings 'portable';

my ($symbols, $counts, $module, $wanted) = @ARGV;
my (%address, @order);
open(my $in, '<', $symbols) or die "$symbols: $!\n";
while (<$in>) {
	next unless m/^([0-9a-f]{16}) [tT] (\S+)\s+\[qat_iommu\]/;
	$address{$2} = hex($1);
	push @order, $2;
}
close($in);

# What a name says to people, with its crates' hashes left out.
my %name;
open(my $filter, '-|', 'sh', '-c', 'printf "%s\n" "$@" | c++filt', 'sh', @order) or die "c++filt: $!\n";
for my $symbol (@order) {
	my $line = <$filter>;
	chomp($line);
	$line =~ s/\[[0-9a-f]{12,16}\]//g;
	$line =~ s/rust_qat_iommu:://g;
	$name{$symbol} = $line;
}
close($filter);

# blocks of instructions: kind, address, how many, how often
my (%passes, @blocks);
open($in, '<', $counts) or die "$counts: $!\n";
while (<$in>) {
	if (/^passes (\d) (\d+)$/) {
		$passes{$1} = $2;
	} elsif (/^(\d) ([0-9a-f]+) (\d+) (\d+)$/) {
		push @blocks, [$1, hex($2), $3, $4];
	}
}
close($in);

# The instructions of each function: offset and text.
my (%body, $symbol, $begin);
open($in, '-|', 'objdump', '-dr', '--no-show-raw-insn', $module) or die "objdump: $!\n";
while (<$in>) {
	if (/^([0-9a-f]{16}) <(\S+)>:$/) {
		($begin, $symbol) = (hex($1), $2);
	} elsif (/^\s+[0-9a-f]+:\s+R_\S+\s+(\S+)/) {
		my $last = $body{$symbol} && $body{$symbol}[-1] or next;
		$last->[1] .= "  # $1";
	} elsif (defined $symbol && /^\s+([0-9a-f]+):\s+(.*\S)\s*$/) {
		my ($offset, $text) = (hex($1) - $begin, $2);
		$text =~ s/\s+/ /g;
		# A jump within the function goes to an offset.
		$text =~ s/ [0-9a-f]+ <\S+?\+0x([0-9a-f]+)>/ $1/;
		push @{$body{$symbol}}, [$offset, $text];
	}
}
close($in);

my %title = (1 => 'map', 2 => 'unmap', 3 => 'other');
for my $function (grep { index($name{$_}, $wanted) >= 0 && $body{$_} } @order) {
	my $lines = $body{$function};
	my %line;
	$line{$lines->[$_][0]} = $_ for 0 .. $#$lines;
	for my $kind (sort keys %title) {
		my (@times, $total);
		for my $block (grep { $_->[0] == $kind } @blocks) {
			my $from = $line{$block->[1] - $address{$function}};
			next unless defined $from;
			for my $at ($from .. $from + $block->[2] - 1) {
				last if $at > $#$lines;
				$times[$at] += $block->[3];
				$total += $block->[3];
			}
		}
		next unless $total;
		my $each = $passes{$kind} || 1;
		printf "%s: %.1f instructions each in %s\n", $title{$kind}, $total / $each, $name{$function};
		my $gap = 0;
		for my $at (0 .. $#$lines) {
			if ($times[$at]) {
				printf "%10.2f %6x  %s\n", $times[$at] / $each, @{$lines->[$at]};
			} elsif (!$gap) {
				print "           ...\n";
			}
			$gap = !$times[$at];
		}
		print "\n";
	}
}
