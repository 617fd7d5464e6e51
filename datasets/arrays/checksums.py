"""MD5 of published files, as their authors, Zenodo and the public loaders list them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

#: folder -> archive that it came out of, and the archive's MD5
ARCHIVES: Mapping[str, tuple[str, str]] = {
    "cifar-10-batches-py": ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    "cifar-10-batches-bin": ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    "cifar-100-python": ("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    "cifar-100-binary": ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
    "CIFAR-10-C": ("CIFAR-10-C.tar", "56bf5dcef84df0e2308c6dcbcbbd8499"),
    "CIFAR-100-C": ("CIFAR-100-C.tar", "11f0ed0f1191edbf9fa23466ae6021d3"),
}
#: folder/file -> MD5
FILES: Mapping[str, str] = {
    "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
    "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
    "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
    "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "CIFAR-10-C/gaussian_noise.npy": "ecaf8b9a2399ffeda7680934c33405fd",
    "CIFAR-10-C/shot_noise.npy": "3a7239bb118894f013d9bf1984be7f11",
    "CIFAR-10-C/impulse_noise.npy": "2090e01c83519ec51427e65116af6b1a",
    "CIFAR-10-C/speckle_noise.npy": "ef00b87611792b00df09c0b0237a1e30",
    "CIFAR-10-C/defocus_blur.npy": "7d1322666342a0702b1957e92f6254bc",
    "CIFAR-10-C/glass_blur.npy": "7361fb4019269e02dbf6925f083e8629",
    "CIFAR-10-C/motion_blur.npy": "fffa5f852ff7ad299cfe8a7643f090f4",
    "CIFAR-10-C/zoom_blur.npy": "6ea8e63f1c5cdee1517533840641641b",
    "CIFAR-10-C/gaussian_blur.npy": "c33370155bc9b055fb4a89113d3c559d",
    "CIFAR-10-C/snow.npy": "bb238de8555123da9c282dea23bd6e55",
    "CIFAR-10-C/frost.npy": "31f6ab3bce1d9934abfb0cc13656f141",
    "CIFAR-10-C/fog.npy": "7b397314b5670f825465fbcd1f6e9ccd",
    "CIFAR-10-C/brightness.npy": "0a81ef75e0b523c3383219c330a85d48",
    "CIFAR-10-C/spatter.npy": "8a5a3903a7f8f65b59501a6093b4311e",
    "CIFAR-10-C/contrast.npy": "3c8262171c51307f916c30a3308235a8",
    "CIFAR-10-C/elastic_transform.npy": "9421657c6cd452429cf6ce96cc412b5f",
    "CIFAR-10-C/pixelate.npy": "0f14f7e2db14288304e1de10df16832f",
    "CIFAR-10-C/jpeg_compression.npy": "2b9cc4c864e0193bb64db8d7728f8187",
    "CIFAR-10-C/saturate.npy": "1cfae0964219c5102abbb883e538cc56",
    "CIFAR-10-C/labels.npy": "c439b113295ed5254878798ffe28fd54",
    "CIFAR-100-C/gaussian_noise.npy": "ecc4d366eac432bdf25c024086f5e97d",
    "CIFAR-100-C/shot_noise.npy": "b0a1fa6e1e465a747c1b204b1914048a",
    "CIFAR-100-C/impulse_noise.npy": "3b3c210ddfa0b5cb918ff4537a429fef",
    "CIFAR-100-C/speckle_noise.npy": "e3f215b1a0f9fd9fd6f0d1cf94a7ce99",
    "CIFAR-100-C/defocus_blur.npy": "d923e3d9c585a27f0956e2f2ad832564",
    "CIFAR-100-C/glass_blur.npy": "0bf384f38e5ccbf8dd479d9059b913e1",
    "CIFAR-100-C/motion_blur.npy": "732a7e2e54152ff97c742d4c388c5516",
    "CIFAR-100-C/zoom_blur.npy": "0204613400c034a81c4830d5df81cb82",
    "CIFAR-100-C/gaussian_blur.npy": "5204ba0d557839772ef5a4196a052c3e",
    "CIFAR-100-C/snow.npy": "0237be164583af146b7b144e73b43465",
    "CIFAR-100-C/frost.npy": "3a39c6823bdfaa0bf8b12fe7004b8117",
    "CIFAR-100-C/fog.npy": "4efc7ebd5e82b028bdbe13048e3ea564",
    "CIFAR-100-C/brightness.npy": "f22d7195aecd6abb541e27fca230c171",
    "CIFAR-100-C/spatter.npy": "12ccf41d62564d36e1f6a6ada5022728",
    "CIFAR-100-C/contrast.npy": "322bb385f1d05154ee197ca16535f71e",
    "CIFAR-100-C/elastic_transform.npy": "a0792bd6581f6810878be71acedfc65a",
    "CIFAR-100-C/pixelate.npy": "96c00c60f144539e14cffb02ddbd0640",
    "CIFAR-100-C/jpeg_compression.npy": "c851b7f1324e1d2ffddeb76920576d11",
    "CIFAR-100-C/saturate.npy": "c0697e9fdd646916a61e9c312c77bf6b",
    "CIFAR-100-C/labels.npy": "bb4026e9ce52996b95f439544568cdb2",
    "mnist/train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "mnist/train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "mnist/t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "mnist/t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    "mnist/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "mnist/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "mnist/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "mnist/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    "svhn/train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "svhn/test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    "usps/usps.bz2": "ec16c51db3855ca6c91edd34d0e9b197",
    "usps/usps.t.bz2": "8ea070ee2aca1ac39742fdd1ef5ed118",
}


def differs(path: Path, listed: str) -> str | None:
    """Return how a file differs from the published one, or None; the listed ones alone differ.

    Args:
        path: the file, which is read whole, in parts.
        listed: its name in ``FILES``.
    """
    return _compare(path, listed, FILES[listed]) if listed in FILES else None


def archive_differs(place: Path, folder: str) -> list[str]:
    """Return how the archive of a folder differs, if it still lies in a place.

    Args:
        place: where the archive was unpacked.
        folder: its published name, a key of ``ARCHIVES``.
    """
    return differing_archives((place,), dict([ARCHIVES[folder]]))


def differing_archives(places: Iterable[Path], archives: Mapping[str, str]) -> list[str]:
    """Return how archives, where they still lie in these places, differ from the published ones.

    Args:
        places: folders.
        archives: file name -> MD5.
    """
    found = [
        _compare(place / name, name, md5)
        for place in places
        for name, md5 in archives.items()
        if (place / name).is_file()
    ]
    return [line for line in found if line]


def _compare(path: Path, listed: str, expected: str) -> str | None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found == expected:
        return None
    return f"{path} has the MD5 {found}, the published {listed} has {expected}"
