"""From numbers to PNG files: grids of images, and plots."""
