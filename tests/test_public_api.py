"""Every public name exists, is documented, and stands where one looks for it."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"
ROOMS = sorted(path.parent.name for path in (SOURCE / "regard").glob("*/__init__.py"))
MODULES = sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def public_objects(room: str) -> list[tuple[str, object]]:
    module = importlib.import_module(f"regard.{room}")
    return [(name, getattr(module, name)) for name in getattr(module, "__all__", ())]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_all_names_what_the_file_defines(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lists = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    if not lists:
        assert path.name.startswith("_") or not _public_definitions(tree), "a file with public names needs __all__"
        return
    (names,) = lists  # their order is ruff's RUF022
    assert len(names) == len(set(names))


def _public_definitions(tree: ast.Module) -> list[str]:
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_says_what_it_is(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))

    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":", "?", "!")), "the first line is a sentence"


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_exist_and_say_what_they_are(room):
    for name, found in public_objects(room):
        if inspect.isclass(found) or inspect.isroutine(found):
            docstring = inspect.getdoc(found)
            assert docstring, f"regard.{room}.{name} needs a docstring"
            assert docstring.splitlines()[0].endswith("."), f"the first line of regard.{room}.{name} is a sentence"


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_belong_to_their_room(room):
    for name, found in public_objects(room):
        if inspect.isclass(found) or inspect.isroutine(found):
            assert found.__module__.startswith(f"regard.{room}"), f"{name} is defined in {found.__module__}"


@pytest.mark.parametrize("room", ROOMS)
def test_public_functions_take_few_positional_arguments_and_name_the_options(room):
    for name, found in public_objects(room):
        if not inspect.isfunction(found):
            continue
        parameters = inspect.signature(found).parameters.values()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        assert len(positional) <= 5, f"regard.{room}.{name} takes {[p.name for p in positional]} by position"
