"""What Hydra and OmegaConf have to say about a command line, in one line that says what to do."""

import difflib
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import yaml
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, ValidationError

from vae_runner.compat.hydra import local_variable
from vae_runner.errors import YAML_WORDS, UserError, did_you_mean, first_line

KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false", "String": "a word"}

CHDIR = "hydra.job.chdir: a run stays in the folder it is begun in, which its relative paths are for; leave it out"
OTHER_GROUPS = " What another group chooses is changed by '- override /GROUP: NAME', with the slash."


def quoted(text: str | Path) -> str:
    """Return a text, or a path, as the value of an override; refuse one in which Hydra would look something up."""
    if "${" in str(text):
        raise UserError(f"{text} has ${{ in it, which Hydra would look up: rename it")
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), str(text)) + "'"


def explain(error: Exception, for_a_sweep: str = "add -m") -> str:
    """Return Hydra's or OmegaConf's complaint about the overrides, with the closest real name.

    `for_a_sweep` is what to do about several values of a key.
    """
    cause = error.__cause__ or error
    text = str(error) or str(cause)
    first = text.splitlines()[0] if text else type(error).__name__
    if isinstance(error, yaml.YAMLError):
        return _explain_yaml(error)
    if isinstance(error, UnicodeDecodeError) and (file := local_variable(error, "full_path")):
        return f"{file} is no text in UTF-8: save it as such"
    if isinstance(error, MissingConfigException):
        return _missing(error, first)
    if composed := re.match(r"In '(.*)': \w+ raised while composing config:", first):
        return _explain_file(error, composed[1])
    if isinstance(error, OSError):
        problem = f"the run directory {error.filename} cannot be made ({error.strerror})"
        return f"{problem}: choose another with hydra.run.dir=DIR"
    if isinstance(error, OverrideParseException) or re.match(r"\w*Exception: ", first):
        override = getattr(error, "override", None) or first.partition(": ")[2]
        return (
            f"cannot read '{override}': write key=value; a value with brackets, commas or quotes, or in a list with "
            "other letters than a to z, needs quotes of its own: 'key=\"a value\"'"
        )
    if appended := re.match(r"Could not append to config. An item is already at '(.*)'", first):
        return f"+{appended[1]}=: there is such a key already; leave out the +"
    if first.startswith("Config group override must be a string"):
        return "a part is chosen by the name of a YAML file, like model=conv; no number is one"
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'", first):
        return f"{ambiguous[1]}: several values are a sweep: {for_a_sweep}"
    if isinstance(cause, OmegaConfBaseException):
        return _explain_omegaconf(cause)
    if twice := re.match(r"(?:In '(.+)': )?Multiple values for ([^\s.]+)\.", first):
        file = f"{_file(error, twice[1])}: " if twice[1] else "a defaults list "
        return f"{file}chooses {twice[2]}, which is chosen already.{OTHER_GROUPS}"
    if override := re.match(r"In '(.+/.+)': Could not override '(.*)'", first):
        return f"{_file(error, override[1])}: its defaults list overrides {override[2]}, which is not.{OTHER_GROUPS}"
    if isinstance(error, HydraException):
        return first
    if digits := re.match(r"Exceeds the limit \((\d+) digits\)", first):
        return f"a number in these overrides has more than {digits[1]} digits: give another"
    return f"these overrides make no configuration ({first}): see vae-run --help for how they are written"


def _explain_yaml(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        while_ = f" ({error.context})" if error.context else ""
        return f"{mark.name}, line {mark.line + 1}, is no YAML: {error.problem}{while_}"
    return f"a YAML file of the configuration cannot be read: {error}"


def _explain_file(error: Exception, config: str) -> str:
    """Return what is wrong in the YAML file `config`, a group and a name, of the user's own."""
    file, cause = _file(error, config), error.__context__
    if not isinstance(cause, OmegaConfBaseException):
        return f"{file}: {error}"
    group = config.partition("/")[0]
    if cause.full_key == group:  # there is no such key: what is in this group has no place of its own
        if not yaml.safe_load(file.read_text(encoding="utf-8")):
            return f"{file} is empty: write '# @package _global_' into it, and keys of the run below"
        return f"{file} needs the first line '# @package _global_': its keys are then the run's, and not '{group}'s"
    words = f". {YAML_WORDS}" if "of type 'bool'" in str(cause) else ""
    return f"{file}: {_explain_omegaconf(cause)}{words}"


def _file(error: Exception, config: str) -> Path:
    """Return the file that Hydra has read as `config`."""
    repository = local_variable(error, "repo")
    sources = repository.get_sources() if repository else ()
    folder = next((source.path for source in sources if source.is_config(config)), "")
    return Path(folder, f"{config}.yaml")


def explain_target(target: str, error: InstantiationException) -> str:
    """Return why Hydra does not get `target`: there is none of that name, or the module it is in fails; then where."""
    causes: list[BaseException] = [error]
    while cause := causes[-1].__cause__:
        causes.append(cause)
    problem, complaint = causes[-1], str(causes[-2] if len(causes) > 1 else error)
    if isinstance(problem, AttributeError) and "is an attribute of" in complaint:
        return f"cannot be found: {problem}"
    if isinstance(problem, ModuleNotFoundError) and f"{target}.".startswith(f"{problem.name}."):
        module, _, name = str(problem.name).rpartition(".")
        if module in sys.modules:
            return f"cannot be found: {module} has no '{name}'.{did_you_mean(name, dir(sys.modules[module]))}"
        return (
            f"cannot be found: there is no module '{problem.name}' on the Python path (PYTHONPATH=. adds this folder)"
        )
    if len(causes) < 2 or not isinstance(causes[-2], ImportError):
        return f"cannot be used: {problem}"
    complaint = str(problem.msg) if isinstance(problem, SyntaxError) else first_line(problem)
    return f"cannot be imported: {_place(problem)}: {type(problem).__name__}: {complaint}"


def _place(problem: BaseException) -> str:
    """Return the file and line of an error in a module: the last in code that is no library's."""
    if isinstance(problem, SyntaxError):
        return f"{problem.filename}, line {problem.lineno}"
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if not frame.filename.startswith("<")]
    libraries = sysconfig.get_path("stdlib"), "site-packages"
    own = [frame for frame in frames if not any(library in frame.filename for library in libraries)]
    frame = (own or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}"


