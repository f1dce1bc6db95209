"""What the operators of PyTorch do, as far as their cost goes: which copy, which draw random numbers, which are norms.

Names are those of ``aten`` without overload. What stands in no set is elementwise work or a reduction, one operation
for each number that it reads or writes; matrix products are in ``products``.
"""

__all__ = [
    "ALLOCATIONS",
    "COPIES",
    "EMBEDDINGS",
    "LOSSES",
    "NORMS",
    "RANDOM",
    "RECURRENT",
    "SOFTMAXES",
    "is_uncounted",
]

ALLOCATIONS = frozenset(
    {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided", "resize_"}
)
COPIES = frozenset(
    {
        "_pack_padded_sequence", "_pad_packed_sequence", "_to_copy", "cat", "clone", "constant_pad_nd", "copy", "copy_",
        "flip", "gather", "index", "index_copy_", "index_put", "index_put_", "index_select", "repeat",
        "repeat_interleave", "roll", "scatter", "scatter_", "select_backward", "select_scatter", "slice_backward",
        "slice_scatter", "split_with_sizes_copy", "stack", "unfold_backward", "zero_",
    }
)  # fmt: skip
EMBEDDINGS = frozenset({"_embedding_bag", "_embedding_bag_forward_only", "embedding", "embedding_bag"})
LOSSES = frozenset(
    {
        "_ctc_loss", "_log_softmax", "binary_cross_entropy", "binary_cross_entropy_with_logits", "huber_loss", "kl_div",
        "mse_loss", "nll_loss2d_forward", "nll_loss_forward", "smooth_l1_loss", "soft_margin_loss",
    }
)  # fmt: skip
NORMS = frozenset(
    {
        "_batch_norm_no_update", "_batch_norm_with_update", "_fused_rms_norm", "_native_batch_norm_legit",
        "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "native_batch_norm", "native_group_norm",
        "native_layer_norm",
    }
)  # fmt: skip
RANDOM = frozenset(
    {
        "_fused_dropout", "bernoulli", "bernoulli_", "exponential_", "native_dropout", "normal_", "rand", "rand_like",
        "randint", "randint_like", "randn", "randn_like", "random_", "randperm", "uniform_",
    }
)  # fmt: skip
RECURRENT = frozenset({"_cudnn_rnn", "_thnn_fused_gru_cell", "_thnn_fused_lstm_cell", "miopen_rnn", "mkldnn_rnn_layer"})
SOFTMAXES = frozenset({"_safe_softmax", "_softmax"})

_KNOWN_NAMESPACES = ("aten", "prim", "prims", "profiler", "regard")
_PRODUCTS_WITHIN = (
    "_cdist", "_cholesky", "_dyn_quant", "_fft", "_grouped_mm", "_linalg", "_sparse", "_trilinear", "_weight_int",
    "addbmm", "cholesky", "fbgemm", "grid_sampler", "linalg_", "lu_", "ormqr", "triangular_solve",
)  # fmt: skip


def is_uncounted(namespace: str, name: str) -> bool:
    """Return whether an operator without a formula may do products that nobody has counted."""
    return namespace not in _KNOWN_NAMESPACES or name.startswith(_PRODUCTS_WITHIN)
