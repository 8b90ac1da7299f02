"""Searching a trained elastic network for the best sub-network within a budget, and measuring what was found."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lib.data.images import ImageSet, normalise
from lib.elastic.config import LAYER_AXES, Size
from lib.elastic.cost import cost
from lib.elastic.encode import random_sizes
from lib.elastic.extract import extract
from lib.elastic.latency import LatencyTable, network_latencies
from lib.elastic.predict import AccuracyPredictor
from lib.elastic.search import front, hypervolume, random_search, search
from lib.elastic.subnet import Policy
from lib.elastic.supernet import ElasticViT
from lib.measure import cost as measure
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.system.checks import require
from lib.system.precision import autocast
from lib.training.evaluate import evaluate_classifier

#: What a budget can be of.
COSTS = ("parameters", "flops", "latency_ms")

#: The evolutionary search, and what it must beat: as many random sizes, and all sizes whose layers are alike.
METHODS = ("search", "random", "uniform")

#: Images that go through a network at a time when its accuracy is measured.
CHUNK = 1000


@dataclass(frozen=True, kw_only=True)
class SubnetSearchRun(Spec):
    """Search the trained network of ``parent`` against parameters, against FLOPs and against latency.

    ``parent``             a trained elastic network, :class:`~lib.studies.elastic.vit.ElasticRun`
    ``samples``            random sub-networks whose measured accuracies the predictor learns from
    ``validation_images``  images that these accuracies are measured on
    ``check_images``       images that the accuracy of what was found is measured on; None: all validation images
    ``population``, ``generations``   of NSGA-II; random search has their product to look at
    ``members``            sub-networks of each front that are measured
    ``budgets``            fractions of the whole network's cost
    ``latency_batch``, ``rounds``     images of which latencies are, and how often each is timed
    ``policy``             which layers and experts stay

    Within a budget each method nominates the sub-network with the highest *predicted* accuracy.  All nominees'
    accuracies are measured on validation images; the search's are extracted, and each is tested once.
    """

    experiment: ClassVar[str] = "elastic-search"

    parent: Spec
    samples: int = 120
    validation_images: int = 1000
    check_images: int | None = None
    population: int = 48
    generations: int = 30
    members: int = 14
    budgets: tuple[float, ...] = (1.0, 0.75, 0.54, 0.36, 0.25, 0.15)
    latency_batch: int = 64
    rounds: int = 7
    policy: Policy = field(default_factory=Policy)

    def run(self, session: Session) -> Outcome:
        require(self.parent.space.elastic_axes, "the parent's network is rigid: there is nothing to search")
        images = self.parent.images(session)
        return Search(self, images, self.parent.network(images, session), session).outcome()


class Search:
    """One run: what is measured of each sub-network is kept, so that none is measured twice."""

    def __init__(self, spec: SubnetSearchRun, images: ImageSet, model: ElasticViT, session: Session):
        self.spec, self.images, self.model, self.session = spec, images, model, session
        self.space, self.precision = spec.parent.space, spec.parent.recipe.precision
        self.batch = normalise(images.validation.images[: spec.latency_batch], images)
        self.seconds: dict[str, float] = {}
        self.counted: dict[Size, dict[str, float]] = {}
        self.cut: dict[Size, dict[str, float]] = {}

    def outcome(self) -> Outcome:
        spec, space = self.spec, self.space
        with self.stage("sample", 0.0):
            drawn = random_sizes(space, spec.samples, spec.seed)
            sizes = list(dict.fromkeys([space.smallest, space.largest, *drawn]))[: spec.samples]
            accuracies = self.accuracies(sizes, spec.validation_images)
        with self.stage("predictor", 0.4):
            self.predictor = AccuracyPredictor.fit(space, sizes, accuracies, spec.seed)
        with self.stage("table", 0.45):
            self.table = LatencyTable.measure(self.model, space, self.batch, rounds=spec.rounds, precision=self.precision)
        with self.stage("search", 0.5):
            fronts = {name: self.fronts(name) for name in COSTS}
        with self.stage("check", 0.6):
            nominees = {(name, method): self.nominees(fronts[name][method], name) for name in COSTS for method in METHODS}
            members = {name: self.members(fronts[name]["search"], nominees[name, "search"].values(), name) for name in COSTS}
            wanted = [
                space.largest,
                *(size for part in nominees.values() for size in part.values()),
                *(size for part in members.values() for size in part),
            ]
            wanted = list(dict.fromkeys(wanted))
            self.checked = dict(zip(wanted, self.accuracies(wanted, spec.check_images)))
        with self.stage("extract", 0.85):
            self.extract(list(dict.fromkeys(size for name in COSTS for size in nominees[name, "search"].values())))

        arrays = {
            "samples": [
                {name: self.costs(size)[name] for name in COSTS} | {"val_accuracy": round(value, 5)}
                for size, value in zip(sizes, accuracies)
            ]
        }
        arrays |= {f"front_{name}": [self.row(size) for size in members[name]] for name in COSTS}
        arrays["budgets"] = [
            {"cost": name, "method": method, "budget": budget} | self.row(size)
            for (name, method), part in nominees.items()
            for budget, size in part.items()
        ]
        metrics = self.quality() | self.areas(fronts, nominees) | {"val_accuracy_whole": self.checked[space.largest]}
        metrics |= {f"whole_{name}": value for name, value in self.costs(space.largest).items()}
        metrics |= {f"seconds_{name}": value for name, value in self.seconds.items()}
        return Outcome(significant(metrics), {}, arrays, self.images.provenance())

    # Measuring

    def accuracies(self, sizes: Sequence[Size], images: int | None) -> list[float]:
        """Accuracy of each sub-network on the first validation images; every prefix of them has its share of each class."""
        held = self.images.validation
        inputs, labels = normalise(held.images[:images], self.images), held.labels[:images]
        return [self.accuracy(size, inputs, labels) for size in sizes]

    def accuracy(self, size: Size, inputs: Tensor, labels: Tensor) -> float:
        self.model.use(size, self.spec.policy)  # before inference mode, in which nothing that lasts should be made
        with torch.inference_mode(), autocast(inputs.device, self.precision):
            right = sum((self.model(x).argmax(1) == y).sum() for x, y in zip(inputs.split(CHUNK), labels.split(CHUNK)))
        return right.item() / len(labels)

    def costs(self, size: Size) -> dict[str, float]:
        """Parameters and FLOPs counted, latency by the table."""
        if size not in self.counted:
            exact = cost(size, self.model.config)
            self.counted[size] = {
                "parameters": exact.parameters,
                "active_parameters": exact.active_parameters,
                "flops": exact.flops,
                "latency_ms": float(f"{self.table.predict(size):.4g}"),
            }
        return self.counted[size]

    def extract(self, sizes: Sequence[Size]) -> None:
        """Cut sub-networks out, time them and their files, and look at the test set once for each."""
        networks = [extract(self.model.use(size, self.spec.policy)) for size in sizes]
        times = network_latencies(networks, self.batch, rounds=self.spec.rounds, precision=self.precision)
        for size, network, milliseconds in zip(sizes, networks, times):
            tested = evaluate_classifier(network, self.images.test, self.images, precision=self.precision)
            self.cut[size] = {
                "measured_ms": float(f"{milliseconds:.4g}"),
                "file_bytes": measure.file_bytes(network),
                "test_accuracy": round(tested["accuracy"], 5),
            }

    # Searching

    def fronts(self, name: str) -> dict[str, list[Size]]:
        """Each method's front of predicted accuracy against this cost, lowest cost first."""
        spec, space, accuracy = self.spec, self.space, self.predictor

        def spent(size: Size) -> float:
            return self.costs(size)[name]

        alike = list(space.sizes())
        return {
            "search": search(space, accuracy, spent, population=spec.population, generations=spec.generations, seed=spec.seed),
            "random": random_search(space, accuracy, spent, evaluations=spec.population * spec.generations, seed=spec.seed),
            "uniform": front(alike, accuracy(alike), [spent(size) for size in alike]),
        }

    def nominees(self, found: Sequence[Size], name: str) -> dict[float, Size]:
        """The best of a front within each budget; no entry where none of it is."""
        whole = self.costs(self.space.largest)[name]
        within = {budget: [size for size in found if self.costs(size)[name] <= budget * whole] for budget in self.spec.budgets}
        return {budget: sizes[-1] for budget, sizes in within.items() if sizes}

    def members(self, found: Sequence[Size], nominees: Iterable[Size], name: str) -> list[Size]:
        """A front thinned to those that are measured, lowest cost first: its nominees and others evenly spread over it,
        and the whole network.
        """
        kept = set(nominees)
        places = np.linspace(0, len(found) - 1, max(2, self.spec.members - len(kept))).round().astype(int)
        kept |= {found[place] for place in places} | {self.space.largest}
        return sorted(kept, key=lambda size: (self.costs(size)[name], size.label))

    # Telling

    def row(self, size: Size) -> dict:
        """All that is known of a sub-network; its layers' sizes as lists."""
        layers = {axis: None if getattr(size, axis) is None else [getattr(layer, axis) for layer in size.layers] for axis in LAYER_AXES}
        predicted = float(self.predictor([size])[0])
        return {
            "label": size.label,
            "depth": size.depth,
            **layers,
            **self.costs(size),
            "predicted_accuracy": round(predicted, 5),
            "val_accuracy": round(self.checked[size], 5),
            **self.cut.get(size, {}),
        }

    def quality(self) -> dict:
        """How well accuracy was predicted on held-out sub-networks, and latency on extracted ones."""
        judged = self.predictor.held_out
        error, agreement = self.table.validate(list(self.cut), [row["measured_ms"] for row in self.cut.values()])
        return {
            "predictor": self.predictor.model,
            "kendall_tau": judged.kendall_tau,
            "spearman": judged.spearman,
            "rmse": judged.rmse,
            "held_out": judged.n,
            "latency_error": error,
            "latency_tau": agreement.kendall_tau,
        }

    def areas(self, fronts: dict, nominees: dict) -> dict:
        """Hypervolumes: of each method's whole front as predicted, and of its nominees as measured."""
        found = {}
        for name in COSTS:
            whole = self.costs(self.space.largest)[name]
            for method in METHODS:
                sizes, few = fronts[name][method], list(nominees[name, method].values())
                found[f"hypervolume_{name}_{method}"] = hypervolume(
                    self.predictor(sizes), [self.costs(size)[name] for size in sizes], whole
                )
                found[f"measured_hypervolume_{name}_{method}"] = hypervolume(
                    [self.checked[size] for size in few], [self.costs(size)[name] for size in few], whole
                )
        return found

    @contextmanager
    def stage(self, name: str, part: float) -> Iterator[None]:
        self.session.report(part, name)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
