#!/usr/bin/env python3
"""Times ether's layers and PEFT's in one run, each as a ratio to its own frozen layer.

    python3 bench/peers/peers.py --out bench/results/peers

What is absent (torch, PEFT, ether_adapter_bench, matplotlib) is said and left out. Exit status 0:
done with what there is; 1: a result is wrong or a program failed; 2: a bad argument.
"""

import datetime
import importlib
import json
import os
import platform
import re
import sys
import warnings

sys.dont_write_bytecode = True

import options as arguments  # noqa: E402
import figures  # noqa: E402
import ours  # noqa: E402
import paired  # noqa: E402
import report  # noqa: E402


def find_packages():
    """{name: module or None}, with a sentence for each that is absent or cannot be imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded
    warnings.simplefilter("ignore")
    found = {}
    for name in ("torch", "transformers", "peft"):
        try:
            found[name] = importlib.import_module(name)
        except Exception as error:  # a package may fail in any way on another's version
            found[name] = None
            print(f"Absent: {name} ({(str(error) or repr(error)).splitlines()[0]})")
    if not all(found.values()):
        print("Left out: PEFT's layers, which need all of torch, transformers and peft")
    return found


def has_program(options):
    return options.bench.is_file() and os.access(options.bench, os.X_OK)


def devices(packages, options):
    """The devices to measure on. Raises ours.Failure where the one asked for is absent."""
    on_gpu = all(packages.values()) and packages["torch"].cuda.is_available()
    if options.device == "cuda" and not on_gpu:
        raise ours.Failure("--device cuda: this Python has no PEFT on a torch with a GPU")
    if options.device != "auto":
        return [options.device]
    return ["cpu", "cuda"] if on_gpu else ["cpu"]


def settings(packages, options, device):
    """What the numbers depend on, a line each."""
    found = {name: module.__version__ for name, module in packages.items() if module}
    lines = [report.figures.machine(options.threads),
             ", ".join([f"Python {platform.python_version()}"]
                       + [f"{name} {version}" for name, version in found.items()])]
    torch = packages["torch"]
    if torch:
        shown = torch.__config__.show().replace("\n", ", ").split(", ")
        kept = [part.strip(" -") for part in shown
                if any(word in part for word in ("BLAS_INFO", "MKL-DNN", "CPU capability"))]
        lines.append(f"torch: {torch.get_num_threads()} threads, " + ", ".join(kept))
    if device == "cuda":
        lines.append(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    lines.append(f"{options.segments} segments of up to {options.rounds} rounds; "
                 + datetime.datetime.now().astimezone().isoformat(timespec="seconds"))
    return lines


def run_program(shape, options, dtype, repetitions):
    """Adds what ether's program measures of one shape to repetitions."""
    expression = ours.pattern(options.operations, dtype, shape, options.ours, options.tokens)
    found = ours.read(ours.run(options.bench, expression, options.threads, options.bench_option))
    if not found:
        print(f"  {options.bench.name} has no benchmark that matches {expression}", flush=True)
    for key, values in found.items():
        repetitions.setdefault(key, []).extend(values)


def measure_shape(shape, packages, options, device, dtype):
    """(results, left_out) of one shape: Python and the program in turns, segment by segment."""
    repetitions, session = {}, None
    if all(packages.values()):
        import peft_session
        session = peft_session.Session(arguments.SHAPES[shape], device, dtype, options)
    for segment in range(options.segments):
        print(f"{device} {dtype} {shape}: segment {segment + 1} of {options.segments}", flush=True)
        if session:
            session.run_segment()
        if device == "cpu" and has_program(options):
            run_program(shape, options, dtype, repetitions)
    size = dict(zip(("out", "in"), arguments.SHAPES[shape]), shape=shape)
    results, left_out = [], {}
    if session:
        results = [{"library": "PEFT", "operation": operation, "tokens": tokens, "method": method,
                    "label": session.label(method), "parameters": session.parameters(method),
                    **size, **paired.summary(*segments), "segments": segments}
                   for (operation, tokens, method), segments in session.segments.items()]
        left_out = {(operation, shape, session.label(method)): took
                    for (operation, method), took in session.left_out.items()}
    results += [{"library": "ether", "operation": operation, "tokens": tokens, "method": method,
                 "label": figures.label(method), **size, **ours.combine(values),
                 "repetitions": values}
                for (operation, _, tokens, method), values in repetitions.items()]
    return results, left_out


def write(results, left_out, packages, options, device, dtype, lines):
    """DIR/peers-DEVICE-TYPE-torch-VERSION.json, .md, and a plot of each operation."""
    torch = packages["torch"]
    version = re.sub(r"[^0-9A-Za-z]+", "-", torch.__version__) if torch else "none"
    stem = options.out / f"peers-{device}-{dtype}-torch-{version}"
    options.out.mkdir(parents=True, exist_ok=True)
    title = f"ether beside PEFT: {device}, {dtype}"
    asked = {name: value for name, value in vars(options).items() if name not in ("out", "bench")}
    document = {"settings": lines, "options": asked, "device": device, "dtype": dtype,
                "left_out": [[*key, took] for key, took in left_out.items()], "results": results}
    paths = [stem.with_name(stem.name + ending) for ending in (".json", ".md")]
    paths[0].write_text(json.dumps(document, indent=1) + "\n")
    paths[1].write_text(report.text(title, lines, results, left_out))
    try:
        for operation in report.distinct(results, "operation"):
            paths += report.plot(f"{stem}-{operation}", results, operation, title)
    except ImportError:
        print("Left out: the plots, which need matplotlib")
    print(report.overview_text(results))
    print("Wrote", *paths, sep="\n  ")


def measure(packages, options, device, dtype):
    """All shapes on one device in one type. What there is when something fails is written too."""
    lines = settings(packages, options, device)
    print(*lines, sep="\n")
    results, left_out = [], {}
    try:
        for shape in options.shapes:
            more, slow = measure_shape(shape, packages, options, device, dtype)
            results += more
            left_out.update(slow)
    finally:
        if results:
            write(results, left_out, packages, options, device, dtype, lines)


def main():
    options = arguments.parse(__doc__.splitlines()[0])
    if options.self_test:
        import test_peers
        return test_peers.main()
    packages = find_packages()
    if packages["torch"]:
        packages["torch"].set_num_threads(options.threads)
    if not has_program(options):
        print(f"Left out: ether's own layers, since there is no program {options.bench}")
    if not all(packages.values()) and not has_program(options):
        print("Nothing is left to measure")
        return 0
    for device in devices(packages, options):
        for dtype in options.dtype:
            measure(packages, options, device, dtype)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ours.Failure, OSError) as failure:
        sys.exit(f"peers.py: {failure}")
    except KeyboardInterrupt:
        sys.exit("peers.py: interrupted")
