"""The data sets by name: one entry each."""

from __future__ import annotations

from dabench.registry.entries import DataEntry

DATASETS: dict[str, DataEntry] = {
    "digits": DataEntry(
        "dabench.datasets.digits.digits:Digits",
        "printed fonts -> real hand-written digits, 32 px, embedded (nothing to download)",
    ),
    "overhead": DataEntry(
        "dabench.datasets.overhead.overhead:Overhead",
        "drawn land-use scenes from above, 10 classes, embedded (nothing to download)",
    ),
    "streets": DataEntry(
        "dabench.datasets.streets.streets:Streets",
        "embedded: drawn driving scenes, two looks (avenue, oldtown), dense labels; 11 classes",
        kind="segmentation",
    ),
    "office31": DataEntry(
        "dabench.datasets.class_folders.class_folder:Office31",
        "Office-31: amazon, webcam, dslr; 31 classes",
    ),
    "office-home": DataEntry(
        "dabench.datasets.class_folders.class_folder:OfficeHome",
        "Office-Home: art, clipart, product, real world; 65 classes",
    ),
    "visda-c": DataEntry(
        "dabench.datasets.class_folders.class_folder:VisdaC",
        "VisDA-C 2017: synthetic -> real; 12 classes",
        per_class=True,
    ),
    "office-caltech10": DataEntry(
        "dabench.datasets.class_folders.class_folder:OfficeCaltech10",
        "Office-Caltech-10: amazon, caltech, dslr, webcam; 10 classes",
    ),
    "image-clef": DataEntry(
        "dabench.datasets.class_folders.class_folder:ImageClef",
        "ImageCLEF-DA (ImageNet-CLEF): bing, caltech, imagenet, pascal; 12 classes",
    ),
    "domainnet126": DataEntry(
        "dabench.datasets.class_folders.class_folder:DomainNet126",
        "DomainNet-126: clipart, painting, real, sketch; 126 classes, by lists",
    ),
    "pacs": DataEntry(
        "dabench.datasets.class_folders.class_folder:Pacs",
        "PACS: photo, art, cartoon, sketch; 7 classes",
    ),
    "aid": DataEntry(
        "dabench.datasets.class_folders.aerial:Aid",
        "AID: aerial scenes, one domain (clear); 30 classes",
    ),
    "ucm": DataEntry(
        "dabench.datasets.class_folders.aerial:Ucm",
        "UC Merced Land Use: aerial scenes, one domain (clear); 21 classes",
    ),
    "cifar10": DataEntry(
        "dabench.datasets.arrays.cifar:Cifar10",
        "CIFAR-10 as published, parts train and test; 10 classes",
    ),
    "cifar100": DataEntry(
        "dabench.datasets.arrays.cifar:Cifar100",
        "CIFAR-100 as published, parts train and test; 100 classes",
    ),
    "cifar10-c": DataEntry(
        "dabench.datasets.arrays.cifar_c:Cifar10C",
        "CIFAR-10-C: the published corruptions as shifts of streams; 10 classes",
    ),
    "cifar100-c": DataEntry(
        "dabench.datasets.arrays.cifar_c:Cifar100C",
        "CIFAR-100-C: the published corruptions as shifts of streams; 100 classes",
    ),
    "cifar10.1": DataEntry(
        "dabench.datasets.arrays.cifar101:Cifar101",
        "CIFAR-10.1: CIFAR-10 -> a new test set (v6, v4); 10 classes",
    ),
    "digit-files": DataEntry(
        "dabench.datasets.arrays.digit_sets:DigitFiles",
        "MNIST, USPS and SVHN in their published files; 10 classes",
    ),
    "cifar10-jpeg": DataEntry(
        "dabench.datasets.class_folders.cifar_jpeg:Cifar10Jpeg",
        "CIFAR-10 as lossy JPEG in class folders, with our own corruptions; 10 classes",
    ),
    "resisc45": DataEntry(
        "dabench.datasets.class_folders.aerial:Resisc45",
        "NWPU-RESISC45: aerial scenes, one domain (clear); 45 classes",
    ),
    "eurosat": DataEntry(
        "dabench.datasets.class_folders.aerial:EuroSat",
        "EuroSAT, RGB: satellite scenes, one domain (clear); 10 classes",
    ),
    "whu-rs19": DataEntry(
        "dabench.datasets.class_folders.aerial:WhuRs19",
        "WHU-RS19: aerial scenes, one domain (clear); 19 classes",
    ),
    "rsscn7": DataEntry(
        "dabench.datasets.class_folders.aerial:Rsscn7",
        "RSSCN7: aerial scenes, one domain (clear); 7 classes",
    ),
    "aerial-shared": DataEntry(
        "dabench.datasets.class_folders.aerial_shared:AerialShared",
        "two aerial sets as domains, over the classes that they share",
    ),
    "imagenet": DataEntry(
        "dabench.datasets.class_folders.imagenet:ImageNet",
        "ImageNet-1k: train, val; 1,000 classes, for models of others",
    ),
    "imagenet-r": DataEntry(
        "dabench.datasets.class_folders.imagenet:ImageNetR",
        "ImageNet-R: renditions; 200 of a model's 1,000 classes",
    ),
    "imagenet-a": DataEntry(
        "dabench.datasets.class_folders.imagenet:ImageNetA",
        "ImageNet-A: natural adversarial pictures; 200 of a model's 1,000 classes",
    ),
    "imagenet-v2": DataEntry(
        "dabench.datasets.class_folders.imagenet:ImageNetV2",
        "ImageNet-V2: matched-frequency, threshold0.7, top-images; 1,000 classes",
    ),
    "imagenet-sketch": DataEntry(
        "dabench.datasets.class_folders.imagenet:ImageNetSketch",
        "ImageNet-Sketch: sketches; 1,000 classes",
    ),
    "imagenet-c": DataEntry(
        "dabench.datasets.class_folders.imagenet_c:ImageNetC",
        "ImageNet-C: the published corruptions as shifts of streams; 1,000 classes",
    ),
    "imagenet-c-5000": DataEntry(
        "dabench.datasets.class_folders.imagenet_c:ImageNetC5000",
        "ImageNet-C, the 5,000 pictures of RobustBench's list; 1,000 classes",
    ),
    "camvid": DataEntry(
        "dabench.datasets.frame_folders.camvid:CamVid",
        "CamVid: driving by day, segmentation, one domain (day); 11 classes",
        kind="segmentation",
    ),
    "cityscapes": DataEntry(
        "dabench.datasets.frame_folders.driving:Cityscapes",
        "Cityscapes: driving by day, segmentation, one domain; 19 classes",
        kind="segmentation",
    ),
    "acdc": DataEntry(
        "dabench.datasets.frame_folders.driving:Acdc",
        "ACDC: Cityscapes -> fog, night, rain, snow, segmentation; 19 classes",
        kind="segmentation",
    ),
    "dark-zurich": DataEntry(
        "dabench.datasets.frame_folders.driving:DarkZurich",
        "Dark Zurich: Cityscapes -> night, segmentation; 19 classes",
        kind="segmentation",
    ),
    "gta5": DataEntry(
        "dabench.datasets.frame_folders.driving:Gta5",
        "GTA5 -> Cityscapes, segmentation; 19 classes",
        kind="segmentation",
    ),
    "synthia": DataEntry(
        "dabench.datasets.frame_folders.driving:Synthia",
        "SYNTHIA -> Cityscapes, segmentation; 16 classes, 13 as a subset",
        kind="segmentation",
    ),
    "crosscity": DataEntry(
        "dabench.datasets.frame_folders.driving:CrossCity",
        "CrossCity: Cityscapes -> Rome, Rio, Tokyo, Taipei, segmentation; 13 classes",
        kind="segmentation",
    ),
    "loveda": DataEntry(
        "dabench.datasets.frame_folders.above:LoveDA",
        "LoveDA: land cover from the air, rural -> urban, segmentation; 7 classes",
        kind="segmentation",
    ),
    "uavid": DataEntry(
        "dabench.datasets.frame_folders.above:UAVid",
        "UAVid: streets from a drone, segmentation, one domain (oblique); 8 classes",
        kind="segmentation",
    ),
    "image-folder": DataEntry(
        "dabench.datasets.class_folders.class_folder:ImageFolder",
        "any domain/class/*.jpg tree of your own",
    ),
    "arrays": DataEntry(
        "dabench.datasets.arrays.own_arrays:Arrays",
        "images of your own in .npy files; dabench.run(data=...) writes them",
    ),
    "frame-folder": DataEntry(
        "dabench.datasets.frame_folders.own_frames:OwnFrames",
        "frames and masks of your own, segmentation; classes.yaml names the classes",
        kind="segmentation",
    ),
    "manifest": DataEntry(
        "dabench.datasets.class_folders.manifest:Manifest",
        "images by a list of your own: a CSV or Parquet file with path, label, domain",
    ),
}
