"""Write PyTorch's own sample inputs of ``scaled_dot_product_attention`` to a file, for ``test_torch_samples``.

They stand in PyTorch's tests of all its operators. Importing those changes settings of PyTorch for the whole process
and takes seconds, so this program is run in a process of its own: ``python torch_samples.py FILE``.
"""

import sys
from pathlib import Path

import torch
from torch.testing._internal.common_methods_invocations import op_db

DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def main(file: Path) -> None:
    """Write name of the type -> samples, each the names and values of its arguments."""
    (operator,) = [entry for entry in op_db if entry.name == "nn.functional.scaled_dot_product_attention"]
    written = {}
    for dtype in DTYPES:
        torch.manual_seed(0)
        samples = operator.sample_inputs("cpu", dtype, requires_grad=False)
        written[str(dtype).removeprefix("torch.")] = [
            dict(zip(("query", "key", "value"), (sample.input, *sample.args), strict=True)) | sample.kwargs
            for sample in samples
        ]
    torch.save(written, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
