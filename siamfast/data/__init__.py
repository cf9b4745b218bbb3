"""Training data: readers of annotations, curation, synthetic video, pairs and their augmentation."""
