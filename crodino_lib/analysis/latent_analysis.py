"""Analyse the latents of a study's models and their null models; everything computed is kept with the runs."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import nn

from crodino_lib.analysis import ANALYSIS_VERSION, AnalysisConfig
from crodino_lib.analysis.ablation import ablation_table
from crodino_lib.analysis.extraction import UNITS, Latents, Unit, extract, single_sensors
from crodino_lib.analysis.image_statistics import image_statistics
from crodino_lib.analysis.null_models import compare_to_nulls, independent_baselines, shuffled
from crodino_lib.analysis.suite import COLUMNS, KEYS, run_paired, run_suite
from crodino_lib.analysis.trained_models import TrainedModel, find_models
from crodino_lib.analysis.umap_embedding import Embeddings, fit_aligned_umap, fit_embeddings, read_frames
from crodino_lib.config import StudyConfig
from crodino_lib.device import pick_device
from crodino_lib.io import atomic_write, bar, file_lock, read_table, say
from crodino_lib.methods.registry import build_method
from crodino_lib.settings import choose
from crodino_lib.study.runs import Run
from crodino_lib.study.study import Study

FEW_JOBS = 5  # a model, its null models and its baselines: computed in this process


class LatentAnalysis:
    """Latents, results and embeddings of a study's models on one split, computed when first needed.

    ``config`` is how much data is used: that of the study's profile where none is given.
    """

    def __init__(self, study: Study, split: str = "test", config: AnalysisConfig | None = None):
        self.study, self.split = study, choose(split, study.card.splits, "split")
        self.config = config or AnalysisConfig.of(study.config)

    @cached_property
    def targets(self) -> pd.DataFrame:
        """Return what factor probes predict: the scenes' recorded factors, if any, and statistics of the images."""
        scenes = self.study.scenes[self.split]
        statistics = image_statistics(scenes, self.study.config.sensors)
        statistics.columns = "seen_" + statistics.columns.str.replace(" ", "_")
        recorded = [] if scenes.factors is None else [scenes.factors.set_axis(scenes.ids)]
        return pd.concat([*recorded, statistics], axis=1)

    def latents(self, model: TrainedModel, trained: bool = True) -> dict[Unit, Latents]:
        """Return the latents of a model, or of its network before training: read, or extracted now."""
        parts = [self._latents_of_run(run, trained) for run in model.runs]
        if len(parts) == 1:
            return parts[0]
        return {unit: independent_baselines(*(part[unit] for part in parts)) for unit in UNITS}

    def _latents_of_run(self, run: Run, trained: bool) -> dict[Unit, Latents]:
        key = _digest([self.study.fingerprint, run.record, ANALYSIS_VERSION])
        stem = f"{self.split}-{'trained' if trained else 'untrained'}-{key}"
        files = {unit: run.folder / "latents" / f"{stem}-{unit}.npz" for unit in UNITS}
        if not all(file.exists() for file in files.values()):
            method = run.method(self.study.card) if trained else build_method(run.config, self.study.card)
            method.eval().export()
            method = method.to(pick_device(), memory_format=torch.channels_last)
            for unit, latents in extract(method, self.study.scenes[self.split]).items():
                latents.save(files[unit])
        return {unit: Latents.load(file) for unit, file in files.items()}

    def students(self, model: TrainedModel) -> dict[str, nn.Module]:
        """Return sensor -> its trained network, on the CPU."""
        methods = [run.method(self.study.card).to(memory_format=torch.channels_last) for run in model.runs]
        students = {sensor: method.students[sensor] for method in methods for sensor in single_sensors(method)}
        return {sensor: students[sensor] for sensor in self.study.config.sensors}

    def compare(self, models: Iterable[TrainedModel]) -> pd.DataFrame:
        """Compute every metric of every model and of its null models.

        Returns a row per model and number: ``model``, ``variant``, ``method``, ``seed``, the columns of ``run_metric``
        and of ``compare_to_nulls``. ``independent_baselines`` is empty where there are no baselines of the seed.
        """
        models, tables = list(models), []
        jobs = self._jobs(models, find_models(self.study))
        self._compute([job for nulls in jobs.values() for job in nulls.values()])
        for model in models:
            results = {null: read_results(self._file(*job)) for null, job in jobs[model.name].items()}
            if "independent_baselines" not in results:
                say(f"{model.name}: no baselines of seed {model.seed}: a null model is missing, and few flags are set")
            table = compare_to_nulls(results.pop("value"), results)
            named = {"model": model.name, "variant": model.variant, "method": model.method, "seed": model.seed}
            tables.append(table.assign(**named)[[*named, *table]])
        return pd.concat(tables, ignore_index=True)

    def compared(self) -> list[TrainedModel]:
        """Return the models of the study whose results were computed before, with these settings."""
        models = find_models(self.study)
        jobs = self._jobs(models, models)
        return [model for model in models if all(self._file(*job).exists() for job in jobs[model.name].values())]

    @staticmethod
    def _jobs(models: Iterable[TrainedModel], among: Iterable[TrainedModel]) -> dict[str, dict[str, tuple]]:
        """Return by model what is computed for it: itself, its null models, and the baselines of its seed ``among``."""
        own = ("value", "untrained", "shuffled_channels", "shuffled_pairs")
        jobs = {model.name: {null: (model, null) for null in own} for model in models}
        baselines = {model.seed: model for model in among if model.variant == "baseline"}
        for model in models:
            if model.seed in baselines:
                jobs[model.name]["independent_baselines"] = (baselines[model.seed], "value")
        return jobs

    def _compute(self, jobs: Iterable[tuple[TrainedModel, str]]) -> None:
        """Compute the results that are missing, on all cores where there are many."""
        missing, ablations = {file: job for job in jobs if not (file := self._file(*job)).exists()}, {}
        if not missing:
            return
        say(f"computing the metrics of {len(missing)} models and null models; {self.config}")
        for model, null in bar(list(missing.values()), label="latents", unit="model"):
            self.latents(model, null != "untrained")  # extracted here: the processes below get arrays, not networks
            if model.name not in ablations:
                ablations[model.name] = self.ablation(model)
        cores = 1 if len(missing) <= FEW_JOBS else -1  # a process takes seconds to start
        tasks = Parallel(n_jobs=cores, return_as="generator")(
            delayed(_results)(self.latents(model, null != "untrained"), null, self.config, self.targets)
            for model, null in missing.values()
        )
        tables = bar(tasks, total=len(missing), label="metrics", unit="model")
        for (file, (model, null)), table in zip(missing.items(), tables, strict=True):
            ablation = ablations[model.name]
            ablation = ablation.loc[ablation["null"] == null, COLUMNS]
            with atomic_write(file) as path:
                (pd.concat([table, ablation]) if len(ablation) else table).to_csv(path, index=False)

    def ablation(self, model: TrainedModel) -> pd.DataFrame:
        """Compute ``ablation_table``; empty, with a message, where a decoder does not get both halves side by side."""
        scenes, card = self.study.scenes[self.split], self.study.card
        try:
            return ablation_table(self.students(model), scenes, card, self.config.scenes, self.config.seed)
        except ValueError as error:
            say(f"{model.name}: no ablation: {error}")
            return pd.DataFrame(columns=["null", *COLUMNS])

    def embeddings(self, models: Mapping[str, tuple[TrainedModel, bool]]) -> Embeddings:
        """Embed the regions of several models, all of the same places: read, or fitted now by ``fit_embeddings``.

        ``models`` has under each name a model, and whether its trained network is meant or the one before training.
        """
        parts, config = {}, self.config
        for name, (model, trained) in bar(models.items(), label="embeddings", unit="model"):
            stem = "embeddings" if trained else "embeddings-untrained"
            file = self.cache_path(model, f"{stem}.npz", config.fits, config.points, config.seed)
            if not file.exists():
                regions = self.latents(model, trained)["region"]
                fit_embeddings(regions, range(config.fits), config.points, config.seed).save(file)
            parts[name] = Embeddings.load(file)
        return Embeddings.concat(parts)

    def film(self, model: TrainedModel) -> Embeddings:
        """Embed the epochs that the training of a model recorded, each block aligned: read, or fitted now in minutes.

        ValueError where fewer than two were recorded, a block collapsed, or the split is not ``val``.
        """
        if self.split != "val":
            raise ValueError(f"training records scenes of val, not of {self.split}: analyse the split val")
        file = self.cache_path(model, "film.npz")
        if not file.exists():
            frames = read_frames(model.runs[0].folder / "frames")
            say(f"fitting the film of {model.name}: a minute or more")
            halves = {half: fit_aligned_umap(frames, half, seed=0) for half in next(iter(frames.values())).halves}
            tables = zip(*halves.values(), strict=True)
            Embeddings(*(pd.concat(parts, ignore_index=True) for parts in tables)).save(file)
        return Embeddings.load(file)

    def caption(self, table: pd.DataFrame) -> str:
        """Describe the scenes, rows, shuffles, steps and seeds behind the numbers of ``compare``."""
        rows, config = table.groupby("unit")["rows"].max(), self.config
        counts = ", ".join(f"{rows[unit]:.0f} {unit}s" for unit in UNITS if unit in rows)
        ablated = table.loc[table["metric"] == "ablation", "images"].max()
        halves = f"; halves replaced in {ablated:.0f} scenes" if ablated > 0 else ""
        return (
            f"{self.study.card.title}, split {self.split}, {table['images'].max():.0f} scenes: {counts} (at most "
            f"{config.rows}){halves}; {config.shuffles} shuffles; seeds "
            f"{', '.join(map(str, sorted(set(table['seed']))))}. {self.study.caveat()}"
        )

    def cache_path(self, model: TrainedModel, name: str, *depends_on: object) -> Path:
        """Return where something computed about a model is kept, beside its run, under ``name`` and a key.

        ``depends_on``, which JSON can write, is what the content depends on besides scenes, runs and the version.
        """
        records = [run.record for run in model.runs]  # of this very training: its scores and times are among them
        key = _digest([self.split, self.study.fingerprint, records, ANALYSIS_VERSION, *depends_on])
        path = model.runs[0].folder / "latents" / name
        return path.with_stem(f"{path.stem}-{key}")

    def _file(self, model: TrainedModel, name: str) -> Path:
        return self.cache_path(model, f"{name}.csv", self.config.model_dump(exclude={"points", "fits"}))


