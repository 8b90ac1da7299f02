"""TinyBERT: a fine-tuned encoder distilled in two stages, before and during a task, with each part left out in turn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import nn

from lib.data.tasks import Task, TaskBatches, evaluate_task
from lib.distillation.bert_pair import TinyStudent, layers_loss, predictions_loss
from lib.distillation.replacement import augmented
from lib.distillation.tinybert import layer_map
from lib.measure import cost as measure
from lib.models.encoder import Classifier, Encoder, EncoderConfig, MaskedLM
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.weights import loaded
from lib.studies.tickets.finetune import FinetuneRun
from lib.studies.tickets.pretrain import PretrainRun, masked_batches
from lib.studies.tickets.text import material
from lib.system.checks import one_of, require
from lib.training.loop import Recipe, fit
from lib.training.losses import classification_loss

#: What a student learns of its teacher in the task-specific stage, or the task's labels.
LESSONS = ("layers, then answers", "answers", "labels")

#: Layers in the order of the teacher's that students' layers follow, see :func:`lib.distillation.tinybert.layer_map`.
MAPS = ("uniform", "top", "bottom")

#: Texts in a batch that latency is measured on.
LATENCY_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class GeneralRun(Spec):
    """First stage, general distillation: a student learns the pre-trained teacher's layers, on text without any task.

    ``parent``  the teacher; the student reads the same masked text, as in the released code
    ``model``   geometry of the student, with as many heads as the teacher; vocabulary and context are the teacher's
    ``map``     see :data:`MAPS`
    ``steps``   per epoch of the recipe
    """

    experiment: ClassVar[str] = "distillation-general"

    parent: PretrainRun
    model: EncoderConfig = field(default_factory=EncoderConfig)
    map: str = "uniform"
    recipe: Recipe = field(default_factory=Recipe)
    steps: int = 100

    def __post_init__(self) -> None:
        one_of("map", self.map, MAPS)
        require(
            self.model.heads_by_layer[0] == self.parent.model.heads_by_layer[0],
            f"a student of {self.model.heads} heads cannot follow the attention of {self.parent.model.heads}: give it as many",
        )
        layer_map(self.model.depth, self.parent.model.depth, self.map)

    @property
    def geometry(self) -> EncoderConfig:
        return small_geometry(self.model, self.parent)

    def run(self, session: Session) -> Outcome:
        read, teacher = material(self.parent.source), self.parent.load(session).encoder
        torch.manual_seed(self.seed)
        model = student(self.geometry, 2, read.special.pad, teacher).to(session.device)
        batches = masked_batches(self.parent, read.train, session.device, self.recipe.batch_size, self.steps, self.seed)
        layers = layer_map(self.model.depth, self.parent.model.depth, self.map)
        history = fit(
            model,
            batches,
            layers_loss(teacher, layers, None),
            self.recipe,
            seed=self.seed,
            checkpoint=session.checkpoint,
            report=session.report,
        )
        session.save_weights(model)
        curves = history.curves
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "parameters": measure.parameters(model.classifier.encoder),
            "teacher_parameters": measure.parameters(teacher),
            **{name: curves[name][-1] for name in ("attention", "hidden", "embedding")},
        }
        return Outcome(significant(metrics), significant(curves), data=read.provenance())

    def load(self, session: Session) -> TinyStudent:
        """The student after this stage with its two maps, in evaluation mode; trained first where it is not here."""
        model = student(self.geometry, 2, 0, self.parent.untrained(0).encoder)
        return loaded(self, model, session)


@dataclass(frozen=True, kw_only=True)
class TinyRun(Spec):
    """Second stage: a small classifier learns a task from a fine-tuned teacher, or from labels, and is tested once.

    ``teacher``   a fine-tuned encoder, whose task and pre-trained model are used
    ``model``     geometry of the student
    ``first``     where its encoder's weights come from: a :class:`GeneralRun` of this geometry, a pre-training of its own
                  (as the other studies have it), None: drawn at random
    ``lesson``    see :data:`LESSONS`; with layers, they get the first half of the epochs
    ``map``       see :data:`MAPS`
    ``copies``    of each example with words replaced.  The number of steps stays what it is without them, so the recipe's
                  epochs must be a multiple of (1 + copies) × stages
    """

    experiment: ClassVar[str] = "distillation-tinybert"

    teacher: FinetuneRun
    model: EncoderConfig = field(default_factory=EncoderConfig)
    first: GeneralRun | PretrainRun | None = None
    lesson: str = "layers, then answers"
    map: str = "uniform"
    copies: int = 0
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        one_of("lesson", self.lesson, LESSONS)
        one_of("map", self.map, MAPS)
        require(self.copies >= 0, f"copies is {self.copies}: it cannot be negative")
        require(self.first is None or self.first.model == self.model, "the first stage must have trained a student of this geometry")
        whole = len(self.stages) * (1 + self.copies)
        require(
            self.recipe.epochs % whole == 0,
            f"recipe.epochs is {self.recipe.epochs}: it must be a multiple of {whole}, the {len(self.stages)} stage(s) "
            f"times an example and its {self.copies} copies, so that all students have the same number of steps",
        )
        layer_map(self.model.depth, self.teacher.parent.model.depth, self.map)

    @property
    def stages(self) -> tuple[str, ...]:
        return ("layers", "answers") if self.lesson == LESSONS[0] else (self.lesson,)

    @property
    def parts(self) -> dict[str, Recipe]:
        """What is learnt in which order; an example and its copies count as one in an epoch."""
        epochs = self.recipe.epochs // (len(self.stages) * (1 + self.copies))
        return {name: replace(self.recipe, epochs=epochs) for name in self.stages}

    def run(self, session: Session) -> Outcome:
        parent, special = self.teacher.parent, material(self.teacher.parent.source).special
        task, teacher = self.teacher.task_on(session), self.teacher.load(session)
        torch.manual_seed(self.seed)
        model = student(small_geometry(self.model, parent), task.classes, special.pad, teacher.encoder).to(session.device)
        if self.first is not None:
            self.begin(model, self.first.load(session))
        split = augmented(task.train, parent.load(session), special, self.copies, seed=self.seed)
        layers = layer_map(self.model.depth, parent.model.depth, self.map)
        losses = {
            "layers": layers_loss(teacher.encoder, layers, special.pad),
            "answers": predictions_loss(teacher),
            "labels": classification_loss(self.recipe.label_smoothing),
        }

        def evaluate(model: nn.Module) -> dict[str, float]:
            return {f"val_{name}": value for name, value in evaluate_task(model, task.validation, precision=self.recipe.precision).items()}

        curves, metrics = {}, {"diverged": False, "train_seconds": 0.0}
        for name, recipe in self.parts.items():
            history = fit(
                model,
                TaskBatches(split, recipe.batch_size, self.seed),
                losses[name],
                recipe,
                seed=self.seed,
                evaluate=evaluate,
                checkpoint=session.checkpoint / name,
                report=session.report,
            )
            curves |= {f"{name}_{curve}": values for curve, values in history.curves.items()}
            metrics["diverged"] |= history.diverged
            metrics["train_seconds"] += history.seconds
        session.save_weights(model)
        metrics |= {
            "examples": len(split),
            "train_loss": history.curves["train_loss"][-1],
            **evaluate(model),
            **self.compared(model.classifier, teacher, task),
        }
        return Outcome(significant(metrics), significant(curves), data=task.provenance())

    @staticmethod
    def begin(model: TinyStudent, trained: TinyStudent | MaskedLM) -> None:
        """Take over the weights of a first stage: general distillation has trained the maps to the teacher's width as well,
        which the released code carries over, too; a pre-training of its own has trained a pooler.
        """
        if isinstance(trained, MaskedLM):
            model.classifier.pooler.load_state_dict(trained.pooler.state_dict())
            model.classifier.encoder.load_state_dict(trained.encoder.state_dict())
            return
        model.classifier.encoder.load_state_dict(trained.classifier.encoder.state_dict())
        model.hidden.load_state_dict(trained.hidden.state_dict())
        model.embedding.load_state_dict(trained.embedding.state_dict())

    def compared(self, model: Classifier, teacher: Classifier, task: Task) -> dict[str, float]:
        """Test accuracy of both, how often they agree, and what each costs."""
        precision = self.recipe.precision
        tokens = task.test.tokens[:LATENCY_BATCH]
        with torch.no_grad():
            agree = torch.cat([model(part).argmax(-1) == teacher(part).argmax(-1) for part in task.test.tokens.split(250)])
            calls = {"student": lambda: model(tokens), "teacher": lambda: teacher(tokens)}
            seconds = measure.take_turns(calls, 15, tokens.device)
        return {
            "test_accuracy": evaluate_task(model, task.test, precision=precision)["accuracy"],
            "teacher_test_accuracy": evaluate_task(teacher, task.test, precision=precision)["accuracy"],
            "agreement": agree.float().mean().item(),
            "parameters": measure.parameters(model),
            "teacher_parameters": measure.parameters(teacher),
            "flops": measure.flops(model, tokens[:1]),
            "teacher_flops": measure.flops(teacher, tokens[:1]),
            "speedup": 1 / measure.ratio(seconds["student"], seconds["teacher"])["ratio"],
        }


def small_geometry(model: EncoderConfig, parent: PretrainRun) -> EncoderConfig:
    """The student's, with the vocabulary and the context of its teacher."""
    return replace(model, vocabulary=parent.geometry.vocabulary, context=parent.geometry.context)


def student(config: EncoderConfig, classes: int, pad: int, teacher: Encoder) -> TinyStudent:
    """A student with fresh weights."""
    return TinyStudent(Classifier(Encoder(config), classes, pad), teacher.config.width)
