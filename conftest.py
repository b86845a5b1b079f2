"""What pytest is not to import: modules for other libraries where these are not installed."""

from importlib.util import find_spec

LIBRARIES = {"numpyro": "numpyro", "distrax": "distrax", "tfp": "tensorflow_probability"}
ABSENT = [module for module, library in LIBRARIES.items() if find_spec(library) is None]
collect_ignore = [f"nvpjax/ecosystem/{module}.py" for module in ABSENT]
