"""The ImageNet columns of Table 5, for whoever has ImageNet: a vector trained at 224 pixels from files."""
