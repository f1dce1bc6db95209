import subprocess
import sys

import torch

from regard.data import collate

IDS = [[5, 6, 7], [8], [9, 9]]


def test_batch_is_padded_on_the_right_to_its_longest():
    input_ids, attention_mask = collate(IDS, [1, 2], pad_id=3)

    assert input_ids.tolist() == [[8, 3], [9, 9]]
    assert attention_mask.tolist() == [[True, False], [True, True]]


def test_types_are_those_of_a_model():
    input_ids, attention_mask = collate(IDS, [0, 1, 2], pad_id=0)

    assert (input_ids.dtype, attention_mask.dtype) == (torch.int64, torch.bool)
    assert attention_mask.sum(dim=1).tolist() == [3, 1, 2]


def test_document_of_padding_tokens_counts_as_real():
    _, attention_mask = collate([[0, 0], [1]], [0, 1], pad_id=0)

    assert attention_mask[0].all()


def test_room_needs_no_torch_until_batches_become_tensors():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import regard.data\n"
        "try:\n    regard.data.collate\n"
        "except ImportError:\n    print('blocked')"
    )

    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "blocked\n"
