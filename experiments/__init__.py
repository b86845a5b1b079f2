"""Programs: train, evaluate and sample nvpjax's models on image data sets."""

import logging

# Orbax and tensorflow-datasets log there: every file, recommendations, tracebacks of errors that they raise as well.
logging.getLogger("absl").setLevel(logging.CRITICAL)
