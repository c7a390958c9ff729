#!/usr/bin/env python3
"""Times PyTorch on the shapes of moecast_gpu_bench: scaled-dot-product attention (causal, BF16) and a dropless MoE layer in
eager mode. Prints a table; with --bench FILE (the JSON lines of moecast_gpu_bench) also our speed over PyTorch's.
Needs PyTorch with CUDA, nothing else. Exit code 0, or 4 where PyTorch or a GPU is missing."""
import argparse
import json
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("torch_compare: PyTorch is not installed")
    sys.exit(4)

ATTENTION = [(8, 2048, 16, 16, 64), (4, 4096, 16, 16, 128), (1, 16384, 16, 16, 128), (4, 4096, 32, 8, 128),
             (16, 1024, 16, 16, 64)]
MOE = [(8192, 2048, 8192, 8, 2), (16384, 2048, 1024, 64, 8), (8192, 1024, 4096, 8, 2)]


def seconds(call):
    """Median of seven samples by device events, at least 2 ms each."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def sample(count):
        start.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / count

    sample(3)
    count = max(1, min(200, int(2.0 / max(sample(3), 1e-3)) + 1))
    return sorted(sample(count) for _ in range(7))[3] * 1e-3


def attention_times(batch, sequence, heads, kv_heads, dim):
    def tensor(count):
        return torch.randn(batch, count, sequence, dim, device="cuda", dtype=torch.bfloat16, requires_grad=True)

    q, k, v = tensor(heads), tensor(kv_heads), tensor(kv_heads)
    grouped = heads != kv_heads

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)

    with torch.no_grad():
        forward_seconds = seconds(forward)
    out = forward()
    dout = torch.randn_like(out)

    def both():
        q.grad = k.grad = v.grad = None
        forward().backward(dout)

    return forward_seconds, seconds(both) - forward_seconds


class EagerMoe(torch.nn.Module):
    """Router, top-k, a loop over the experts with index_select and index_add: what people write first."""

    def __init__(self, d, f, experts, k):
        super().__init__()
        self.k = k
        self.experts = experts
        self.gate = torch.nn.Linear(d, experts, bias=False)
        self.w1 = torch.nn.Parameter(torch.randn(experts, d, f) * 0.02)
        self.w2 = torch.nn.Parameter(torch.randn(experts, f, d) * 0.02)

    def forward(self, x):
        scores = torch.softmax(self.gate(x).float(), dim=-1)
        weight, chosen = torch.topk(scores, self.k, dim=-1)
        weight = (weight / weight.sum(-1, keepdim=True)).to(x.dtype)
        out = torch.zeros_like(x)
        for e in range(self.experts):
            token, choice = torch.where(chosen == e)
            rows = x.index_select(0, token)
            rows = F.gelu(rows @ self.w1[e]) @ self.w2[e]
            out.index_add_(0, token, rows * weight[token, choice, None])
        return out


def moe_times(tokens, d, f, experts, k):
    layer = EagerMoe(d, f, experts, k).to("cuda", torch.bfloat16)
    x = torch.randn(tokens, d, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    dout = torch.randn_like(x)
    with torch.no_grad():
        forward_seconds = seconds(lambda: layer(x))

    def both():
        layer.zero_grad(set_to_none=True)
        x.grad = None
        layer(x).backward(dout)

    return forward_seconds, seconds(both)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", help="JSON lines written by moecast_gpu_bench --json")
    parser.add_argument("--json", help="write JSON lines here")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("torch_compare: no GPU")
        sys.exit(4)
    ours = {}
    if options.bench:
        with open(options.bench, encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                ours[row["operation"], row["shape"]] = row["seconds"]
    output = open(options.json, "w", encoding="utf-8") if options.json else None
    print(f"\nPyTorch {torch.__version__} on {torch.cuda.get_device_name()}")
    print(f"{'operation':<24} {'shape':<28} {'PyTorch':>11} {'rate':>15} {'moecast':>11} {'speed':>7}  wanted")

    def report(operation, shape, time, flops, wanted):
        mine = ours.get((operation, shape))
        ratio = time / mine if mine else 0
        text = f"{mine * 1e6:8.1f} us" if mine else ""
        share = f"{ratio:.2f}" if mine else ""
        flag = "" if not mine or ratio >= wanted else "  below"
        print(f"{operation:<24} {shape:<28} {time * 1e6:8.1f} us {flops / time * 1e-12:7.1f} TFLOP/s {text:>11} "
              f"{share:>7}  {wanted}{flag}", flush=True)
        if output:
            output.write(json.dumps({"operation": operation, "shape": shape, "seconds": time, "moecast_seconds": mine,
                                     "speed": ratio, "wanted": wanted}) + "\n")

    for batch, sequence, heads, kv_heads, dim in ATTENTION:
        forward, backward = attention_times(batch, sequence, heads, kv_heads, dim)
        shape = f"b{batch} s{sequence} h{heads}/{kv_heads} d{dim}"
        flops = 2.0 * batch * heads * dim * sequence * sequence
        report("attention", shape, forward, flops, 0.5)
        report("attention backward", shape, backward, 2.5 * flops, 0.5)
        torch.cuda.empty_cache()
    for tokens, d, f, experts, k in MOE:
        forward, both = moe_times(tokens, d, f, experts, k)
        shape = f"T{tokens} d{d} f{f} E{experts} k{k}"
        flops = 4.0 * tokens * k * d * f
        report("moe forward", shape, forward, flops, 1.2)
        report("moe forward+backward", shape, both, 3 * flops, 1.2)
        torch.cuda.empty_cache()


main()
