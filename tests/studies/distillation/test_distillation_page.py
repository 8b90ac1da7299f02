"""What the chapter on distillation says of the networks that teach, on made-up results."""

from lib.runs.results import Result
from lib.studies.distillation.page import change_of_teacher

SMALL, LARGE = ({"type": "ResNetConfig", "widths": widths} for widths in ([4, 8], [8, 16]))


def run(spec, images, **metrics):
    return Result("distillation", "key", spec, metrics, {}, {}, {"data": {"name": "digits", "train": images}})


TEACHERS = [run({"seed": seed, "model": LARGE}, 1000, test_accuracy=0.8 + seed / 100) for seed in (0, 1)]
ALONE = [run({"seed": seed, "teacher": None}, 500) for seed in (0, 1)]


def taught(model, images):
    return [
        run({"seed": seed, "teacher": {"model": model}}, images, teacher_test_accuracy=0.5 + seed / 10) for seed in (0, 1) for _ in "ab"
    ]


def test_another_teacher_is_named_with_its_images_and_its_accuracy_once_a_seed():
    told = change_of_teacher(TEACHERS, [*ALONE, *taught(SMALL, 500)])
    for part in ("widths 8, 16,", "widths 4, 8,", "on 1,000 images", "on 500 images", "80.5 ±", "(n=2)", "55.0 ±", "6 transformers"):
        assert part in told, part


def test_nothing_is_said_where_one_network_teaches_all_or_nothing_was_run():
    assert change_of_teacher(TEACHERS, taught(LARGE, 1000)) == ""
    assert change_of_teacher([], taught(SMALL, 500)) == change_of_teacher(TEACHERS, []) == change_of_teacher(TEACHERS, ALONE) == ""
