"""Files of images: where they are, how they are decoded and kept."""
