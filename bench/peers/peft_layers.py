"""PEFT's layers around one frozen nn.Linear, each held against its definition."""

import warnings

import peft
import torch

import ours

LABELS = {
    "lora_r8": "LoRA r=8",
    "lora_r16": "LoRA r=16",
    "oft_b32": "OFT b=32",
    "oft_b32_exact": "OFT b=32, exact",
    "oft_b32_kept": "OFT b=32, kept",
    "hra_r8": "HRA r=8",
}
# Relative Frobenius error against float64; the adapters change y by several times as much.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2}
SPREAD = 0.05  # standard deviation of the parameters: far from PEFT's start, where W' = W


def config(method):
    """PEFT's configuration of a method; what is not named here is PEFT's default."""
    common = {"target_modules": ["linear"]}
    kind, size = method.split("_")[:2]
    number = int(size[1:])
    if kind == "lora":
        return peft.LoraConfig(r=number, lora_alpha=number, lora_dropout=0.0, **common)
    if kind == "hra":
        return peft.HRAConfig(r=number, apply_GS=False, **common)
    exact = {"use_cayley_neumann": False} if method.endswith("exact") else {}
    return peft.OFTConfig(r=0, oft_block_size=number, **exact, **common)


class Holder(torch.nn.Module):
    """The model that PEFT is given: one linear layer."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return self.linear(x)


def frozen_layer(out, width, dtype, device, seed=1):
    """A plain nn.Linear (out, in) without bias; its values drawn on the CPU from `seed`."""
    layer = torch.nn.utils.skip_init(torch.nn.Linear, width, out, bias=False, device=device,
                                     dtype=dtype)
    values = torch.randn(out, width, generator=torch.Generator().manual_seed(seed))
    layer.weight.requires_grad_(False).copy_(values / width**0.5)
    return layer


def adapted_layer(frozen, method, seed=2):
    """PEFT's own layer around `frozen`, whose weight it shares, with random parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(Holder(frozen), config(method))
    layer = model.base_model.model.linear
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable(layer):
            parameter.copy_(SPREAD * torch.randn(parameter.shape, generator=generator))
    if method.endswith("kept"):
        keep_rotation(layer)
    return layer


def keep_rotation(layer):
    """Lets an OFT layer compute R from its parameters once, where PEFT does so at every call."""
    rotation = layer.oft_R["default"]
    with torch.no_grad():
        kept = rotation._cayley_batch(rotation.weight, rotation.block_size,
                                      rotation.use_cayley_neumann,
                                      rotation.num_cayley_neumann_terms)
    rotation._cayley_batch = lambda *_: kept


def trainable(layer):
    return [parameter for parameter in layer.parameters() if parameter.requires_grad]


def dense_products(method, out, width):
    """Multiply-adds of PEFT's products of square matrices, at every call and for any x.

    Its HRA builds H (in, in), multiplies it with the identity, and W with that.
    """
    return width**2 * (width + out) if method.startswith("hra") else 0


def definition(layer, method, x):
    """y = x W'^T in float64, from the raw parameters by the method's equations."""
    x, weight = x.double(), layer.get_base_layer().weight.double()
    if method.startswith("lora"):
        a, b = (m["default"].weight.double() for m in (layer.lora_A, layer.lora_B))
        return x @ weight.T + (x @ a.T) @ b.T  # alpha = r: the scale is 1
    if method.startswith("hra"):
        for u in reversed(layer.hra_u["default"].double().unbind(1)):  # W' = W H_1 ... H_r
            x = x - 2 * torch.outer(x @ u, u) / (u @ u)
        return x @ weight.T
    rotation = layer.oft_R["default"]
    return rotated(x, rotation.weight.double(), rotation.block_size, "exact" in method) @ weight.T


def rotated(x, upper, size, exact):
    """x diag(R_i), where Q_i is skew with `upper` above its diagonal.

    exact: R = (I - Q)(I + Q)^-1. Else, with the other sign, the series of five terms that PEFT
    takes, R = I + 2 Q + 2 Q^2 + 2 Q^3 + Q^4.
    """
    rows, columns = torch.triu_indices(size, size, 1)
    q = x.new_zeros(len(upper), size, size)
    q[:, rows, columns] = upper
    q = q - q.transpose(1, 2)
    one = torch.eye(size, dtype=x.dtype, device=x.device)
    r = (one - q) @ torch.linalg.inv(one + q) if exact else (
        one + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q)
    blocks = x.reshape(len(x), len(upper), 1, size)
    return (blocks @ r).reshape(x.shape)


def check(layer, frozen, method, x):
    """Raises ours.Failure unless y is as the definition says, and not as the frozen layer says."""
    with torch.no_grad():
        want, plain = definition(layer, method, x), frozen(x).double()
        error = ((layer(x).double() - want).norm() / want.norm()).item()
        change = ((want - plain).norm() / want.norm()).item()
    tolerance = TOLERANCE[x.dtype]
    if not error <= tolerance:
        raise ours.Failure(f"{method}: y is {error:.1e} off its definition, over {tolerance:.0e}")
    if not change > 3 * tolerance:
        raise ours.Failure(f"{method}: the adapter changes y by {change:.1e} only, too little")


def forward_call(layer, x):
    """y = layer(x) for inference, to be called under torch.inference_mode()."""
    layer.eval()
    return lambda: layer(x)


def backward_call(layer, x, grad_y):
    """grad_x and the gradients of the trainable parameters, from a graph built once, untimed."""
    layer.train()
    x = x.detach().requires_grad_()
    y = layer(x)
    inputs = [x, *trainable(layer)]
    return lambda: torch.autograd.grad(y, inputs, grad_y, retain_graph=True)
