"""The laboratory of a study: latents of its models and of their nulls, and what they answer; kept with the runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import nn

from crodino_lib.analysis import ablation
from crodino_lib.analysis.answers import ablation_answers, answer
from crodino_lib.analysis.extraction import Latents, Unit, extract
from crodino_lib.analysis.image_statistics import picture_statistics
from crodino_lib.analysis.null_comparison import beside_nulls
from crodino_lib.analysis.null_models import strangers
from crodino_lib.analysis.suite import ALL, ROW_KEYS, questions
from crodino_lib.analysis.trained_models import TrainedModel, find_models
from crodino_lib.config import TRAINING_VERSION, AnalysisConfig, choose
from crodino_lib.io import atomic_write, bar, read_table, say
from crodino_lib.methods.registry import build_method
from crodino_lib.study.runs import Run
from crodino_lib.study.study import Study

BATCH = 16


class Laboratory:
    """Latents and findings of a study's models, made when first asked for.

    Args:
        study: the study.
        split: which scenes; never those that were trained on, unless asked.
        budget: how much is looked at; as the study's profile has it where none is given.
    """

    def __init__(self, study: Study, split: str = "test", budget: AnalysisConfig | None = None):
        self.study, self.split = study, choose(split, study.card.splits, "split")
        self.budget = budget or study.config.budget()

    @cached_property
    def targets(self) -> pd.DataFrame:
        """What probes are asked for: the scenes' recorded factors, if there are any, and statistics of the pictures."""
        scenes = self.study.scenes[self.split]
        measured = picture_statistics(scenes, self.study.config.sensors).add_prefix("seen ")  # not what was recorded
        if scenes.factors is None:
            return measured
        return pd.concat([scenes.factors.set_axis(scenes.ids), measured], axis=1)

    def latents(self, subject: TrainedModel, trained: bool = True) -> dict[Unit, Latents]:
        """Latents of a model, or of its network before training: from the runs' folders, else extracted now."""
        parts = [self._of_run(run, subject.sensors, trained) for run in subject.runs]
        if len(parts) == 1:
            return parts[0]
        return {unit: strangers(*(part[unit] for part in parts)) for unit in ALL}

    def _of_run(self, run: Run, sensors: tuple[str, ...], trained: bool) -> dict[Unit, Latents]:
        told = [self.study.fingerprint, run.record, TRAINING_VERSION]
        stem = f"{self.split}-{'trained' if trained else 'untrained'}-{_digest(told)}"
        files = {unit: run.folder / "latents" / f"{stem}-{unit}.npz" for unit in ALL}
        if all(file.exists() for file in files.values()):
            return {unit: Latents.load(file) for unit, file in files.items()}
        if trained:
            method = run.method(self.study.card)
        else:
            method = build_method(run.config, self.study.card).eval()
            method.export()
        served = tuple(sensor for sensor in sensors if sensor in method.students)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        scenes = self.study.scenes[self.split]
        method = method.to(device, memory_format=torch.channels_last)
        found = extract(method, scenes, self.study.card, served, BATCH, device)
        for unit, file in files.items():
            found[unit].save(file)
        return found

    def students(self, subject: TrainedModel) -> dict[str, nn.Module]:
        """Sensor -> its trained network, on the CPU."""
        methods = [run.method(self.study.card).to(memory_format=torch.channels_last) for run in subject.runs]
        return {
            sensor: next(method.students[sensor] for method in methods if sensor in method.students)
            for sensor in subject.sensors
        }

    def examine(self, subjects: Iterable[TrainedModel]) -> pd.DataFrame:
        """Everything asked of every model and of its nulls.

        Returns:
            One row per model, unit, question, measure and place: ``model``, ``row``, ``method``, ``seed``, those of
            ``latents.laboratory.ask`` and of ``beside_nulls``. N2 is empty where the study has no baselines of the
            model's seed.
        """
        subjects, baselines = list(subjects), self._baselines()
        jobs = {job: asked for subject in subjects for job, asked in self._jobs(subject, baselines).items()}
        answers = self._answers(jobs)
        ablations = {name: self.ablations(subject) for (name, null), (subject, _) in jobs.items() if null == "value"}
        paired = {name: question.paired for name, question in questions(self.budget, self.targets).items()}
        paired["ablation"] = [*ablation.PAIRED, *(name.replace("miou", "lost") for name in ablation.PAIRED)]
        for subject in subjects:
            if subject.seed not in baselines:
                say(f"{subject.name}: no baselines of seed {subject.seed}, so N2 is missing and little is called out")
        tables = []
        for subject in subjects:
            own = {null: answers[subject.name, null] for null in ("value", "N1", "N3", "N4")}
            own = {null: _joined([found, ablations[subject.name].get(null)]) for null, found in own.items()}
            if subject.seed in baselines:
                stranger = baselines[subject.seed].name
                own["N2"] = _joined([answers[stranger, "value"], ablations[stranger].get("value")])
            table = beside_nulls(own.pop("value"), own, paired)
            table.insert(0, "model", subject.name)
            table.insert(1, "row", subject.row)
            table.insert(2, "method", subject.method)
            table.insert(3, "seed", subject.seed)
            tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def examined(self) -> list[TrainedModel]:
        """The models of the study that were examined before with this budget, and need no further work."""
        baselines = self._baselines()
        return [
            subject
            for subject in find_models(self.study)
            if self._file(subject, "ablation").exists()
            and all(self._file(s, f"answers-{null}").exists() for s, null in self._jobs(subject, baselines).values())
        ]

    def _baselines(self) -> dict[int, TrainedModel]:
        """Seed -> the two baselines of that seed: N2."""
        return {subject.seed: subject for subject in find_models(self.study) if subject.method == "baseline"}

    @staticmethod
    def _jobs(subject: TrainedModel, baselines: Mapping[int, TrainedModel]) -> dict[tuple, tuple[TrainedModel, str]]:
        """Whom to ask about a model: itself, its nulls, and the baselines of its seed."""
        jobs = {(subject.name, null): (subject, null) for null in ("value", "N1", "N3", "N4")}
        if subject.seed in baselines:
            jobs[baselines[subject.seed].name, "value"] = (baselines[subject.seed], "value")
        return jobs

    def _answers(self, jobs: Mapping[tuple, tuple[TrainedModel, str]]) -> dict[tuple, pd.DataFrame]:
        """The answers of every model or null, on all cores; those that were given before are read."""
        files = {job: self._file(subject, f"answers-{null}") for job, (subject, null) in jobs.items()}
        missing = {job: pair for job, pair in jobs.items() if not files[job].exists()}
        for name, trained in bar(dict.fromkeys((s.name, n != "N1") for s, n in missing.values()), label="latents"):
            self.latents(next(subject for subject, _ in missing.values() if subject.name == name), trained)
        if missing:
            say(f"asking {len(missing)} models and nulls; {self.budget}")
        tasks = Parallel(n_jobs=-1, return_as="generator_unordered")(
            delayed(answer)(self.latents(subject, null != "N1"), null, self.budget, self.targets, files[job])
            for job, (subject, null) in missing.items()
        )
        for _ in bar(tasks, total=len(missing), label="questions", unit="model"):
            pass
        return {job: _read(file).fillna({"where": ""}) for job, file in files.items()}

    def ablations(self, subject: TrainedModel) -> dict[str, pd.DataFrame]:
        """mIoU with a half replaced, of the model (``value``), with channels dealt anew (N3), swapped elsewhere (N4).

        Empty, and said so, for networks whose decoder does not see both halves side by side.
        """
        file = self._file(subject, "ablation")
        if not file.exists():
            found = pd.DataFrame(columns=["null", *ROW_KEYS, "value", "rows", "images"])
            try:
                found = ablation_answers(
                    self.students(subject), self.study.scenes[self.split], self.study.card, self.budget
                )
            except ValueError as error:
                say(f"{subject.name}: no ablation: {error}")
            with atomic_write(file) as path:
                found.to_csv(path, index=False)
        found = _read(file)
        return {null: part.drop(columns="null") for null, part in found.groupby("null")}

    def caption(self, table: pd.DataFrame) -> str:
        """Which scenes, how many rows, permutations, shuffles, steps and seeds are behind the numbers."""
        rows, budget = table.groupby("unit")["rows"].max(), self.budget
        looked = ", ".join(f"{rows[unit]:.0f} {unit}s" for unit in ALL if unit in rows)
        replaced = table.loc[table["question"] == "ablation", "images"].max()
        halves = f"; halves replaced in {replaced:.0f} scenes" if replaced > 0 else ""
        return (
            f"{self.study.card.title}, split {self.split}, {table['images'].max():.0f} scenes: {looked} (at most "
            f"{budget.rows}){halves}; {budget.shuffles} shuffles, {budget.steps} steps of perceptrons; "
            f"seeds {', '.join(map(str, sorted(set(table['seed']))))}. {self.study.caveat()}"
        )

    @property
    def suffix(self) -> str:
        """What files about another split than test end with."""
        return "" if self.split == "test" else f"_{self.split}"

    def kept(self, subject: TrainedModel, name: str, *depends_on: object) -> Path:
        """Where something found about a model is kept, with the run: what it depends on is in the file's name.

        Args:
            subject: the model.
            name: the file's, with its suffix; a key is put into it.
            depends_on: what makes it what it is, besides the scenes and the runs; anything that JSON can write.
        """
        records = [run.record for run in subject.runs]  # of this very training: scores and times are among them
        key = _digest([self.split, self.study.fingerprint, records, *depends_on])
        path = subject.runs[0].folder / "latents" / name
        return path.with_stem(f"{path.stem}-{key}")

    def _file(self, subject: TrainedModel, what: str) -> Path:
        """Where answers about a model are kept."""
        return self.kept(subject, f"{what}.csv", self.budget.model_dump(), TRAINING_VERSION)


def _digest(told: object) -> str:
    """Twelve characters that say whether anything of ``told`` is another."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _read(file: Path) -> pd.DataFrame:
    """Answers kept in a file.

    Raises:
        ValueError: it is damaged; names it.
    """
    found = read_table(file, (*ROW_KEYS, "value", "rows", "images"))
    if len(found) and not pd.api.types.is_numeric_dtype(found["value"]):
        raise ValueError(f"{file} is damaged: some of its values are no numbers; remove it, and it is made again")
    return found


def _joined(parts: Iterable[pd.DataFrame | None]) -> pd.DataFrame:
    return pd.concat([part for part in parts if part is not None and len(part)], ignore_index=True)
