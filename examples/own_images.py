"""Your own images: meta-train on a folder of class folders, adapt to a few new classes, classify files by path.

    python examples/own_images.py                           # draws its images itself, into a temporary folder
    python examples/own_images.py --root MANY --support NEW query1.jpg query2.jpg

MANY/CLASS/IMAGE.png are many classes to learn from; NEW/CLASS/IMAGE.png are a few images of each new class.
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from fewshot_kit import Learner, adapt, algorithms, datasets, evaluate, meta_train, models
from fewshot_kit.cli.output import without_traceback


def draw_images(folder: Path) -> None:
    """64 characters in `many/`; of three others, five drawings each in `new/` and two each in `queries/`."""
    glyphs = datasets.create("glyphs", classes=100, image_size=56)
    for split, classes in ((glyphs.train, len(glyphs.train.classes)), (glyphs.test, 3)):
        for number, name in enumerate(split.classes[:classes]):
            drawings = split.x[split.y == number][:, 0]
            for index, drawing in enumerate(drawings if split is glyphs.train else drawings[:7]):
                kind = "many" if split is glyphs.train else "new" if index < 5 else "queries"
                path = folder / kind / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((255 - drawing).numpy()).save(path)  # dark ink on white paper


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="class folders of many images to meta-train on")
    parser.add_argument("--support", type=Path, help="class folders with a few images of the new classes")
    parser.add_argument("queries", type=Path, nargs="*", help="images to classify")
    parser.add_argument("--image-size", type=int, default=28)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--episodes", type=int, default=200, help="test episodes")
    args = parser.parse_args()
    if bool(args.root) != bool(args.support and args.queries):
        parser.error("give --root, --support and the images to classify together, or none of them")

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.root is None:
            draw_images(folder)
            args.root, args.support = folder / "many", folder / "new"
            args.queries = sorted((folder / "queries").rglob("*.png"))

        data = datasets.create("folder", root=args.root, image_size=args.image_size)
        model = models.create("conv4", channels=data.train.channels, image_size=args.image_size, ways=5, seed=0)
        algorithm = algorithms.create("maml", model=model)
        budget = {"iterations": args.iterations, "validate_every": 50, "validation_episodes": 50}
        meta_train(algorithm, data, queries=5, meta_batch=8, meta_lr=3e-3, **budget)
        policy = {"batch_norm": "support"}  # so that what an image is does not depend on what else is asked with it
        print("held-back classes:", evaluate(algorithm, data.test, episodes=args.episodes, **policy))

        images, labels, _ = datasets.load_image_folder(args.support, data.transform)
        adapt(algorithm, (images, labels), steps=5, **policy).save(folder / "learner.safetensors")
        learner = Learner.load(folder / "learner.safetensors")  # in another program, say

        chances = learner.predict_proba(datasets.load_images(args.queries, data.transform))
        for path, row in zip(args.queries, chances, strict=True):
            shown = ", ".join(f"{name} {chance:.2f}" for name, chance in zip(learner.classes, row, strict=True))
            print(f"{path.parent.name}/{path.name} is {learner.classes[row.argmax()]} ({shown})")


if __name__ == "__main__":
    raise SystemExit(without_traceback(main, name="own_images.py"))
