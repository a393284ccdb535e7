#!/usr/bin/env python3
"""Do hot loops store vectors to the stack? Looks at the code a compiler generates; times nothing.

    tests/codegen/check.py --compiler g++ --march sapphirerapids -- -Iinclude ...

A vector that is read from the stack where narrower pieces of it were just written waits until they
have reached the cache. Conversions of 16-bit types through an array in memory come to that, and no
test of results notices. Compiles a source, disassembles it, and fails for each store of a vector or
of 16 bits to the stack in an innermost loop that multiplies vectors. What --functions
names must have such a loop: a check that looks at nothing would pass.

Exit status: 0 no such store, 1 some, or no loop, 2 bad input, 77 no such compiler, -march or objdump.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SKIPPED = 77
# %rbp is always the frame; without OpenMP, whose loops are the same.
FLAGS = ["-std=c++17", "-O3", "-DNDEBUG", "-fno-omit-frame-pointer"]
FUNCTIONS = ["dot_tile", "reflect_rows|update_chunks", "project_rows|column_sums",
             "update_chunks<2, 2"]  # the last: both sides of a merge at once
# For compilers that do not know the processor yet: its vector instructions.
INSTEAD = {"znver4": ["-march=znver3", *(f"-mavx512{x}" for x in "f bw dq vl cd bf16".split())]}

LINE = re.compile(r"^ *([0-9a-f]+):\t(\S.*?) *(?:#.*)?$")
NAME = re.compile(r"^[0-9a-f]+ <(.*)>:$")
JUMP = re.compile(r"^(?:notrack |bnd )?j\w+ +([0-9a-f]+) ")
NO_FALL_THROUGH = re.compile(r"^(?:notrack |bnd )?(jmp|ret)")
FUSED = re.compile(r"^vfn?m(?:add|sub)\w*p[sd] ")
# AT&T syntax: the last operand is written. (%rsp) and (%rbp) are the stack.
STORE = re.compile(r"^(?:v\S+ .*%[xyz]mm\d+|movw? .*(?:%[a-d]x|%[sd]i|%r\d+w)), *"
                   r"-?(?:0x[0-9a-f]+)?\(%r[sb]p[^)]*\)(?:\{%k\d\})?$")


class Failed(Exception):
    """Ends the check: (exit status, sentence)."""


def functions(disassembly):
    """{name: [(address, instruction)]} of what `objdump -d -C` prints."""
    found, code = {}, []
    for line in disassembly.splitlines():
        if name := NAME.match(line):
            code = found.setdefault(name.group(1), [])
        elif instruction := LINE.match(line):
            code.append((int(instruction.group(1), 16), instruction.group(2)))
    return found


def components(nodes, successors):
    """The sets of `nodes` that reach one another by one or more steps (Tarjan's algorithm)."""
    order, low, stack, on_stack = {}, {}, [], set()
    for root in nodes:
        if root in order:
            continue
        work = [(root, iter(successors[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            following = next((n for n in rest if n in nodes and (n not in order or n in on_stack)),
                             None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    at = stack.index(node)
                    found, stack[at:] = set(stack[at:]), []
                    on_stack -= found
                    if len(found) > 1 or node in successors[node]:
                        yield found
            elif following in order:
                low[node] = min(low[node], order[following])
            else:
                order[following] = low[following] = len(order)
                stack.append(following)
                on_stack.add(following)
                work.append((following, iter(successors[following])))


def innermost_loops(code):
    """The instructions of each loop that has none within it: a compiler may place a loop's parts anywhere."""
    text = dict(code)
    successors = {}
    for (address, instruction), (after, _) in zip(code, code[1:] + [(None, "")]):
        jump = JUMP.match(instruction)
        targets = [int(jump.group(1), 16)] if jump else []
        if not NO_FALL_THROUGH.match(instruction):
            targets.append(after)
        successors[address] = [t for t in targets if t in text]
    todo = list(components(set(text), successors))
    while todo:
        loop = todo.pop()
        # Without the instruction at which it is entered, only loops within it remain.
        entered = {t for a in text if a not in loop for t in successors[a] if t in loop}
        within = list(components(loop - {min(entered or loop)}, successors))
        todo += within
        if not within:
            yield [text[address] for address in sorted(loop)]


def hot_loops(code):
    """Those that multiply vectors and call nothing."""
    return [loop for loop in innermost_loops(code) if any(map(FUSED.match, loop))
            and not any(text.startswith("call") for text in loop)]


def judge(disassembly, wanted):
    """Sentences on what is wrong, and how many loops were looked at."""
    wrong, looked_at = [], dict.fromkeys(wanted, 0)
    for name, code in functions(disassembly).items():
        loops = hot_loops(code)
        for word in wanted:
            if re.search(word, name):
                looked_at[word] += len(loops)
        for loop in loops:
            if stores := [text for text in loop if STORE.match(text)]:
                wrong.append(f"{name[:200]}\n    stores to the stack in a loop of {len(loop)} "
                             f"instructions:\n        " + "\n        ".join(stores[:4]))
    wrong += [f"no hot loop was found in any {word}" for word, count in looked_at.items()
              if count == 0]
    return wrong, sum(looked_at.values())


def flags_for(compiler, march):
    """-march=..., or what stands in for it; throws Failed where the compiler has neither."""
    for flags in ([f"-march={march}"], INSTEAD.get(march)):
        if flags and subprocess.run([compiler, *flags, "-x", "c++", "-E", "/dev/null"], check=False,
                                    capture_output=True).returncode == 0:
            return flags
    raise Failed(SKIPPED, f"{compiler} knows no -march={march}")


def disassemble(options):
    for tool in (options.compiler, options.objdump):
        if shutil.which(tool) is None:
            raise Failed(SKIPPED, f"{tool} is not here")
    flags = flags_for(options.compiler, options.march)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "hot.o"
        compiled = subprocess.run(
            [options.compiler, *FLAGS, *flags, *options.flags, "-c", options.source, "-o", target],
            check=False, capture_output=True, text=True)
        if compiled.returncode != 0:
            raise Failed(2, f"{options.source} does not compile:\n{compiled.stderr}")
        return subprocess.run([options.objdump, "-d", "-C", "--no-show-raw-insn", target], check=True,
                              capture_output=True, text=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", required=True, help="g++ or clang++, by name or path")
    parser.add_argument("--march", required=True, help="the processor")
    parser.add_argument("--source", type=Path, default=HERE / "hot_loops.cpp")
    parser.add_argument("--functions", nargs="+", default=FUNCTIONS, metavar="REGEX",
                        help="each finds the name of some function that has a hot loop")
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("flags", nargs="*", help="the compiler's, behind --")
    options = parser.parse_args()
    try:
        wrong, looked_at = judge(disassemble(options), options.functions)
    except Failed as failed:
        status, sentence = failed.args
        print(f"check.py: {'skipped: ' if status == SKIPPED else ''}{sentence}", file=sys.stderr)
        return status
    for sentence in wrong:
        print(f"FAILED: {sentence}")
    print(f"{options.compiler} -march={options.march}: {looked_at} hot loops, {len(wrong)} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
