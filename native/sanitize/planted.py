"""Make one mistake on purpose, named on the command line, which the sanitizer of that name has to report.

``address`` reads past the last key, ``undefined`` writes the log-sum-exp between two numbers, ``thread`` lets a team's
threads write one output for all heads.
"""

import sys

import regard_native
import torch

fault = sys.argv[1]
query, lse = torch.zeros(1, 64, 64, 16), torch.zeros(64 * 64 + 1)
batch, head, row, _ = query.stride()
tensor = regard_native.Tensor(query.data_ptr(), regard_native.FLOAT32, batch, head, row)
output = torch.zeros_like(query)
call = regard_native.Call()
call.batch, call.heads, call.kv_heads, call.threads, call.scale = 1, 64, 64, 1 + (fault == "thread"), 1.0
call.q_len, call.kv_len, call.head_dim, call.value_dim = 64, 64 + 8 * (fault == "address"), 16, 16
call.query = call.key = call.value = tensor
call.output = regard_native.Tensor(output.data_ptr(), regard_native.FLOAT32, batch, head * (fault != "thread"), row)
call.lse = lse.data_ptr() + (fault == "undefined")
regard_native.run("forward", call)
