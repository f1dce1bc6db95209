"""The native kernels give back what they take."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("regard_native", reason="needs regard-native: `make native` with a C++ compiler")

STATUS = Path("/proc/self/status")
MOST_BYTES = 2_000_000

# A process of its own: what other tests left to the collector would be given back meanwhile.
GROWTH = """
import gc, re, pathlib, torch
from regard.functional import attention, received_mass, row_statistics
from regard.functional.impl import native

native._PRODUCTS_OF_A_THREAD = 1
torch.set_num_threads(2)
calls = [
    [torch.randn(1, 2, length, 16).to(dtype).requires_grad_() for _ in range(3)]
    for length in (3, 17, 70) for dtype in (torch.float32, torch.bfloat16)
]

def run(count):
    for number in range(count):
        query, key, value = calls[number % len(calls)]
        output = attention(query, key, value, causal=True, impl="native")
        torch.autograd.grad(output.float().sum(), (query, key, value))
        row_statistics(query, key, statistics=["entropy", "distance"], causal=True, route="native")
        received_mass(query, key, causal=True)

def resident():
    gc.collect()
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\\s+(\\d+)", status).group(1)) * 1024

run(1000)
before = resident()
run(10_000)
print(resident() - before)
"""


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc, which says how much memory is resident")
def test_many_calls_keep_no_memory():
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MOST_BYTES
