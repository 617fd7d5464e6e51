"""The 15 corruptions of ImageNet-C and CIFAR-C, written anew."""
