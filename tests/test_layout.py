"""Imports run one way: bijector ← combinator ← combinators, bijectors ← models; Flax in nets alone, no programs.

And nothing but configs and models names a model: what is run is a value of the config.
"""

import ast
from pathlib import Path

import nvpjax
from nvpjax.models import MODELS

ROOT = Path(__file__).parent.parent
KNOWS_NETS = "nvpjax/models/"
LEVELS = ("event", "flow", "dequantization", "objectives", "training", "fit")
"""Each may import those before it."""


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_imports_run_one_way():
    for path in (ROOT / "nvpjax").rglob("*.py"):
        name, found = path.relative_to(ROOT).as_posix(), imports(path)
        in_nets = name.startswith("nvpjax/nets/")
        assert not any(module.split(".")[0] == "experiments" for module in found), name
        assert in_nets or not any(module.split(".")[0] == "flax" for module in found), f"{name} imports flax"
        if in_nets:
            inner = {module for module in found if module.startswith("nvpjax")}
            assert all(m.startswith(("nvpjax.nets", "nvpjax.values")) for m in inner), f"{name} imports {inner}"
        elif not name.startswith(KNOWS_NETS):
            assert not any(module.startswith("nvpjax.nets") for module in found), f"{name} imports nets"
        if name in {f"nvpjax/{level}.py" for level in (*LEVELS, "parallel")}:
            assert not any("models" in m or "bijectors" in m for m in found), f"{name} knows a model"
        if name in {f"nvpjax/{level}.py" for level in LEVELS}:
            above = LEVELS[LEVELS.index(path.stem) + 1 :]
            assert not found & {f"nvpjax.{level}" for level in above}, f"{name} imports what is built on it"
        if name.startswith("nvpjax/bijectors/"):
            allowed = ("nvpjax.bijector", "nvpjax.bijectors", "nvpjax.hashed", "nvpjax.values")
            inner = {module for module in found if module.startswith("nvpjax")}
            assert all(module.startswith(allowed) for module in inner), f"{name} imports {inner}"
        if name in {
            "nvpjax/combinator.py",
            "nvpjax/turns.py",
            "nvpjax/checkpointed.py",
            "nvpjax/testing/tolerances.py",
        }:
            combinators = ("nvpjax.chain", "nvpjax.multiscale", "nvpjax.parts", "nvpjax.repeat", "nvpjax.reversible")
            assert not any(module.startswith(combinators) for module in found), f"{name} knows a combinator"
    below = {m for m in imports(ROOT / "nvpjax/bijector.py") if m.startswith("nvpjax")}
    assert all(m.startswith("nvpjax.checked") for m in below), f"nvpjax/bijector.py imports {below}"
    for leaf in ("checked", "hashed", "values"):
        assert not any(m.startswith("nvpjax") for m in imports(ROOT / f"nvpjax/{leaf}.py"))
    known = {module.split(".")[1] for module in imports(ROOT / "nvpjax/combinator.py") if module.startswith("nvpjax.")}
    assert known == {"bijector", "places"}


OF_ECOSYSTEM = {"numpyro": {"numpyro"}, "distrax": {"distrax"}, "tfp": {"tensorflow_probability"}}
"""What a module of nvpjax/ecosystem imports beside jax: its own library. Any other imports none."""
ANYWHERE = {"__future__", "abc", "collections", "dataclasses", "jax", "math", "numpy", "nvpjax", "typing"}


def test_other_libraries_are_imported_by_their_own_module_alone():
    """None is a dependency: what is imported without one of them must not ask for it."""
    for path in (ROOT / "nvpjax").rglob("*.py"):
        name, found = path.relative_to(ROOT).as_posix(), imports(path)
        if path.parent.name == "ecosystem":
            roots = {module.split(".")[0] for module in found}
            assert roots <= ANYWHERE | OF_ECOSYSTEM.get(path.stem, set()), f"{name} imports {roots}"
            others = {f"nvpjax.ecosystem.{module}" for module in OF_ECOSYSTEM}
            assert not found & others, f"{name} imports another library's module"
        else:
            assert not any(module.startswith("nvpjax.ecosystem") for module in found), f"{name} imports ecosystem"
            assert not {module.split(".")[0] for module in found} & set().union(*OF_ECOSYSTEM.values()), name


FOLDERS = {
    "nvpjax": {"bijectors", "continuous", "distributions", "ecosystem", "models", "nets", "testing"},
    "experiments": {"bench", "configs", "configs/families", "data", "kit", "machine", "pictures", "runs"},
}
NAMES_A_MODEL = ("nvpjax/models/", "experiments/configs/", "experiments/bench/", "experiments/kit/")
"""Benches and the kit compare named models."""
NAMES_ONE = {"nvpjax/__init__.py", "experiments/toy2d.py"}
CLASSES = {model.__name__ for model in MODELS.values()}


def names(path: Path) -> set[str]:
    """What the code of a file names: docstrings and comments do not count."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found |= {node.name.split(".")[-1], node.asname or ""}
        elif isinstance(node, ast.Constant) and node.value in CLASSES:
            found.add(node.value)
    return found


def test_only_configs_and_models_name_a_model():
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(NAMES_A_MODEL) and name not in NAMES_ONE:
                assert not names(path) & CLASSES, f"{name} names {names(path) & CLASSES}: take it from the config"


def test_folders_are_those_of_the_design_and_each_says_what_it_is():
    for folder, expected in FOLDERS.items():
        inner = {path.parent.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob("*.py")} - {"."}
        assert inner == expected
        for path in (ROOT / folder).glob("*/__init__.py"):
            assert ast.get_docstring(ast.parse(path.read_text())), f"{path.relative_to(ROOT)} says nothing"


def test_every_model_has_a_row_in_the_tables_of_tests():
    files = ("zoo.py", "test_models.py", "test_continuous.py")
    rows = set().union(*(names(ROOT / "tests" / file) for file in files))
    assert rows >= CLASSES and names(ROOT / "tests/test_runs.py") >= CLASSES


def test_one_version_everywhere():
    version = nvpjax.__version__
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
