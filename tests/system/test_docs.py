"""README.md and docs/: size, links, commands, flags, tables and messages are checked, and their Python is executed."""

import ast
import importlib.util
import pathlib
import re
import shlex

from launch import settings, train_flags

import pytest
from absl import flags

import choices
import evaluate
import export
import plot
import report
import status
from environments import mirror
from helpers.extending import write_modules
from storage import grids, layout

ROOT = pathlib.Path(__file__).parents[2]
NAMES = "README.md CONTRIBUTING.md agents/README.md slurm/README.md results/README.md benchmarks/README.md".split()
PAGES = [*(ROOT / name for name in NAMES), *sorted(ROOT.glob("docs/*.md"))]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
# Commands of these pages train SlimeVolley, whose package says what its observations are.
NEED_SLIMEVOLLEY = [ROOT / "agents/README.md", ROOT / "results/README.md"]
SCRIPTS = "train evaluate plot report export status doctor".split()
FOLDERS = "agents analysis benchmarks docs environments films paper presets results slurm storage tests".split()
SBATCH = "account cpus-per-task gres mem partition time".split()  # its options that the pages name


# Parts of a page


def read_blocks(page):
    """Return [(language, text), ...] of the fenced blocks of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S)


def read_prose(page):
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def read_spans(page):
    """Return the inline code of a page, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", read_prose(page))]


def read_section(page, heading):
    """Return the text below a heading, down to the next heading of its rank or above."""
    rank = len(heading.partition(" ")[0])
    return re.split(rf"^#{{1,{rank}}} ", page.read_text().partition(f"\n{heading}\n")[2], maxsplit=1, flags=re.M)[0]


def read_rows(text):
    """Return the rows of the tables in a text, as lists of cells, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [i for i, row in enumerate(rows) if set("".join(row)) <= set("-:")]
    return [row for i, row in enumerate(rows) if i not in rules and i + 1 not in rules]


def list_names(text):
    """Return the inline code in the first column of the tables in a text."""
    return [name for first, *_ in read_rows(text) for name in re.findall(r"`([^`]+)`", first)]


def find_anchors(page):
    """Return the anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", read_prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Size and links


def test_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120 and len(text.encode()) <= 8192


@EACH_PAGE
def test_every_link_leads_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^()\s]+)\)", read_prose(page)):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if re.match(r"[a-z]+:", target):
            continue
        if not file.exists() or anchor and anchor not in find_anchors(file):
            broken.append(target)
    assert broken == []


