"""Find the finished models of a study that have a network for each of its sensors."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from crodino_lib.data.sample import SensorSet
from crodino_lib.io import say
from crodino_lib.methods.registry import METHODS, parse_method
from crodino_lib.study.runs import Run, finished_run
from crodino_lib.study.study import Study


@dataclass(frozen=True)
class TrainedModel:
    """A model with a network of each of the study's sensors: one run that trains both, or one run of each.

    ``variant`` is the method with its settings, the same for all seeds, such as ``crodino-kd:c3``.
    """

    variant: str
    method: str  # its name in the registry
    seed: int
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """Its name in tables and figures."""
        return f"{self.variant} seed {self.seed}"


def find_models(study: Study, methods: Iterable[str] = (), seeds: Iterable[int] = ()) -> list[TrainedModel]:
    """Return the finished models of a study that have a network for each of its sensors.

    ``methods`` are names, as ``METHOD`` (all its variants) or ``METHOD:VARIANT``, ValueError for one that does not
    exist or has no finished model; all models where no methods, or no seeds, are given. Runs on other scenes than the
    dataset has now are left out, with a message.
    """
    wanted, seeds = {name: parse_method(name)[0] for name in methods}, set(seeds)
    models = [model for model in _models(study) if not seeds or model.seed in seeds]
    for name, method in wanted.items():
        if not any(name in (model.method, model.variant) for model in models):
            there = sorted({model.variant for model in models})
            raise ValueError(
                f"study {study.config.name} has no finished {name}{' of these seeds' if seeds else ''} with a network "
                f"of each of {' and '.join(study.config.sensors)}; it has {', '.join(there) or 'nothing'}. Train it "
                f"(methods of one sensor once for each): crodino run --study {study.config.name} --method {method} ..."
            )
    chosen = [model for model in models if not wanted or {model.method, model.variant} & set(wanted)]
    order = list(wanted.values() or METHODS)
    return sorted(chosen, key=lambda model: (order.index(model.method), model.variant, model.seed))


def _models(study: Study) -> list[TrainedModel]:
    """Group the runs of one variant, seed and teacher by the sensors that they have a network of alone."""
    folders = sorted((study.folder / "runs" / study.config.data.dataset).glob("*/*"))
    finished = [run for run in map(finished_run, folders) if run]
    same = [run for run in finished if run.record["dataset_fingerprint"] == study.fingerprint]
    if others := len(finished) - len(same):
        say(f"{others} finished runs are left out: their scenes are not those that {study.card.title} has here")
    groups: dict[tuple, dict[frozenset[str], Run]] = {}
    for run in same:
        students = [SensorSet.parse(name) for name in run.record["cost"]["students"]]
        alone = frozenset(names[0] for names in students if len(names) == 1)
        config = run.config
        groups.setdefault((run.name, config.method, config.seed, config.teacher), {})[alone] = run
    models = []
    for (*key, _), runs in groups.items():
        whole = [run for alone, run in runs.items() if alone >= set(study.config.sensors)]
        pair = [runs.get(frozenset({sensor})) for sensor in study.config.sensors]
        if chosen := whole[:1] or (pair if all(pair) else []):
            models.append(TrainedModel(*key, tuple(chosen)))
    names = [model.name for model in models]
    for index, model in enumerate(models):
        if names.count(model.name) > 1:  # one variant may have several teachers
            models[index] = replace(model, variant=f"{model.variant} taught by {model.runs[0].config.teacher}")
    return models
