"""The book's command line: ``python -m lib --help``.

Exit status: 0 done, 1 something is missing or failed, 2 wrong use (or a scale this machine cannot run),
3 stopped at ``--time-limit`` with work left: the same command carries on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click


def each_once(context: click.Context, option: click.Parameter, pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """``-p NAME VALUE`` as a dictionary.  Of two values for one name neither is obeyed silently."""
    given = dict(pairs)
    if len(given) < len(pairs):
        names = [name for name, _ in pairs]
        raise click.BadParameter(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return given


def known_scale(context: click.Context, option: click.Parameter, scale: str | None) -> str | None:
    """A scale that there is; None, where a command chooses one itself."""
    from lib.runs.scales import check_scale

    try:
        return scale and check_scale(scale)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


class Minutes(click.FloatRange):
    """A length of time, which is a number."""

    def convert(self, value, param, ctx) -> float:
        minutes = super().convert(value, param, ctx)
        if minutes != minutes:
            self.fail(f"{value!r} is not a length of time", param, ctx)
        return minutes


def scales(default: str | None, help: str):
    """The option ``--scale`` of a command."""
    return click.option(
        "--scale", default=default, show_default=bool(default), metavar="smoke|laptop|cpu|gpu", callback=known_scale, help=help
    )


SCALES = scales("laptop", "Size of data and training.")
PARAMETERS = click.option(
    "-p",
    "--parameter",
    "given",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    callback=each_once,
    help="A parameter of the chapter, as papermill's -p; may be repeated.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Efficient Deep Learning, Measured: run the experiments, execute the chapters, render the book."""


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Errors that a reader can act on are shown as one message, without a traceback."""
    from lib.claims.entry_files import WrongEntry
    from lib.cli.names import WrongUse

    try:
        yield
    except WrongUse as error:
        raise click.UsageError(str(error)) from error
    except WrongEntry as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        from lib.system.whole_file import unwritable

        told = unwritable(error) or (str(error) if isinstance(error, PermissionError) else None)
        if told is None:
            raise
        raise click.ClickException(told) from error


CHAPTERS = click.option(
    "--chapter", "chapters", multiple=True, metavar="CHAPTER", help="Only this chapter (number, subject or file name); may be repeated."
)
JOBS = click.option("--jobs", type=click.IntRange(min=1), help="Chapters executed at a time; chosen by default.")


@main.command()
@SCALES
@PARAMETERS
@CHAPTERS
@JOBS
def book(scale, given, chapters, jobs) -> None:
    """Execute the chapters and render _book/.

    What is stored is replayed and what is missing is run, so the command may be stopped and repeated at will.
    """
    from lib.cli import book as command

    with plainly():
        status = command.book(scale, given, chapters, jobs)
    raise SystemExit(status)


@main.command()
@CHAPTERS
@JOBS
def edition(chapters, jobs) -> None:
    """Refresh the committed chapters.

    Your results at the reference scales are copied to data/results, and each chapter is executed by replay
    at the best scale at which most of its studies are stored.
    """
    from lib.cli import book as command

    with plainly():
        status = command.edition(chapters, jobs)
    raise SystemExit(status)


@main.command()
@click.argument("chapter", required=False)
@click.option("--all", "everything", is_flag=True, help="All chapters, what decides most first, at low priority.")
@click.option("--processes", type=click.IntRange(min=1), help="With --all: processes that share the work; one per core by default.")
@SCALES
@PARAMETERS
@click.option("--study", "studies", multiple=True, metavar="NAME", help="Only this study; may be repeated.")
@click.option("--key", help="Only the result of this name (or the start of one).")
@click.option("--list", "only_list", is_flag=True, help="Show the results that are needed, in order; run nothing.")
@click.option("--device", help="cuda, mps or cpu; the best one by default.")
@click.option(
    "--time-limit",
    type=Minutes(min=0),
    metavar="MINUTES",
    help="Begin no further result after this long; the same command carries on (exit status 3).",
)
def run(chapter, everything, processes, scale, given, studies, key, only_list, device, time_limit) -> None:
    """Run what a chapter lacks, or with --all what the book lacks, and store it.

    CHAPTER is a number, subject or file name.  What is stored is never run again, so the command may be
    stopped and repeated at will, and several may share the work.  For data parallel training over several
    machines start it with torchrun: torchrun ... -m lib run moe.
    """
    from lib.cli import queue
    from lib.cli import run as command

    if everything == bool(chapter):
        raise click.UsageError("name a chapter, or ask for --all of them")
    if everything and (given or studies or key):
        raise click.UsageError("--all takes no parameters, studies or names: every chapter runs as the book has it")
    if processes and not everything:
        raise click.UsageError("--processes goes with --all")
    with plainly():
        if everything:
            status = queue.list_all(scale) if only_list else queue.run(scale, processes, device, time_limit)
        else:
            status = command.run(chapter, scale, given, studies, key, only_list, device, time_limit)
    raise SystemExit(status)


@main.command()
@click.argument("chapter", required=False)
@SCALES
@PARAMETERS
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, one entry per result.")
def results(chapter, scale, given, as_json) -> None:
    """Show what is stored and what is missing.

    Without CHAPTER a line per study, with it a line per result.
    """
    from lib.cli import results as command

    with plainly():
        command.show(chapter, scale, given, as_json)


@main.command()
@click.argument("key")
def show(key) -> None:
    """Show one result: what was run, by which line, what it measured, where the book uses it.

    KEY is the result's name, or the start of it, as the notes under figures and `python -m lib results` give it.
    """
    from lib.cli import show as command

    with plainly():
        command.show(key)


@main.command()
@click.argument("file")
@click.option("--examples", type=click.IntRange(min=1), help="Test images, the first ones; all by default.")
@click.option("--attacked", type=click.IntRange(min=1), default=100, show_default=True, help="Of these, images that attacks are tried on.")
def evaluate(file, examples, attacked) -> None:
    """Evaluate a packed network: bytes, weights, accuracy, and accuracy under two attacks.

    FILE is a path, or a name in data/models.
    """
    from lib.cli import evaluate as command

    with plainly():
        command.evaluate(file, examples, attacked)


@main.command()
@click.argument("chapter", required=False, metavar="[CHAPTER|CLAIM]")
@scales(None, "Judge your results at this scale; the one you ran most of by default.")
@click.option("--verdict", "verdicts", multiple=True, metavar="VERDICT", help="Only claims with this verdict; may be repeated.")
@click.option("--as", "form", type=click.Choice(["csv", "json"]), help="Write the ledger in this form.")
def claims(chapter, scale, verdicts, form) -> None:
    """Show how the book's claims fare.

    By the reference edition, and by what is stored at SCALE.  Without CHAPTER or VERDICT a line per chapter, with
    one of them a line per claim, and with the id of a CLAIM all that decides it.  Nothing is run.
    """
    from lib.cli import claims as command

    with plainly():
        command.show(chapter, scale, verdicts, form)


@main.command()
@scales("gpu", "Whose results.")
@click.argument("chapters", nargs=-1)
def hours(scale, chapters) -> None:
    """Estimate how long the results of a scale take on one large GPU, as a table in Markdown.  Nothing is trained.

    CHAPTERS are numbers, subjects or file names; all by default.
    """
    from lib.cli import hours as command
    from lib.cli.names import find_chapter

    with plainly():
        status = command.run(scale, tuple(find_chapter(name).subject for name in chapters))
    raise SystemExit(status)


@main.command()
def doctor() -> None:
    """Show what this machine has.

    Devices, tools, data sets, stored results, free disk.
    """
    from lib.cli.doctor import report

    report()


if __name__ == "__main__":
    main(prog_name="python -m lib")