def _explain_omegaconf(error: OmegaConfBaseException) -> str:
    first = str(error).splitlines()[0]
    where = error.full_key
    if where is None or isinstance(error, InterpolationResolutionError):
        return first
    if " not in '" in first or "is not in struct" in first:
        return _unknown_key(where, error.parent_node)
    if isinstance(error, ValidationError):
        if converted := re.match(r"Value '(.*)' of type '.*' could not be converted to (\w+)", first):
            return f"{where}={converted[1]}: must be {KINDS.get(converted[2], converted[2])}"
        if boolean := re.match(r"Value '(.*)' is not a valid bool", first):
            return f"{where}={boolean[1]}: must be true or false"
        if "is not a ListConfig" in first:
            return f"{where} must be a list: write {where}=[…], with a comma between two"
        if "is not Optional" in first:
            return f"{where}=null: must have a value"
        if subtree := re.search(r"is not a subclass of (\w+)\. value: (.*)", first):
            nodes = error.parent_node or {}
            named = (str(key) for key in nodes if getattr(OmegaConf.get_type(nodes, key), "__name__", "") == subtree[1])
            key = where or next(named, subtree[1])
            return f"{key}={subtree[2]}: must be keys with values, like {key}.KEY=VALUE"
    return f"{where}: {first}"


def _missing(error: MissingConfigException, first: str) -> str:
    named = re.match(r"In '((?!hydra/).+/.+)': Could not \w+ '(.+)/(.*?)'", first)
    if named is not None:
        config, group, name = named.groups()
        hint = did_you_mean(name, local_variable(error, "repo").get_group_options(group)) or OTHER_GROUPS
        return f"{_file(error, config)}: its defaults list names {group}/{name}, which there is not.{hint}"
    found = re.search(r"Could not find '((?:hydra/)?[^/]+)/(?:(.+)/)?(.*)'", first)
    if found is None:
        return first
    group, folder, name = found.groups()
    options = error.options or []
    if folder is not None:  # in its group, like reproduce/ in experiment
        name = f"{folder}/{name}"
        in_folder = local_variable(error, "repo").get_group_options(f"{group}/{folder}")
        options = [f"{folder}/{option}" for option in in_folder] or options
    return f"{group}={name}: there is no such {group}.{did_you_mean(name, options)} Choose from {', '.join(options)}."


def _unknown_key(wanted: str, parent: Container | None) -> str:
    """Return that there is no key `wanted`, and what was meant: a neighbour, or the same word elsewhere in the tree."""
    root = parent._get_root() if parent is not None else OmegaConf.create()
    assert isinstance(root, DictConfig)
    known = [path for path in _key_paths(root) if not path.startswith("hydra.") or wanted.startswith("hydra.")]
    where, _, last = wanted.rpartition(".")
    neighbours = {path.rpartition(".")[2]: path for path in known if path.rpartition(".")[0] == where}
    elsewhere = {path.rpartition(".")[2]: path for path in reversed(known)}
    close = difflib.get_close_matches(last, neighbours, n=1)
    far = [last] if last in elsewhere else difflib.get_close_matches(last, elsewhere, n=1)
    if close or far:
        hint = f" Did you mean '{neighbours[close[0]] if close else elsewhere[far[0]]}'?"
    else:
        hint = f" {where} has {', '.join(neighbours)}." if neighbours and where else ""
    if re.fullmatch(r"_\w+_?", wanted.partition(".")[0]):
        return f"there is no package '{wanted}': a YAML file's first line is '# @package _global_', or there is none"
    package = "hydra" if wanted.startswith("hydra.") else "job"
    return f"there is no key '{wanted}'.{hint} vae-run --cfg {package} lists all keys."


def _key_paths(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in map(str, node):
        yield f"{prefix}{name}"
        child = node._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from _key_paths(child, f"{prefix}{name}.")
