"""C-bar: fifteen corruptions that look unlike the nineteen (Mintun 2021, "On Interaction Between Augmentations and
Corruptions in Natural Corruption Robustness"; facebookresearch/augmentation-corruption, `imagenet_c_bar/`).

CIFAR-10-C-bar and ImageNet-C-bar have ten each. They show whether robustness carries over to corruptions that no one
has trained against. The published classes work on square images of one size. Here a place is drawn along each side of
the image, a length counts in shares of the shorter side, and on square images both are what the classes have.
"""
