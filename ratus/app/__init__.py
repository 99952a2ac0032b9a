"""Functions as tasks: `App`, the jobs that its pushes make, and the worker that runs them.

It stands on the client (`ratus.client`) and its workers (`ratus.worker`). What it sends are ordinary tasks,
whose payload names the function and has its arguments; see `encoding`.

`app` and `functions` have what programs use, `jobs` what a push returns, `connection` and `background` how an
app reaches its tasks; `worker` and `runner` execute functions.
"""

from __future__ import annotations

from ratus.app.app import App
from ratus.app.execution import Execution, current
from ratus.app.functions import TaskFunction
from ratus.app.jobs import Job
from ratus.app.worker import AppWorker

__all__ = ["App", "AppWorker", "Execution", "Job", "TaskFunction", "current"]
