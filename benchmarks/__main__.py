"""`python -m benchmarks MATRIX`: what `make bench` runs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import get_args

from benchmarks.engine import preload
from benchmarks.matrix import Selection, read_matrix, with_preset
from benchmarks.runner import Machine, MatrixRun
from gans.config import Precision
from gans.errors import InputError, Parser, exit_code
from gans.runs.tracking import Store


def arguments() -> Parser:
    parser = Parser(prog="benchmarks", description=__doc__)
    parser.add_argument("matrix", help="a file in benchmarks/matrices without .toml, or a path to one")
    parser.add_argument("--models", nargs="+", help="only these models of the matrix")
    parser.add_argument("--datasets", nargs="+", help="these data sets in place of the matrix's; folder:PATH too")
    parser.add_argument("--seeds", nargs="+", type=int, help="these training seeds in place of the matrix's")
    parser.add_argument("--budget", type=float, default=1.0, help="share of the matrix's images to train on")
    parser.add_argument("--preset", help="tuned: MODEL-tuned beside every model that `make sweep` has tuned")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    parser.add_argument(
        "--jobs",
        type=int,
        help="cells at a time; if not given one per CPU core, or one on a GPU; 0: as many as fit on the GPU",
    )
    parser.add_argument("--precision", choices=get_args(Precision), help="of all cells; auto: by device")
    parser.add_argument("--graph", action="store_true", help="replay training steps as CUDA graphs (not measured)")
    parser.add_argument(
        "--workers",
        help="where MD-GAN's workers live: local (one process), or ray (RAY_ADDRESS, else this machine)",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for checkpoints")
    parser.add_argument("--dry-run", action="store_true", help="print the cells and their state, run nothing")
    return parser


def main() -> int:
    asked = arguments().parse_args()
    if asked.jobs is not None and asked.jobs < 0:
        raise InputError(f"JOBS={asked.jobs} must be at least 1, or 0 for as many as a GPU has memory for")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    selection = Selection(asked.models, asked.datasets, asked.seeds, asked.budget, asked.precision)
    matrix = read_matrix(asked.matrix)
    machine = Machine(asked.device, asked.jobs, asked.runs, asked.graph, asked.workers)
    if asked.preset:
        matrix = with_preset(matrix, asked.preset)
    if not asked.dry_run:
        preload("benchmarks.jobs", "gans.fidelity.scorer", "sklearn.datasets", "torchvision.utils")
    run = MatrixRun(matrix, selection, machine, Store())
    if asked.dry_run:
        for planned in run.planned:
            state = planned.state if planned.selected else "not selected"
            print(f"{planned.cell.identity}  {planned.cell.name:<40} {state}")
        return 0
    for remark in run.remarks():
        print(remark)
    outcome = run.run()
    import reports  # seconds to import, not wanted before there is something to report

    path = reports.write(run.store, run.experiment)
    run.parent.artifacts(path.parent, "report")
    run.parent.text(reports.standalone(path), "report/report.html")  # the MLflow UI shows no pictures in markdown
    reports.show(run.store, run.experiment)
    print(f"report: {path}")
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(exit_code(main))
