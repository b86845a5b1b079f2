"""Imports run one way: bijector ← bijectors and combinators ← models; nets alone knows Flax; nothing knows programs."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
KNOWS_NETS = "nvpjax/models/"


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
            assert all(m.startswith("nvpjax.nets") for m in found if m.startswith("nvpjax")), f"{name} imports nvpjax"
        elif not name.startswith(KNOWS_NETS):
            assert not any(module.startswith("nvpjax.nets") for module in found), f"{name} imports nets"
        if name in {"nvpjax/training.py", "nvpjax/parallel.py", "nvpjax/objectives.py"}:
            assert not any("models" in m or "bijectors" in m for m in found), f"{name} knows a model"
        if name.startswith("nvpjax/bijectors/"):
            allowed = ("nvpjax.bijector", "nvpjax.bijectors")
            inner = {module for module in found if module.startswith("nvpjax")}
            assert all(module.startswith(allowed) for module in inner), f"{name} imports {inner}"
    assert not any(m.startswith("nvpjax") for m in imports(ROOT / "nvpjax/bijector.py"))
