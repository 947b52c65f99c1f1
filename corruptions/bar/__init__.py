"""C-bar: fifteen corruptions that look different from the other nineteen.

Sources: Mintun 2021, "On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness";
facebookresearch/augmentation-corruption, `imagenet_c_bar/`.

CIFAR-10-C-bar and ImageNet-C-bar have ten corruptions each. They show whether robustness carries over to corruptions
that no one has trained against. The published classes work on square images of one size. Here a place is drawn along
each side of the image, and a length is a share of the shorter side. On square images, both agree with the published
classes.
"""