def test_both_lists_of_pages_are_whole():
    names = {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"}
    assert names == set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs/README.md").read_text()))
    assert names == set(re.findall(r"\]\(docs/(\w+\.md)\)", (ROOT / "README.md").read_text()))


@EACH_PAGE
def test_every_file_that_it_names_exists(page):
    paths = [span for span in read_spans(page)
             if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*|\w+\.(?:py|flags)|requirements[\w-]*\.txt", span)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


# Commands


def split_commands(text):
    """Return the commands of lines of a shell, as lists of words; lines of other programs than ours are left out."""
    programs = rf"(?:\.venv/bin/)?python3? |make |sbatch |slurm/\w+\.sh |(?:{'|'.join(SCRIPTS)})\.py [-rs]"
    ours = re.compile(rf"(?:\w+=\S+ )*(?:time )?(?:{programs})")
    lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.replace("\\\n", " ").splitlines())
    parts = (part for line in lines for part in re.split(r"\s*(?:&&|\||;)\s*", line))
    return [shlex.split(part) for part in parts if ours.match(part)]


def find_commands(page):
    """Return every command in the blocks and the inline code of a page, as lists of words."""
    blocks = (text for language, text in read_blocks(page) if language != "python")
    return [command for text in (*blocks, *read_spans(page)) for command in split_commands(text)]


def check_command(words):
    """Parse a command as its program does.

    Raises:
        AssertionError, ValueError, OSError, flags.Error: the program would refuse it.
    """
    while re.match(r"\w+=|time$", words[0]):
        words = words[1:]
    if re.fullmatch(r"(\.venv/bin/)?python3?", words[0]):
        words = words[1:]
        if words[0] == "-m":
            return check_module(*words[1:])
        assert words[0].removesuffix(".py") in SCRIPTS, f"{words[0]} is no script"
    program, *arguments = words
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert arguments and set(arguments) <= set(targets), f"make has the targets {targets}"
    elif program == "sbatch":
        script = next(word for word in arguments if not word.startswith("--"))
        options, given = arguments[:arguments.index(script)], arguments[arguments.index(script) + 1:]
        assert (ROOT / script).exists() and all(option[2:].partition("=")[0] in SBATCH for option in options)
        check_script("train.py", ["--env=Frostbite", "--maxsteps=10000000", *given])
    elif program.startswith("slurm/"):
        grid, *jobs = arguments
        assert (ROOT / program).exists() and grids.read_grid(grid)
        assert not jobs or jobs[0] == "-j" and jobs[1].isdigit() and len(jobs) == 2
    else:
        check_script(program, arguments)


def check_script(program, arguments):
    if "--help" in arguments:
        return
    if program == "train.py":
        settings.configure(arguments)
    elif program == "evaluate.py":
        values = evaluate.define_flags()
        rest = values([program, *arguments])[1:]
        assert len(rest) <= (not values.run_dir)  # a run, or the second of --compare RUN_A RUN_B
        evaluate.check_flags(values)
    elif program == "plot.py":
        plot.define_flags()([program, *arguments])
    elif program == "report.py":
        report.define_flags()([program, *arguments])
    elif program == "export.py":
        values = export.define_flags()
        assert len(values([program, *arguments])) <= 2 and values.out
    elif program == "status.py":
        paths = status.define_flags()([program, *arguments])[1:]
        assert all(grids.read_grid(path) for path in paths if path.endswith(".csv"))
    else:
        assert program == "doctor.py" and not arguments


def check_module(name, *arguments):
    assert importlib.util.find_spec(name), f"there is no module {name}"
    if name.startswith("benchmarks."):
        given = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        known = find_benchmark_flags(ROOT / (name.replace(".", "/") + ".py"))
        assert given <= known, f"{name} has the flags {known}"


def find_benchmark_flags(path):
    return set(re.findall(r'add_argument\("(--\w+)"', path.read_text()))


@pytest.fixture
def at_root(monkeypatch, tmp_path):
    """Work in the repository, beside the modules that docs/extending.md has a user write; windows are not opened."""
    write_modules(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(mirror, "prepare_sdl", lambda render_mode: None)


@pytest.mark.parametrize("page", [
    pytest.param(page, marks=pytest.mark.slimevolley if page in NEED_SLIMEVOLLEY else ())
    for page in PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one_that_its_program_takes(page, at_root):
    for command in find_commands(page):
        try:
            check_command(command)
        except (AssertionError, ValueError, OSError, flags.Error) as error:
            pytest.fail(f"{shlex.join(command)}: {error}")


@pytest.mark.parametrize("command", [
    "python train.py --flickr=0.5", "python train.py --network=DRQM", "python train.py --flagfile=presets/no.flags",
    "python train.py --env=Frostbit", "python train.py Pong", "python trane.py",
    "KERAS_BACKEND=jax python train.py --units=some", "python evaluate.py --videos=film.mp4",
    "python evaluate.py --video=film.avi", "python evaluate.py --saliency", "evaluate.py --checkpoint=first",
    "python evaluate.py --observation_probabilities=2", "python evaluate.py runs/a runs/b",
    "python plot.py --table=none", "python report.py runs/* --output=a.html", "python status.py slurm/grids/no.csv",
    "python doctor.py --all", "make dinner", "sbatch slurm/drqn.sh --bufflen=many", "sbatch --tim=3 slurm/drqn.sh",
    "sbatch slurm/no.sh", "slurm/grid.sh slurm/grids/no.csv", "slurm/grid.sh slurm/grids/paper.csv -k 3",
    "python -m benchmarks.no", "python -m benchmarks.kills --kill=3"])
def test_a_command_that_rots_is_found(command, at_root):
    (words,) = split_commands(f"{command}    # with a comment")
    with pytest.raises((AssertionError, ValueError, OSError, flags.Error)):
        check_command(words)


def test_commands_are_found_wherever_they_stand(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("`make run` with `make`, and `time\npython train.py --env=Pong`\n"
                    "```\ncd drqn && make test  # tests\nls\n```\n```python\nmake = 1\n```\n")
    assert find_commands(page) == [["make", "test"], ["make", "run"], ["time", "python", "train.py", "--env=Pong"]]
    assert {"run", "test"} <= {words[1] for words in find_commands(ROOT / "README.md") if words[0] == "make"}
    assert sum(len(find_commands(page)) for page in PAGES) > 80


@EACH_PAGE
def test_every_flag_that_stands_alone_exists(page, at_root):
    parsers = [script.define_flags() for script in (train_flags, evaluate, plot, report, export, status)]
    known = {name for values in parsers for name in values} | set(SBATCH) | {"help", "flagfile"}
    known |= {flag[2:] for path in ROOT.glob("benchmarks/*.py") for flag in find_benchmark_flags(path)}
    spans = [span for span in read_spans(page) if re.match(r"--\w", span)]
    assert [span for span in spans if re.match(r"--([\w-]+)", span)[1] not in known] == []
    of_train = train_flags.define_flags()
    for span in spans:
        words = span.split()
        names = [re.match(r"--(\w+)=(?!\.\.\.)\S", word) for word in words]
        if all(name and name[1] in of_train for name in names):
            settings.configure(words)  # A value that it does not take is refused in a sentence.


# Tables


FLAGS, PAPER = ROOT / "docs/flags.md", ROOT / "docs/paper.md"


@pytest.mark.parametrize("group, heading", [
    ("run", "## The run"), ("environment", "## The environment"), ("learning", "## Learning"),
    ("exploration", "## Exploration"), ("evaluation", "## Evaluation during training")])
def test_each_group_of_flags_has_its_table_of_defaults(group, heading):
    defined = {f"`--{flag.name}`": flag.default for flag in train_flags.define_flags().flags_by_module_dict()[group]}
    documented = {flag: default for flag, default, _ in read_rows(read_section(FLAGS, heading))}
    assert list(documented) == list(defined)
    for flag, default in defined.items():
        text = documented[flag].replace(",", "")
        if isinstance(default, bool):
            assert text == ("on" if default else "off"), flag
        elif default is not None:
            assert (float(text) if isinstance(default, int | float) else text) == default, flag


def test_the_defaults_of_vectors_are_those_of_the_code():
    for column, table in enumerate(choices.VECTORS.values(), 1):
        rows = [(row[0].strip("`-"), row[column].strip("`")) for row in read_rows(read_section(FLAGS, "## Vectors"))]
        documented = {name: text for name, text in rows if text}
        assert documented == {name: value if isinstance(value, str) else f"{value:,}" for name, value in table.items()}


def test_networks_and_optimizers_are_those_of_the_code():
    rows = read_rows(read_section(FLAGS, "## Networks"))
    assert {name.strip("`"): (int(history), int(unroll)) for name, _, _, history, unroll in rows} == {
        name: (network.history, network.unroll) for name, network in choices.NETWORKS.items()}
    assert {name.strip("`"): float(rate) for name, rate, _ in read_rows(read_section(FLAGS, "## Optimizers"))} == {
        name: options["learning_rate"] for name, (_, options) in choices.OPTIMIZERS.items()}
    assert list_names(read_section(FLAGS, "## Losses")) == list(choices.LOSSES)


@pytest.mark.slimevolley
def test_every_environment_of_the_suite_can_be_chosen():
    ids = list_names(read_section(FLAGS, "## Environments"))
    assert len(ids) == 11 and [settings.configure([f"--env={name}"])["settings"]["env"] for name in ids] == ids


def test_every_preset_and_every_grid_is_in_a_table():
    presets = list_names(read_section(PAPER, "## Presets"))
    assert sorted(presets) == sorted(f"presets/{path.name}" for path in ROOT.glob("presets/*.flags"))
    rows = list_names(read_section(ROOT / "slurm/README.md", "## A grid of runs"))
    assert sorted(rows) == sorted(f"slurm/grids/{path.name}" for path in ROOT.glob("slurm/grids/*.csv"))


def test_the_table_of_files_is_that_of_a_run(run_evaluate):
    run_evaluate("--run_dir=runs/cartpole")
    run_evaluate("--run_dir=runs/cartpole", "--episodes=2", "--observation_probabilities=1")
    run = pathlib.Path("runs/cartpole")
    files = [str(path.relative_to(run)) for path in run.glob("**/*") if path.is_file()]
    directory = read_section(ROOT / "docs/runs.md", "## The directory").partition("The columns:")[0]
    pattern_of = lambda name: re.compile(re.sub(r"\\\*$|<\w+>|\d{6}|(?<=/)$", ".+", re.escape(name)))
    patterns = {name: pattern_of(name) for name in list_names(directory)}
    assert [file for file in files if not any(pattern.fullmatch(file) for pattern in patterns.values())] == []
    unmatched = {name for name, pattern in patterns.items() if not any(map(pattern.fullmatch, files))}
    assert unmatched == {"torso.weights.h5", "torso.json"}  # of --features


def test_the_table_of_columns_is_that_of_the_code():
    columns = read_section(ROOT / "docs/runs.md", "## The directory").partition("The columns:")[2]
    assert {file.strip("`"): re.findall(r"`(\w+)`", names) for file, names in read_rows(columns)} == {
        f"{name}.csv": names for name, names in layout.COLUMNS.items()}


# Messages


def find_sentences():
    """Return the texts in the code, with `...` for what is filled in."""
    rooms = ".", "analysis", "environments", "films", "launch", "storage"
    trees = [ast.parse(path.read_text()) for room in rooms for path in ROOT.glob(f"{room}/*.py")]
    sentences = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.JoinedStr):
            sentences.add("".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            sentences.add(node.value)
    return sentences


def test_every_message_of_the_troubleshooting_is_one_of_the_code():
    messages = list_names((ROOT / "docs/troubleshooting.md").read_text())
    sentences = find_sentences()
    assert len(messages) > 20
    assert [message for message in messages if not any(message in sentence for sentence in sentences)] == []
