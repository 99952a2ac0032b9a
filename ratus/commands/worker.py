"""`ratus worker`: runs the task functions of an app, in one process or several."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn, get_args

from ratus import __version__
from ratus.app import App, AppWorker
from ratus.app.connection import RemoteConnection
from ratus.app.health import HealthServer
from ratus.app.inside import InsideConnection
from ratus.app.monitor import Monitor
from ratus.app.supervisor import Supervisor, stop_with_parent
from ratus.calls.inputs import seconds
from ratus.commands.labels import add_choice, choice_of
from ratus.commands.remote import EXIT_FAILURE, EXIT_USAGE, UsageProblem, first_fault
from ratus.core.errors import RatusError
from ratus.core.quoting import printable
from ratus.runtime import logs

_DESCRIPTION: Final = """\
Runs the task functions of an app until SIGTERM or Ctrl-C, and drains: functions
that run may finish, and what they return is committed. The app is named by its
module and its name in there; without a name it is "app".

The server is that of the app, else of the environment variable RATUS_URL. A
process that is killed is replaced by another one. Exit codes: 0 stopped,
1 the worker cannot go on, 2 wrong arguments, or no such app."""

_EXAMPLES: Final = """\
Examples:
  ratus worker shop.tasks:app
  ratus worker shop.tasks --concurrency 8 --processes 2 --topics images,default
  ratus worker shop.tasks --health-port 8080 --log-format json"""

_MODULE_NAME: Final = "app"
"""The name of the app in its module where none is given."""

_logger: Final = logging.getLogger("ratus.worker")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UsageProblem(message)


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 after an orderly stop, 1 when the worker cannot go on, 2 for wrong arguments or no app."""
    flags = parser()
    try:
        given = flags.parse_args(arguments)
        if given.child is None and (given.processes > 1 or given.reload):
            logs.configure(given.log_format, given.log_level)
            changes = _changes() if given.reload else None
            return Supervisor(given.processes, _command_of(arguments), changes).run()
        return _work(given)
    except SystemExit as done:  # argparse has shown the help
        return int(done.code or 0)
    except (UsageProblem, ValueError, TypeError) as problem:
        text = first_fault(problem) if isinstance(problem, ValueError) else str(problem)
        _complain(f"{text} (see {flags.prog} --help)")
        return EXIT_USAGE
    except RatusError as error:
        _complain(str(error))
        return EXIT_FAILURE


def parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = _Parser(
        prog="ratus worker",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("app", metavar="MODULE[:NAME]", help="where the app is")
    parser.add_argument(
        "--topics", metavar="TOPIC,...", help="in order of preference; default: those of all functions"
    )
    parser.add_argument(
        "--concurrency", type=_positive, default=8, metavar="N", help="functions at a time; 8"
    )
    parser.add_argument("--processes", type=_positive, default=1, metavar="N", help="worker processes; 1")
    parser.add_argument(
        "--timeout", type=_duration, metavar="DURATION", help="how long a claim holds, if the worker dies"
    )
    parser.add_argument(
        "--grace",
        type=_duration,
        default="30s",
        metavar="DURATION",
        help="how long functions may take to finish after the signal to stop; 30s",
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="while developing: drain and start again when a Python file below this folder changes",
    )
    parser.add_argument("--name", metavar="NAME", help="the name of this consumer; default: host:pid")
    add_choice(parser)
    watching = parser.add_argument_group("Watching it")
    watching.add_argument(
        "--health-port",
        type=_port,
        metavar="PORT",
        help="serve /livez, /readyz and /metrics there; each further process on the next port",
    )
    watching.add_argument(
        "--health-bind",
        default="0.0.0.0",  # noqa: S104 - an orchestrator probes from outside, and only if a port is given
        metavar="ADDRESS",
        help="on this address only; default: on every interface",
    )
    watching.add_argument("--log-tasks", action="store_true", help="log a line for each task")
    watching.add_argument("--log-format", choices=get_args(logs.Format), default="plain", help="plain")
    watching.add_argument("--log-level", choices=get_args(logs.Level), default="info", help="info")
    # How the supervisor starts a process: its number, and its end of the pipe.
    parser.add_argument("--child", nargs=2, type=int, help=argparse.SUPPRESS)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 < number < 65_536:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 65535")
    return number


def _duration(text: str) -> str:
    try:
        seconds(text, "it")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _command_of(arguments: Sequence[str]) -> Any:
    """What makes the command line of each process."""

    def command(number: int, descriptor: int) -> list[str]:
        child = ["--child", str(number), str(descriptor)]
        return [sys.executable, "-m", "ratus", "worker", *arguments, *child]

    return command


def _changes() -> Iterable[object]:
    """Gives an item after each change of Python files below the current directory."""
    try:
        import watchfiles
    except ImportError:
        raise UsageProblem('--reload: install the package with its extra, "ratus-queue[reload]"') from None
    return watchfiles.watch(os.getcwd(), watch_filter=watchfiles.PythonFilter(), raise_interrupt=False)


def _work(given: argparse.Namespace) -> int:
    number = given.child[0] if given.child else 0
    app = load(given.app)
    connection = app._connection
    if given.child and isinstance(connection, InsideConnection) and connection.is_in_memory:
        raise UsageProblem("--processes: an app with memory: has its tasks in one process")
    _log(given.log_format, given.log_level)
    monitor = Monitor(log_tasks=given.log_tasks)
    worker = AppWorker(
        app,
        topics=given.topics.split(",") if given.topics is not None else None,
        concurrency=given.concurrency,
        timeout=given.timeout,
        grace=given.grace,
        **choice_of(given),
        consumer=given.name,
        begin_process=functools.partial(_log, given.log_format, given.log_level),
        observer=monitor if given.log_tasks or given.health_port is not None else None,
    )
    if given.child:
        stop_with_parent(given.child[1], worker.stop)
    with contextlib.ExitStack() as stack:
        if given.health_port is not None:
            port = given.health_port + number
            try:
                health = HealthServer(
                    given.health_bind, port, is_ready=lambda: worker.is_working, metrics=monitor.exposition
                )
            except OSError as error:
                raise UsageProblem(f"--health-port: cannot listen on port {port}: {error.strerror}") from None
            stack.enter_context(health)
        if number == 0:
            _show(app, worker, given)
        worker.run()
    return 0


def _log(form: logs.Format, level: logs.Level) -> None:
    """Set up the log of this process, unless the program has set up its own."""
    if not logging.getLogger().handlers:
        logs.configure(form, level)
        # What the functions log is wanted as much as what the worker does.
        logging.getLogger().setLevel(level.upper())


def load(text: str) -> App:
    """The app that `module:name` stands for, imported as from the current directory.

    Raises `UsageProblem`, and what the module raises while it is imported.
    """
    module_name, _, name = text.partition(":")
    if not module_name or module_name.startswith("."):
        raise UsageProblem(f"{text!r} names no module; give one such as shop.tasks:app")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise UsageProblem(
                f"there is no module {error.name!r} in {here}, nor among those installed"
            ) from None
        raise _broken(module_name, error) from error
    except Exception as error:
        raise _broken(module_name, error) from error
    found: Any = module
    for part in (name or _MODULE_NAME).split("."):
        found = getattr(found, part, None)
    if not isinstance(found, App):
        apps = [each for each, value in vars(module).items() if isinstance(value, App)]
        known = f"; it has {', '.join(f'{module_name}:{each}' for each in apps)}" if apps else ""
        raise UsageProblem(f"{module_name}:{name or _MODULE_NAME} is no App{known}")
    return found


def _broken(module_name: str, error: Exception) -> UsageProblem:
    """The error for a module that cannot be imported, after the traceback in that module."""
    trace = error.__traceback__
    while (trace is not None and "importlib" in trace.tb_frame.f_code.co_filename) or (
        trace is not None and (trace.tb_frame.f_code.co_filename == __file__)
    ):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)
    return UsageProblem(f"the module {module_name} cannot be imported")


def _show(app: App, worker: AppWorker, given: argparse.Namespace) -> None:
    """Show on standard error which tasks are served, from where, and under which name."""
    connection = app._connection
    server = connection.client().url if isinstance(connection, RemoteConnection) else "none"
    processes = f", in {given.processes} processes" if given.processes > 1 else ""
    name = "host:pid, for each process" if processes and given.name is None else worker.consumer
    served = [each for each in app.functions.values() if each.topic in worker.topics]
    width = max((len(each.name) for each in served), default=0)
    lines = [
        f"ratus worker {__version__}",
        f"  server  {server}",
        f"  name    {name}",
        f"  topics  {', '.join(worker.topics)}",
        f"  runs    {given.concurrency} at a time{processes}, claimed for {worker.timeout:g} s",
        *(
            f"  {'tasks' if not number else '     '}   {each.name:{width}}  from {each.topic}"
            f"{', coroutine' if each.is_coroutine else ', process' if each.handling.in_process else ''}"
            for number, each in enumerate(served)
        ),
    ]
    if app._listeners:
        lines.append(f"  hears   {', '.join(each.pattern for each in app._listeners)}")
    if not served:
        lines.append("  tasks   none of the app's functions is of these topics")
    _say("\n".join(lines))


def _say(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)


def _complain(message: str) -> None:
    _say(f"ratus worker: {message}")
