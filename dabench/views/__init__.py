"""Views of images, batched on the device with parameters per image."""

from dabench.views.images import affine, blur, colour, erase, strong, weak

__all__ = ["affine", "blur", "colour", "erase", "strong", "weak"]
