"""What is trained on: images of tensorflow-datasets, embedded sets, densities of the plane."""
