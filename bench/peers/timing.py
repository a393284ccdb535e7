"""Times calls in turns: every round runs the frozen layer and each method, in a rotating order."""

import math
import time


class Clock:
    """Seconds of one call: wall time on the CPU; between two events of the stream on a GPU."""

    def __init__(self, torch, device):
        self.cuda = torch.cuda if device == "cuda" else None

    def seconds(self, call, times=1):
        if self.cuda:
            return self._between_events(call, times)
        start = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - start) / times

    def _between_events(self, call, times):
        start, end = (self.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(times):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / times


class Contestant:
    """A call with how often it runs in one turn, and in which of the rounds it takes part."""

    def __init__(self, clock, call, options):
        self.clock, self.call = clock, call
        self.first_s = clock.seconds(call)
        self.left_out = self.first_s > options.longest_call
        fast = self.first_s < 0.1  # so that the first call's own costs may be most of it
        once = min(clock.seconds(call) for _ in range(3)) if fast else self.first_s
        self.short = once < options.least_turn
        self.times = max(1, math.ceil(options.least_turn / once))
        affordable = max(1, int(options.budget / (once * self.times)))
        self.every = math.ceil(options.rounds / min(options.rounds, affordable))

    def turn(self):
        """Seconds of one call; a short one runs untimed before, so that its caches are warm."""
        if self.short:
            self.call()
        return self.clock.seconds(self.call, self.times)


def in_turns(clock, frozen, calls, options):
    """(pairs, left_out): {method: [(frozen seconds, method seconds)]}, {method: seconds it took}.

    A turn lasts at least options.least_turn seconds. A method that could not take all
    options.rounds turns within options.budget seconds takes part in every second, third, ... round,
    at least in the first; one whose first call exceeds options.longest_call is left out.
    """
    contestants = {name: Contestant(clock, call, options) for name, call in calls.items()}
    left_out = {name: c.first_s for name, c in contestants.items() if c.left_out}
    contestants = {name: c for name, c in contestants.items() if not c.left_out}
    base = Contestant(clock, frozen, options)
    pairs = {name: [] for name in contestants}
    for number in range(options.rounds):
        present = {name: c for name, c in contestants.items() if number % c.every == 0}
        if not present:
            continue
        order = ["frozen", *present]
        order = order[number % len(order):] + order[:number % len(order)]
        took = {name: (base if name == "frozen" else present[name]).turn() for name in order}
        for name in present:
            pairs[name].append((took["frozen"], took[name]))
    return pairs, left_out