def compute_part(config: StudyConfig, results: Path, method: str, seed: int, part: str) -> str:
    """Compute one model's ``metrics`` or embedding (``trained``, ``untrained``) for notebooks; return a line."""
    analysis = LatentAnalysis(Study(config, results))
    model = find_models(analysis.study, [method], [seed])[0]
    if part == "metrics":
        analysis.compare([model])
    else:
        analysis.embeddings({model.name: (model, part == "trained")})
        sensor_truth(analysis.study)  # two notebooks show it
    return f"latents of {model.name}, {part}"


def sensor_truth(study: Study) -> pd.DataFrame | None:
    """Return R² of a regressor per recorded factor (rows) and sensor (columns); None where no factors are recorded."""
    from crodino_lib.rooms.validation import truth_table

    if study.dataset.factors("test") is None:
        return None
    file = study.folder / "tables" / "truth.csv"
    with file_lock(file.parent):  # two notebooks need the table, and it takes long
        if not file.exists():
            study.save_table(truth_table(study.dataset, study.config.sensors), "truth")
    table = read_table(file, ("factor", "sensor", "r2"))
    return table.pivot_table("r2", "factor", "sensor", sort=False)[list(study.config.sensors)]


def _results(latents: dict[Unit, Latents], null: str, config: AnalysisConfig, targets: pd.DataFrame) -> pd.DataFrame:
    """Compute the results of a model or a null model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # empty slices and constant channels give NaN
        warnings.filterwarnings("ignore", message="The (least populated class|number of unique classes)")
        run = run_paired if null == "shuffled_pairs" else run_suite
        return run(shuffled(latents, null, config.seed), config, targets)


def read_results(file: Path) -> pd.DataFrame:
    """Read results that are kept in a file; ValueError where it is damaged."""
    table = read_table(file, COLUMNS)
    table[KEYS] = table[KEYS].astype(object).fillna("")
    if len(table) and not pd.api.types.is_numeric_dtype(table["value"]):
        raise ValueError(f"{file} is damaged: some of its values are not numbers; delete it; it will be computed again")
    return table


def _digest(content: object) -> str:
    """Return twelve characters that change with ``content``."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
