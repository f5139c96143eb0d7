"""Fine-tune VGG16 to tell apart the classes of a folder of photographs, as the article does.

    python examples/finetune_vgg16.py dogscats -o dogscats.keras
    convcore predict dogscats.keras dogscats/valid --preprocess caffe --labels dogscats.labels.txt

The folder is laid out as the article's (Kaggle's Dogs vs. Cats): ``train/cats``, ``train/dogs``,
``valid/cats``, ``valid/dogs``, with JPEG or PNG files inside. Any class names will do; they are
numbered in sorted order, so cats = 0 and dogs = 1.

The steps are the article's: VGG16 with its ImageNet weights, the last layer taken off, all others
frozen, a new Dense layer with softmax on top, Adam at 0.001, one epoch, batches of 64. With two
classes the network has 134,268,738 parameters, of which 8,194 are trained. Two things differ: this is
``keras.applications``' VGG16, which has no Dropout between its Dense layers; and the mean subtraction
(RGB to BGR, minus 103.939, 116.779, 123.68, called "caffe" by Keras) is done to the pictures and is
not a layer of the model, so the saved file holds no ``Lambda`` and can be read by anyone.

Keras downloads the ImageNet weights (553 MB) unless ``--weights`` names a file with them, or
``--random`` asks for none, for a dry run. Needs Keras 3 with a backend, and Pillow. On a CPU, 23,000
photographs take hours; try ``--limit`` first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

IMAGE_SIZE = 224  # what the pre-trained Dense layers are made for
SUFFIXES = {".jpg", ".jpeg", ".png"}


class Photographs(keras.utils.PyDataset):
    """The pictures of a folder of class folders, in batches ready for VGG16.

    Gives (pictures, targets): float32 (n, size, size, 3) after caffe preprocessing, and one-hot
    float32 (n, classes). Pictures are squeezed to a square by ``load_img`` with nearest-neighbour
    resizing, its default, which is what ``convcore predict`` does as well. With a `seed` they are
    shuffled anew for every epoch; without, they come in sorted order.
    """

    def __init__(
        self, folder: Path, *, batch_size: int, size: int, limit: int | None = None, seed: int | None = None
    ) -> None:
        super().__init__()
        if not folder.is_dir():
            raise ValueError(f"{folder}: got no such folder, expected one with a folder per class")
        self.classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        self.files: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.classes):
            files = sorted(f for f in (folder / name).iterdir() if f.suffix.lower() in SUFFIXES)[:limit]
            if not files:
                raise ValueError(f"{folder / name}: got no picture, expected files ending in .jpg or .png")
            self.files += files
            labels += [label] * len(files)
        self.labels = np.array(labels, np.intp)
        self.order = np.arange(len(labels))
        self.batch_size = batch_size
        self.size = size
        self.rng = None if seed is None else np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        pictures = np.stack([self.read(self.files[row]) for row in rows])
        targets = np.eye(len(self.classes), dtype=np.float32)[self.labels[rows]]
        return keras.applications.vgg16.preprocess_input(pictures), targets

    def read(self, file: Path) -> np.ndarray:
        """Return one picture as RGB, float32 (size, size, 3), 0..255."""
        try:
            picture = keras.utils.load_img(file, target_size=(self.size, self.size))
        except OSError as error:
            raise ValueError(f"{file}: Pillow cannot read this picture") from error
        return keras.utils.img_to_array(picture)

    def on_epoch_end(self) -> None:
        if self.rng is not None:
            self.rng.shuffle(self.order)


def build(classes: int, size: int, weights: str | Path | None) -> keras.Model:
    """Return VGG16 with all layers frozen and a new, trainable softmax layer of `classes` on top.

    `weights` is "imagenet", the path of a weights file for the 1000-class VGG16 of
    ``keras.applications``, or None for random ones.
    """
    vgg = keras.applications.VGG16(weights=weights, input_shape=(size, size, 3))
    vgg.trainable = False
    outputs = keras.layers.Dense(classes, activation="softmax", name="classes")(vgg.get_layer("fc2").output)
    return keras.Model(vgg.input, outputs, name="vgg16_finetuned")


def confusion(model: keras.Model, photographs: Photographs) -> np.ndarray:
    """Return the counts (classes, classes), true class by row, answered class by column."""
    answers = model.predict(photographs, verbose=0).argmax(axis=1)
    counts = np.zeros((len(photographs.classes),) * 2, np.int64)
    np.add.at(counts, (photographs.labels, answers), 1)
    return counts


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a name to write to that becomes `path` only when all went well: half a GB takes a while."""
    partial = path.with_name(f"partial-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fine-tune VGG16 on a folder with train and valid inside.")
    parser.add_argument("folder", type=Path, help="holds train/CLASS/*.jpg and valid/CLASS/*.jpg")
    parser.add_argument("-o", "--output", type=Path, default=Path("vgg16_finetuned.keras"))
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--weights", type=Path, help="VGG16 weights file, instead of Keras's download")
    source.add_argument("--random", action="store_true", help="random weights: a dry run, learns nothing")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--limit", type=int, help="use at most so many pictures of each class folder")
    parser.add_argument("--seed", type=int, default=0, help="for the new layer and the shuffling")
    parser.add_argument(
        "--image-size",
        type=int,
        default=IMAGE_SIZE,
        help="side of the square; other than 224 with --random only",
    )
    args = parser.parse_args(argv)
    if args.image_size != IMAGE_SIZE and not args.random:
        parser.error(f"trained VGG16 weights need --image-size {IMAGE_SIZE}")
    if args.image_size < 32:
        parser.error("--image-size must be at least 32: VGG16 halves it five times")
    for name in ("epochs", "batch_size", "limit"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if args.output.suffix != ".keras":
        parser.error(f"{args.output.name}: a saved network's name must end in .keras")
    if args.weights is not None and not args.weights.is_file():
        parser.error(f"--weights: there is no file {args.weights}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    keras.utils.set_random_seed(args.seed)
    options = {"batch_size": args.batch_size, "size": args.image_size, "limit": args.limit}
    try:
        train = Photographs(args.folder / "train", seed=args.seed, **options)
        valid = Photographs(args.folder / "valid", **options)
        if train.classes != valid.classes or len(train.classes) < 2:
            raise ValueError(
                f"{args.folder}: got the classes {train.classes} in train and {valid.classes} in valid, "
                "expected the same two or more in both"
            )
        weights = None if args.random else args.weights or "imagenet"
        model = build(len(train.classes), args.image_size, weights)
    except (OSError, ValueError) as error:
        print(f"finetune_vgg16: {error}", file=sys.stderr)
        return 1

    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    print(f"{model.count_params():,} parameters, {trainable:,} of them trained")
    print(f"{len(train.labels)} pictures to train, {len(valid.labels)} to test")

    model.compile(
        optimizer=keras.optimizers.Adam(0.001), loss="categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(train, epochs=args.epochs, verbose="auto" if sys.stdout.isatty() else 2)

    counts = confusion(model, valid)
    print(f"valid: {np.trace(counts)} of {counts.sum()} right, {100 * np.trace(counts) / counts.sum():.2f} %")
    for name, row in zip(valid.classes, counts, strict=True):
        answers = ", ".join(f"{n} {answer}" for answer, n in zip(valid.classes, row, strict=True))
        print(f"  {name}: answered {answers}")

    labels = args.output.with_suffix(".labels.txt")
    with written_whole(args.output) as partial:
        model.save(partial)
    labels.write_text("\n".join(train.classes) + "\n", encoding="utf-8")
    print(f"Saved {args.output.name}, and the class names in {labels.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
