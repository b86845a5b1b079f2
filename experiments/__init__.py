"""Programs: train, evaluate and sample nvpjax's models on image data sets."""
