"""The checkout as a whole: sizes, paths, packages, the make targets."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: Imported name → package, where they differ.
PACKAGES = {
    "PIL": "pillow",
    "IPython": "ipython",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "torch_pruning": "torch-pruning",
    "triton": "torch",
}  # triton comes with torch, where it exists

PRIVATE_PATH = re.compile(r"(?<![\w.:/])(/home/|/root/|/Users/|/work/|/workspace/|/tmp/|/mnt/|/content/)\w|[A-Z]:\\\\?Users")


def files(*patterns):
    """Files that git keeps or would keep."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def names(requirements):
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


def test_environment_and_project_agree():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert f"python{PROJECT['requires-python']}" in conda
    extras = re.fullmatch(r"-e \.\[(.+)\]", pip[0])[1].split(",")
    makefile = (ROOT / "Makefile").read_text()
    assert ",".join(extras) == re.search(r"^EXTRAS\s*\?=\s*(\S+)", makefile, flags=re.MULTILINE)[1]
    assert set(extras) <= PROJECT["optional-dependencies"].keys()
    quarto = re.search(r'quarto-required: "(.+)"', (ROOT / "_quarto.yml").read_text())[1]
    assert f"quarto{quarto}" in conda


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


def test_what_is_imported_is_declared_and_what_is_declared_is_used():
    local = {"lib"} | {path.stem for path in (ROOT / "tests").rglob("*.py")}
    used = {module.partition(".")[0] for path in files("lib/*.py", "tests/*.py") for module in imported(path)}
    used = {PACKAGES.get(name, name) for name in used - local - sys.stdlib_module_names}
    base, extras = names(PROJECT["dependencies"]), PROJECT["optional-dependencies"]
    indirect = {
        "papermill",
        "ipykernel",
        "playwright",
        "axe-playwright-python",
        "ruff",
        "import-linter",
        "pyright",
        "pytest-cov",
    }  # started as programs, or imported if present
    assert used - base == names(extras["book"] + extras["test"]) - indirect
    assert base <= used


def test_each_dependency_is_pinned_with_its_hashes_and_from_no_address():
    """``make lock`` writes the file."""
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", lock.strip())
    unpinned = [entry for entry in entries if not re.match(r"[a-z0-9-]+==[\w.+]+( ; [^\n]+)? \\\n    --hash=sha256:[0-9a-f]{64}", entry)]
    assert not unpinned
    declared = PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), [])
    assert names(declared) <= {entry.partition("==")[0] for entry in entries}
    assert not re.search(r"://|index-url|find-links|file:|@", lock)


def test_each_dependency_has_a_lowest_version():
    """``make test-lowest`` tests them."""
    declared = PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), [])
    assert [requirement for requirement in declared if not re.match(r"[\w.-]+>=\d", requirement)] == []


def test_version_is_stated_once():
    from lib import __version__

    assert PROJECT["version"] == __version__


def test_no_large_files():
    large = {str(path.relative_to(ROOT)): path.stat().st_size for path in files() if path.stat().st_size > 1_000_000}
    assert large.keys() <= {"assets/plotly.min.js"}, large  # its own test says what it is


def test_notebooks_are_free_of_private_paths():
    notebooks = files("chapters/*.ipynb")
    assert notebooks
    for path in notebooks:
        for cell in json.loads(path.read_text())["cells"]:
            found = PRIVATE_PATH.search(json.dumps(cell, ensure_ascii=False))
            assert not found, f"{path.name}: {found}"


def test_stored_results_and_settings_are_free_of_private_paths():
    for path in files("data/*.json", "data/*.yml", "*.qmd", "*.yml", "*.toml", "*.md", "lib/*.py"):
        found = PRIVATE_PATH.search(path.read_text())
        assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_git_keeps_the_library_and_ignores_what_is_made():
    def ignored(name):
        return subprocess.run(["git", "check-ignore", "-q", "--no-index", name], cwd=ROOT).returncode == 0

    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert not any(map(ignored, ["lib/runs/store.py", "lib/data/images.py", "data/results/a/b.json", "data/models/a.safetensors"]))
    assert all(map(ignored, ["runs/results/a/b.json", "_build/x", "_book/x", ".venv/x", "data/cache/x", ".quarto/x"]))


def test_make_help_names_every_target():
    if not shutil.which("make"):
        pytest.skip("make was not found")
    shown = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1].split()
    assert [line.split()[0] for line in shown.splitlines()[:-1]] == targets


def test_every_checkout_has_the_same_line_ends():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = [".ci/run", "install.sh", "Makefile", "lib/runs/store.py", "data/claims.yml", "chapters/01-moe-routing.ipynb"]
    told = subprocess.run(
        ["git", "check-attr", "eol", "text", "--", *names, "data/models/digits-vgg-10x.packed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.count("eol: lf") >= len(names) and "digits-vgg-10x.packed: text: unset" in told
    assert not [path for path in files("*.py", "*.sh", "*.yml", "*.md", ".ci/*", "Makefile") if b"\r\n" in path.read_bytes()]


def test_workflows_run_what_is_here():
    """The gate is ``.ci/run``; every path and extra that a workflow names exists."""
    texts = [path.read_text() for path in files(".github/workflows/*.yml")]
    steps = [step for text in texts for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert ".ci/run" in commands and "quarto render" in commands
    for word in " ".join(commands).split():
        if word.startswith(("tests/", ".ci/")):
            assert (ROOT / word).exists(), word
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"].split()[0] for hook in hooks] == ["ruff", "ruff", "lint-imports", "python"]


def test_the_drawing_library_is_small_and_draws_what_the_book_draws():
    """plotly.js, the bundle of Cartesian traces, version and licence in its head."""
    text = (ROOT / "assets" / "plotly.min.js").read_text(encoding="utf-8")
    assert len(text) <= 1_510_000 and "MIT license" in text[:400] and re.search(r"plotly.js \(cartesian", text[:200])
    traces = {
        trace["type"]
        for path in files("chapters/*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", ())
        for trace in output.get("data", {}).get("application/vnd.plotly.v1+json", {}).get("data", ())
    }
    assert traces and all(f'name:"{trace}"' in text or f'moduleType:"trace",name:"{trace}"' in text for trace in traces), traces


def test_the_pages_fonts_are_here_with_their_licence():
    named = [
        f"assets/fonts/{name}"
        for name in re.findall(r'url\("([^"]+)"\)', (ROOT / "assets" / "fonts" / "fonts.css").read_text(encoding="utf-8"))
    ]
    assert sorted(named) == sorted(f"assets/fonts/{path.name}" for path in (ROOT / "assets" / "fonts").glob("*.woff2"))
    assert sum((ROOT / name).stat().st_size for name in named) < 400_000
    for name in named:
        assert (ROOT / name).read_bytes()[:4] == b"wOF2"
    licences = list((ROOT / "assets" / "fonts").glob("OFL-*.txt"))
    assert len(licences) == 3 and all("SIL Open Font License, Version 1.1" in path.read_text(encoding="utf-8") for path in licences)


def test_each_reference_closes_its_braces():
    """One brace too few, and no page renders with the citations that follow."""
    entries = re.split(r"\n(?=@)", (ROOT / "references.bib").read_text(encoding="utf-8").strip())
    unclosed = [entry.splitlines()[0] for entry in entries if entry.startswith("@") and entry.count("{") != entry.count("}")]
    assert len(entries) > 50 and not unclosed
    keys = [match[1] for entry in entries if (match := re.match(r"@\w+\{([^,]+),", entry))]
    assert len(set(keys)) == len(keys)
