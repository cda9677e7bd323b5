"""`vae-run rerun=RUN`: the same configuration once more, in a new run directory."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from vae_runner.cli.resume import for_hydra, overrides_in, stored_run
from vae_runner.config.composition import COMMAND_KEYS, HydraJob
from vae_runner.errors import UserError
from vae_runner.storage.resume import MAY_CHANGE, configuration_again, may_change
from vae_runner.storage.run_info import CHOICES, GIVEN
from vae_runner.storage.stored_run import StoredRun


@dataclass(frozen=True)
class Rerun:
    """The run that a command repeats, and what it changes in its configuration."""

    run: StoredRun
    changes: Sequence[Override]  # of keys that Hydra, which composes another configuration, is not to be asked about

    def configuration(self, asked: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """Return the run's configuration, with what the command, for which `asked` was composed, changes in it."""
        return configuration_again(self.run, asked, overrides, self.changes)

    def job(self, job: HydraJob) -> HydraJob:
        """Return the job of repeating the run: the choices are those that it was made with, where none are given."""
        info = self.run.info
        chosen = {group: choice for group, choice in job.choices.items() if group in job.given}
        given = [*info.get(GIVEN, []), *job.given, *(change.key_or_group for change in self.changes)]
        return replace(
            job,
            choices=info.get(CHOICES, {}) | chosen,
            given=list(dict.fromkeys(given)),
            overrides=[*job.overrides, *(str(change.input_line) for change in self.changes)],
            repeated=self.run.path,
        )


def taken_out(arguments: Sequence[str]) -> tuple[list[str], Rerun | None]:
    """Return the command line that Hydra is given, and what `rerun=RUN` in it asks for, or None.

    Raises:
        UserError: RUN is no run directory, or something does not go with it.
    """
    given = [argument for argument in arguments if argument.startswith("rerun=")]
    if not given:
        return list(arguments), None
    run = stored_run(
        given[-1], arguments, "repeats one run; to repeat a sweep, give its command another sweep.dir",
        "rerun= repeats one of the runs in it",
    )  # fmt: skip
    others: list[str] = [argument for argument in arguments if argument not in given]
    changes = []
    for override in overrides_in(others):
        name, line = override.key_or_group, str(override.input_line)
        if name == "resume":
            raise UserError(f"{line}: rerun= begins a new run, and resume= continues one: leave one of them out")
        if may_change(name) or name.partition(".")[0] in (*COMMAND_KEYS, "hydra"):
            continue
        if override.is_sweep_override():
            raise UserError(f"{line}: several values are a sweep, and rerun= repeats one run: give one value")
        if re.match(r"[+~]", line):
            raise UserError(
                f"{line}: rerun= takes other values of keys that the run has, KEY=VALUE, and other "
                f"{', '.join(MAY_CHANGE)}"
            )
        changes.append(override)
        others.remove(line)
    return for_hydra(others), Rerun(run, changes)
