"""PEFT's layers of one shape, checked once, then timed in as many segments as wanted."""

import torch

import peft_layers
import timing


class Session:
    """segments: {(operation, tokens, method): [[(frozen seconds, layer's seconds)] of each segment]}.
    left_out: {(operation, method): seconds of a call}, of those too slow to be timed."""

    def __init__(self, size, device, dtype, options):
        self.device, self.options = device, options
        self.dtype = getattr(torch, dtype)
        self.clock = timing.Clock(torch, device)
        self.segments, self.left_out = {}, {}
        self.out, self.width = size
        self.frozen = peft_layers.frozen_layer(self.out, self.width, self.dtype, device)
        self.layers = {m: peft_layers.adapted_layer(self.frozen, m) for m in options.methods}
        for method in list(self.layers):
            self.leave_out_if_endless(method)
        for method, layer in self.layers.items():
            peft_layers.check(layer, self.frozen, method, self.random(4, self.width, seed=3))

    def leave_out_if_endless(self, method):
        """By the rate of the frozen layer, since even a first call could take an hour."""
        tokens = 64
        x = self.random(tokens, self.width, seed=4)
        with torch.inference_mode():
            took = min(self.clock.seconds(lambda: self.frozen(x)) for _ in range(3))
        products = peft_layers.dense_products(method, self.out, self.width)
        expected = took * products / (tokens * self.out * self.width)
        if expected > self.options.longest_call:
            self.left_out["forward", method] = expected
            self.left_out["backward", method] = 3 * expected  # two products for each
            del self.layers[method]

    def label(self, method):
        return peft_layers.LABELS[method]

    def parameters(self, method):
        return sum(p.numel() for p in peft_layers.trainable(self.layers[method]))

    def random(self, rows, columns, seed):
        values = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
        return values.to(self.device, self.dtype)

    def run_segment(self):
        for operation in self.options.operations:
            for tokens in self.options.tokens:
                with torch.inference_mode(operation == "forward"):
                    self.time(operation, tokens)

    def time(self, operation, tokens):
        """Adds one segment's pairs of one case to `segments`."""
        x = self.random(tokens, self.width, seed=4)
        grad_y = self.random(tokens, self.out, seed=5)

        def call(layer):
            if operation == "forward":
                return peft_layers.forward_call(layer, x)
            return peft_layers.backward_call(layer, x, grad_y)

        calls = {method: call(layer) for method, layer in self.layers.items()
                 if self.is_timed(operation, method)}
        pairs, left_out = timing.in_turns(self.clock, call(self.frozen), calls, self.options)
        self.left_out.update({(operation, method): took for method, took in left_out.items()})
        for method, values in pairs.items():
            self.segments.setdefault((operation, tokens, method), []).append(values)

    def is_timed(self, operation, method):
        """Not what was too slow before, and no backward pass of a rotation that is kept."""
        slow = any((one, method) in self.left_out for one in ("forward", operation))
        return not slow and not (operation == "backward" and method.endswith("kept"))
