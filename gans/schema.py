"""The strings of the protocol: names of tags, metrics, artifacts and files, for all rooms."""

from typing import Literal

# --- the precision of arithmetic: as resolved, and as set

Settled = Literal["float32", "tf32", "bf16"]
Precision = Literal["auto", "float32", "tf32", "bf16"]
Where = Literal["local", "ray"]  # place of an update rule's workers

# --- tags of a run

KIND = "gans.kind"  # one of CELL, FLOOR, TRIAL, MATRIX, SWEEP
IDENTITY = "gans.cell"  # of a cell or a floor
STATUS, REASON = "gans.status", "gans.reason"  # how it ended, and why
MODEL, DATASET, SEED = "gans.model", "gans.dataset", "gans.seed"
METRIC = "gans.metric"  # the score that picks the checkpoint and ranks models
TITLE = "gans.title"  # of the data set
CLASSES = "gans.classes"  # of a conditional generator: names of the first ones, as JSON
EXTRACTORS = "gans.extractors"  # `name:sha256` of each
EXTRACTOR, EXTRACTOR_HASH = "gans.extractor", "gans.extractor_hash"  # of a floor
SCORED = "gans.scored."  # and `extractor.count`: what a run was scored with, see `gans.runs.scores`
COUNT = "gans.score_images"  # generated images behind the metrics that begin with SCORE
SCORING = "gans.scoring"  # version of the scoring of a floor
REFERENCE = "gans.reference"  # the images that generated ones are compared with
LATENT_SEEDS = "gans.latent_seeds"
CHOSEN = "gans.chosen_images"  # images seen by the checkpoint that is scored
DEVICE, THREADS, GRAPH, COMPILED = "gans.device", "gans.threads", "gans.graph", "gans.compiled"
WORKERS = "gans.workers"  # place of MD-GAN's workers
LOST = "gans.lost."  # and the number of a worker of MD-GAN: reason of its loss
MOVED = "gans.moved"  # why a cell moved to another process or node, the last time
MATRIX_NAME = "gans.matrix"
PRESET = "gans.preset"  # that an invocation laid over a matrix's models
STUDY, TRIAL_NUMBER, STORAGE = "gans.study", "gans.trial", "gans.storage"
COMMAND = "gans.command"
PROTOCOL = "gans.protocol"
COMMIT, DIRTY = "gans.commit", "gans.dirty"
CODE = "gans.code."  # and `package.module:Name` of a part from outside: SHA-256 of its file; .commit, .dirty
VERSION = "version."  # and a package
DATA = "gans.data"  # how the data set is loaded again
TAGS = "gans."  # how all of ours begin
JOURNAL = "gans.journal"  # the key of a run, the same in all stores
EXPORTED = "gans.exported"  # bytes of its events that the store has
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"  # MLflow's own
USER, SOURCE, SOURCE_TYPE = "mlflow.user", "mlflow.source.name", "mlflow.source.type"
SOURCE_COMMIT = "mlflow.source.git.commit"

# --- kinds of runs

CELL, FLOOR, TRIAL, MATRIX, SWEEP = "cell", "floor", "trial", "matrix", "sweep"

# --- statuses: how a run ends, or that it has not

RUNNING, INTERRUPTED, SKIPPED = "running", "interrupted", "skipped"
FINISHED, DIVERGED, FAILED, TIMED_OUT, PRUNED = "finished", "diverged", "failed", "timed out", "pruned"
FINAL = (FINISHED, DIVERGED)  # training again would end the same way

# --- metrics, against images seen

CURVE = "curve/"  # and a distance: during training
SCORE = "score/"  # and a metric: of the chosen generator
LOSS_D, LOSS_G = "loss/discriminator", "loss/generator"
D_REAL, D_FAKE = "D/real", "D/fake"
LOSSES = "loss/"
TRAINING, EVALUATION, OVERHEAD = "seconds/training", "seconds/evaluation", "seconds/overhead"
PEAK, JOULES = "memory/peak_mib", "energy/joules"
SIZE_G, SIZE_D = "parameters/generator", "parameters/discriminator"
TRAFFIC = "traffic/"
EXCHANGES, MOVES, TOTAL_MIB = "traffic/exchanges", "traffic/moves", "traffic/total_mib"
# for observers only, not tracked: what a cell is doing
PHASE = "phase/"
DATA_PHASE, REFERENCE_PHASE, TRAINING_PHASE = "reading data", "reference features", "training"
SCORING_PHASE, PICTURES_PHASE, WAITING_PHASE = "scoring", "pictures", "waiting"
SWEEP_SCORE, SWEEP_SECONDS = "sweep/score", "sweep/seconds"
# a floor's comparisons of real images with real ones, as the scorer calls them, and what their metrics begin with
FLOORS = {"train half vs train half": "half", "train vs test": "test"}

# --- files of a cell's folder, and artifacts of its run

EVENTS = "events.jsonl"  # what happened to the run of a folder, see `gans.runs.events`
LOG = "log.txt"  # what its process printed
KEPT = "kept"  # the folder of artifacts that are kept nowhere else
INVOCATIONS = "invocations"  # the folder of their own folders, next to those of cells
CHECKPOINT = "checkpoint.pt"  # everything to resume from
PREVIOUS = "checkpoint.prev.pt"  # the one before, until the cell has ended
GENERATOR = "generator.safetensors"  # the EMA generator with the best score so far
NETWORKS = "checkpoint"  # the artifact folder of these two
SAMPLES = "samples"  # grids and other pictures of what is drawn
GRIDS = "samples"  # what the grids are called where MLflow's UI shows them by step
BEST = "best checkpoint"  # and what the grid of the chosen generator is called there, which has no step
FINAL_GRID = "final.png"  # this grid
CLASS_GRID = "each-class.png"  # and one with a row for each class, of a conditional generator
CURVES, FILM, SHARDS, REAL = "curves.png", "training.gif", "shards.png", "real.png"
TRACEBACK = "traceback.txt"
MATRIX_FILE = "matrix.toml"
PLAN = "cells.json"  # the cells and floors of an invocation
REPORT = "report"
SWEEP_RECORD, SWEEP_PLOTS, SWEEP_PRESET, SWEEP_SPACE = "sweep.json", "plots", "preset", "space.toml"


def curve(distance: str) -> str:
    """The metric of a distance during training: `curve/fd_digits`."""
    return CURVE + distance


def score(metric: str, count: int | None = None) -> str:
    """The metric of a final score: `score/fd_digits`.

    Scores on another number of images than the run's own (its tag COUNT) have another prefix: `score-50000/fid`.
    """
    return f"score-{count}/{metric}" if count is not None else SCORE + metric


def slug(name: str) -> str:
    """A name as part of a file's: characters other than letters, digits, dashes and dots become dashes."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)
