"""The page of ``python run.py --help``: what can be chosen, from the plug-ins and tables themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.backends.catalogue import BACKENDS
from harness.backends.peers.catalogue import PEERS
from harness.edge.settings import SLA_LEVELS
from harness.options import BUDGETS
from optimizations.contract import PlanError
from optimizations.plan import available
from zoo.configs import MODELS
from zoo.datasets import DATASETS

USAGE = """\
RecArena measures which optimizations make a click-through-rate model serve faster on this machine, at a latency limit,
without losing AUC, and by how much. It trains the model once, then measures opt=[] and your combination side by side.
With scope=train it measures in the same way how much faster they train it.

  python run.py [KEY=VALUE ...]         measure one combination against its baseline
  python run.py -m [KEY=V1,V2 ...]      a sweep: all combinations; started again, it goes on where it stopped
"""

SCENARIOS = {
    "server": "open loop, Poisson arrivals (default)",
    "single_stream": "the next query when the answer to the last one is there",
    "offline": "all queries at once",
    "mlperf_server": "MLPerf LoadGen at scenario.rate_qps, and our own sender at the same rate; no search",
}

OVERRIDES = {
    "model=NAME  model.<size>=N": "the model and its sizes; model.weights=FILE serves your own checkpoint",
    "dataset=NAME  dataset.path=PATH": "the data; dataset.size=tiny|default|large for planted data",
    "opt=[a,b]  opt.<name>.<option>=V": "the optimizations, in any order, and their options",
    "scenario.sla_ms=MS": "latency limit (default: the model's own); scenario.sla_level=" + "|".join(SLA_LEVELS),
    "scenario.percentile=P": "share of queries within the limit, default 99",
    "scenario.query_sizes=D": "heavy | mlperf_dlrm | fixed:N | uniform:LO-HI samples per query",
    "budget=NAME": "how long is measured; budget.<number>=N changes one number",
    "training.<setting>=V": "how the weights are trained",
    "backend=NAME": "what serves both sides, opt=[] and yours: see above",
    "peer=NAME  peer.settings=S": "the baseline is a package of other people; with backend=peer it is what is measured",
    "scope=serve|train": "what is measured: queries answered (default), or training steps (docs/training.md)",
    "device=cpu|cuda": "where the model runs",
    "seed=N": "of the query traces",
    "records_dir=DIR": "where records go, default records",
    "cache_dir=DIR": "data, weights, graphs and builds by content hash, default ~/.cache/recarena (docs/using.md)",
    "keep_awake=never": "let cores halt between queries; by default they do not on a virtual machine",
    "resume=quiet|never": "-m: measure again what was measured on a noisy host, or everything",
    "tracking=sqlite|none": "MLflow; tracking.uri=URI for a store or server of your own",
    "training.seeds=N": "scope=train: both sides trained to their end N times, timed to training.target_auc",
    "experiment=best|best_open": "the fastest plan that is known for the model on this kind of processor",
    "experiment=best_training": "scope=train, and the plan that is known to train the model fastest",
    "-m experiment=backends": "every model on every backend, as it comes and by its best plan",
    "-m experiment=peers": "the best plan over every peer that serves our weights, as it comes and at its best",
    "experiment=big_tables": "tables of 1.7 GB, far beyond the caches (DLRM; 1.7 GB of disk)",
    "experiment=NAME": "a named set of overrides from conf/experiment",
}

EXAMPLES = """\
examples
  python run.py model=dien 'opt=[fusion,bf16]'
  python run.py model=wdl 'opt=[fusion]' scenario.sla_ms=10 budget=standard
  python run.py -m model=wdl,din,dien,dlrm 'opt=[],[fusion],[fusion,bf16]'
  python run.py dataset=criteo dataset.path=train.txt model=dlrm 'opt=[fusion]'
  python run.py scope=train model=dien 'opt=[micro_batch,stage]' training.batch_size=512
  python -m leaderboard show
  mlflow ui --backend-store-uri sqlite:///mlflow.db

exit codes: 0 measured and valid, 2 bad configuration, 3 accuracy gate failed, 4 the candidate meets the SLA at no rate,
5 measurement refused or void, 130 interrupted, 1 anything else. RECARENA_TRACEBACK=1 shows the traceback of an error.
"""


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for this page and not for a run."""
    return any(argument in ("-h", "--help") for argument in arguments)


def help_page() -> str:
    """The whole page as text."""
    models = {name: str(kind.__doc__).partition(")")[0] + ")" for name, kind in MODELS.items()}
    budgets = {name: f"about {budget.seconds:.0f} s of load, both sides together" for name, budget in BUDGETS.items()}
    marks = {"serve": "", "train": " (scope=train)", "both": " (either scope)"}
    optimizations = {name: _summary(name, marks) for name in available()}
    return "\n".join(
        [
            USAGE,
            _section("models", models),
            _section("optimizations", optimizations),
            _section("backends", {name: entry.summary for name, entry in BACKENDS.items()}),
            _section("peers", {name: f"{peer.summary} ({', '.join(peer.settings)})" for name, peer in PEERS.items()}),
            _section("data sets", {name: entry.summary for name, entry in DATASETS.items()}),
            _section("scenarios", SCENARIOS),
            _section("budgets", budgets),
            _section("overrides", OVERRIDES),
            EXAMPLES,
        ]
    )


def _summary(name: str, marks: Mapping[str, str]) -> str:
    try:
        spec = available()[name]
    except PlanError as error:
        return f"({error})"
    return f"{spec.summary}{marks[spec.scope]}"


def _section(title: str, lines: Mapping[str, str]) -> str:
    width = max(len(name) for name in lines)
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in lines.items()), ""])
