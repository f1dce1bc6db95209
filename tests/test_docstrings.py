"""Every example in a docstring runs and prints what it says."""

import ast
import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

import regard
from regard.models import Bert, BertConfig

SOURCE = Path(__file__).resolve().parent.parent / "src"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def examples() -> list[object]:
    """List (module, docstring) of every docstring with an example, read from the source, since a hook wraps objects."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            docstring = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            if docstring and ">>>" in docstring:
                found.append(pytest.param(module, docstring, id=f"{module}:{getattr(node, 'name', '')}"))
    return found


@pytest.fixture
def namespace(tmp_path: Path) -> dict[str, object]:
    """Return what an example may take as given: torch, numpy, regard, a folder, a small BERT and its inputs."""
    config = BertConfig(vocab_size=50, embed_dim=48, num_layers=2, num_heads=12, feed_forward_dim=48)
    given = {"np": np, "torch": torch, "regard": regard, "tmp_path": tmp_path}
    return {**given, "model": Bert(config).eval(), "inputs": torch.arange(16).reshape(2, 8)}


@pytest.mark.parametrize(("module", "docstring"), examples())
def test_docstring_example_does_what_it_says(module, docstring, namespace, monkeypatch):
    monkeypatch.chdir(namespace["tmp_path"])
    given = {**vars(importlib.import_module(module)), **namespace}
    test = doctest.DocTestParser().get_doctest(docstring, given, module, module, 0)
    said: list[str] = []

    doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(test, out=said.append)

    assert "".join(said) == ""
