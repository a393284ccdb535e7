#!/usr/bin/env python3
"""Do two object files, compiled for two instruction sets, share code that depends on them?

    tests/hosts/dispatch/symbols.py OLDER.o NEWER.o

The linker keeps one of several weak symbols of a name. Fails for each that both files define and whose
code in the second, compiled for AVX-512, has an instruction that an SSE2 processor lacks; and for each
symbol of ether outside a namespace that names the version.

Exit status: 0 none, 1 some, 77 no nm or objdump.
"""

import re
import shutil
import subprocess
import sys

NAME = re.compile(r"^[0-9a-f]+ <(.*)>:$")
INSTRUCTION = re.compile(r"^ *[0-9a-f]+:\t(\S+)")
# AVX and AVX-512 begin with v; the rest are of BMI, LZCNT, POPCNT and MOVBE.
NEWER = re.compile(r"^(v\w+|andn|bextr|bls\w+|[lt]zcnt|popcnt|bzhi|mulx|pdep|pext|rorx|s[ah][lr]x|movbe)$")
VERSIONED = re.compile(r"ether::v\d+_\d+_\d+(_\w+)?::")


def weak(path):
    """The weak symbols of code and data that an object file defines, as they are for the linker."""
    lines = subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout.splitlines()
    return {fields[2] for fields in map(str.split, lines) if len(fields) == 3 and fields[1] in "WVu"}


def readable(symbols):
    """{symbol: its name as C++ writes it}"""
    names = subprocess.run(["c++filt"], input="\n".join(symbols), check=True, capture_output=True,
                           text=True).stdout.splitlines()
    return dict(zip(symbols, names))


def newer_instructions(path, symbols):
    """{symbol: its first instruction that SSE2 lacks}"""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], check=True, capture_output=True,
                          text=True).stdout
    found, symbol = {}, None
    for line in text.splitlines():
        if name := NAME.match(line):
            symbol = name.group(1)
        elif symbol in symbols and (instruction := INSTRUCTION.match(line)):
            if NEWER.match(instruction.group(1)):
                found.setdefault(symbol, instruction.group(1))
    return found


def main():
    if not all(map(shutil.which, ("nm", "objdump", "c++filt"))):
        print("left out: needs nm, objdump and c++filt")
        return 77
    older, newer = sys.argv[1:]
    both = weak(older) & weak(newer)
    names = readable(sorted(weak(older) | weak(newer)))
    failed = 0
    for symbol, instruction in sorted(newer_instructions(newer, both).items()):
        print(f"shared, with {instruction}: {names[symbol]}")
        failed = 1
    for symbol, name in names.items():
        if "ether::" in VERSIONED.sub("", name):
            print(f"without a version: {name}")
            failed = 1
    if not any("ether::" in name for name in names.values()):
        print("no symbol of ether: nothing was looked at")
        failed = 1
    print(f"{len(both)} weak symbols in both, of {len(names)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
